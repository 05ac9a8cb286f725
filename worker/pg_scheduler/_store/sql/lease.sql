-- name: suspect_workers
-- Workers whose heartbeat has no backend any more: at most $2 seconds are left to them to come back. Nothing is written when
-- nobody is missing. A start that reads NULL belongs to another role: alive. Fenced by the backend that was missed: a beat over
-- a new connection may have been committed after this statement's look at the backends. Not across a restart of the server
-- ($3), when every backend is new.
WITH missing AS MATERIALIZED (
    SELECT w.id, w.lease_until, w.backend_pid, w.backend_started_at FROM scheduler_workers w
    WHERE w.id <> $1 AND w.state = 'alive' AND w.backend_watched AND w.lease_until > scheduler_now()
      AND pg_postmaster_start_time() = $3::timestamptz
      AND NOT EXISTS (SELECT 1 FROM pg_stat_get_activity(w.backend_pid) a
                      WHERE a.backend_start IS NULL OR a.backend_start = w.backend_started_at)),
late AS MATERIALIZED (
    SELECT w.id FROM scheduler_workers w JOIN missing m ON w.id = m.id
    WHERE w.backend_pid = m.backend_pid AND w.backend_started_at = m.backend_started_at
      AND w.lease_until > scheduler_now() + make_interval(secs => $2)
    FOR UPDATE OF w SKIP LOCKED),
cut AS (
    UPDATE scheduler_workers w SET lease_until = scheduler_now() + make_interval(secs => $2)
    FROM late WHERE w.id = late.id
    RETURNING w.id)
SELECT m.id, EXISTS (SELECT 1 FROM cut WHERE cut.id = m.id) AS is_new,
       least(extract(epoch FROM m.lease_until - scheduler_now())::float8, $2::float8) AS seconds_left
FROM missing m;

-- name: bury_predecessors
-- Earlier processes of this pod: without a backend they will not come back, since the pod runs us now.
UPDATE scheduler_workers w SET state = 'dead', lease_until = scheduler_now()
WHERE w.id IN (
    SELECT p.id FROM scheduler_workers p
    WHERE p.pod_uid = $1 AND p.tenant = $2 AND p.state = 'alive' AND p.backend_watched
      AND NOT EXISTS (SELECT 1 FROM pg_stat_get_activity(p.backend_pid) a
                      WHERE a.backend_start IS NULL OR a.backend_start = p.backend_started_at)
    FOR UPDATE SKIP LOCKED)
RETURNING w.id;
