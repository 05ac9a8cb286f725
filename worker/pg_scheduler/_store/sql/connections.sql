-- name: keep_alive
-- So that the server notices a dead node within 25 s. Not through a pooler, whose sessions are not ours: there the process
-- that answers is another than the one that the connection was told of ($1). A Unix socket takes the settings and ignores
-- them.
SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false)
WHERE pg_backend_pid() = $1;

-- name: plan_once
-- The few statements of a kept connection have one plan for all values: planned anew each time, look_ahead costs 0.65 ms of
-- the server's CPU instead of 0.1. Without scans, since the plan may be made while the table is empty, and kept until it is
-- analyzed: that of claim_jobs would scan the jobs for so long, the drain three times slower. Where a small table has no
-- index, a forbidden scan is planned all the same, at a cost that would have it compiled before PostgreSQL 18: hence jit.
-- Not through a pooler, as keep_alive.
SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false),
       set_config('jit', 'off', false)
WHERE pg_backend_pid() = $1;

-- name: commit_in_haste
-- A test's worker commits at each instant of its time, and the disk would be most of what that takes. What it loses with a
-- server that crashes is a test. Not through a pooler, as keep_alive.
SELECT set_config('synchronous_commit', 'off', false) WHERE pg_backend_pid() = $1;

-- name: notify
-- The self-test of LISTEN: does what one connection sends arrive at the other?
SELECT pg_notify($1, '');
