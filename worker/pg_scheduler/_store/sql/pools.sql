-- name: claim_limited_jobs
-- As claim_jobs, for jobs of limited queues; the function is in migration 0030 and says how. $6 claims what claim_poison_job
-- would, of these jobs. Columns in the order of ClaimedJob's fields.
SELECT j.id, j.job_id, j.token, j.worker_id, j.task, j.task_data::text, j.queue, j.priority,
       greatest(j.execution_time, timestamptz '0001-01-02 00:00+00'), j.attempt, j.retry_count, j.max_retries,
       CASE WHEN j.tick_at BETWEEN '0001-01-02' AND '9999-01-01' THEN j.tick_at END, j.previous_tick_at, j.concurrency_key,
       j.timeout_seconds,
       j.retry_policy::text, j.on_interrupt, j.keep_result, j.flush_now
FROM scheduler_claim_limited($1, $2, $3::text[], $4::text[], $5, $6) j;

-- name: upsert_pool
-- No row comes back where the name belongs to another cluster, or to a newer generation of the same object.
INSERT INTO scheduler_pool_settings AS p (tenant, name, source_cluster, source_uid, source_generation, made_at, allowed_tasks)
VALUES ($1, $2, $3, $4, $5, $6, $7::text[])
ON CONFLICT (tenant, name) DO UPDATE SET source_uid = excluded.source_uid, source_generation = excluded.source_generation,
    made_at = excluded.made_at, allowed_tasks = excluded.allowed_tasks
WHERE p.source_cluster = excluded.source_cluster
  AND (p.source_uid <> excluded.source_uid OR p.source_generation <= excluded.source_generation)
RETURNING p.name;

-- name: set_queue_settings
-- Queues that an older pool has set stay its own. Sorted, so that two pools never wait for each other in a circle.
INSERT INTO scheduler_queue_settings AS s (tenant, queue, pool, weight, concurrency, rate_limit, rate_seconds, paused)
SELECT $1, u.queue, $2, u.weight, u.concurrency, u.rate_limit, u.rate_seconds, u.paused
FROM unnest($3::text[], $4::int[], $5::int[], $6::int[], $7::int[], $8::bool[])
     u(queue, weight, concurrency, rate_limit, rate_seconds, paused)
ORDER BY u.queue
ON CONFLICT (tenant, queue) DO UPDATE SET pool = excluded.pool, weight = excluded.weight, concurrency = excluded.concurrency,
    rate_limit = excluded.rate_limit, rate_seconds = excluded.rate_seconds, paused = excluded.paused
WHERE s.pool = excluded.pool OR EXISTS (
    SELECT FROM scheduler_pool_settings mine JOIN scheduler_pool_settings theirs ON theirs.tenant = mine.tenant AND theirs.name = s.pool
    WHERE mine.tenant = s.tenant AND mine.name = excluded.pool
      AND (mine.made_at, mine.source_uid) < (theirs.made_at, theirs.source_uid));

-- name: drop_queue_settings
-- What a pool no longer says.
DELETE FROM scheduler_queue_settings WHERE tenant = $1 AND pool = $2 AND queue <> ALL($3::text[]);

-- name: pool_settings
-- A pool's row, if it is that of this object.
SELECT allowed_tasks FROM scheduler_pool_settings WHERE tenant = $1 AND name = $2 AND source_cluster = $3 AND source_uid = $4;

-- name: pool_queues
-- What stands for the queues of a pool and for others that it wants ($3), and whether it is this pool, or a younger one, that
-- has set it; $4 and $5 are its age and its uid.
SELECT s.queue, s.pool, s.weight, s.concurrency, s.rate_limit, s.rate_seconds, s.paused,
       s.pool <> $2 AND (p.made_at, p.source_uid) < ($4::timestamptz, $5::text) AS is_an_older_ones
FROM scheduler_queue_settings s JOIN scheduler_pool_settings p ON p.tenant = s.tenant AND p.name = s.pool
WHERE s.tenant = $1 AND (s.pool = $2 OR s.queue = ANY($3::text[]))
ORDER BY s.queue;

-- name: delete_pool
-- With its queues' settings, and with what is known of its workers; workers look at what holds now. Without a uid ($4)
-- whatever object of this name.
WITH gone AS (
    DELETE FROM scheduler_pool_settings
    WHERE tenant = $1 AND name = $2 AND source_cluster = $3 AND source_uid = coalesce($4, source_uid)
    RETURNING tenant, name),
forgotten AS (
    DELETE FROM scheduler_pools p USING gone g WHERE p.tenant = g.tenant AND p.name = g.name)
SELECT name, pg_notify('scheduler_overdue', '') IS NULL, pg_notify('scheduler_wakeup', '') IS NULL FROM gone;
