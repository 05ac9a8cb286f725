-- name: insert_job
-- Nothing comes back where the id is taken. Wakes idle workers only for what is due before their next poll ($23 seconds).
WITH made AS (
    INSERT INTO scheduled_jobs (job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries,
                                misfire_grace_time, concurrency_key, timeout_seconds, retry_policy, on_interrupt,
                                max_interruptions, expires_at, keep_result, flush_now, tags, metadata,
                                on_full, concurrency_limit)
    VALUES ($1, $2, $3, $4, $5, $6::text::json, $7, $8, $9, $10, $11, $12, $13::text::json, $14, $15, $16, $17, $18,
            $19::text::json, $20::text::json, $21, $22)
    ON CONFLICT (job_id) DO NOTHING
    RETURNING execution_time <= scheduler_now() + make_interval(secs => $23) AS soon
)
SELECT soon, CASE WHEN soon THEN pg_notify('scheduler_wakeup', '') IS NULL END,
       CASE WHEN $22 IS NOT NULL THEN scheduler_set_limits(ARRAY[$2], ARRAY[$11], ARRAY[$22]) IS NULL END
FROM made;

-- name: replace_job
-- A running attempt is fenced off by a new token and told to stop; the row is claimed again when its worker says it has.
WITH made AS (
    INSERT INTO scheduled_jobs AS j (job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries,
                                     misfire_grace_time, concurrency_key, timeout_seconds, retry_policy, on_interrupt,
                                     max_interruptions, expires_at, keep_result, flush_now, tags, metadata,
                                     on_full, concurrency_limit)
    VALUES ($1, $2, $3, $4, $5, $6::text::json, $7, $8, $9, $10, $11, $12, $13::text::json, $14, $15, $16, $17, $18,
            $19::text::json, $20::text::json, $21, $22)
    ON CONFLICT (job_id) DO UPDATE SET
        tenant = excluded.tenant, queue = excluded.queue, task = excluded.task, job_name = excluded.job_name,
        task_data = excluded.task_data, execution_time = excluded.execution_time, priority = excluded.priority,
        max_retries = excluded.max_retries, misfire_grace_time = excluded.misfire_grace_time,
        concurrency_key = excluded.concurrency_key, timeout_seconds = excluded.timeout_seconds,
        retry_policy = excluded.retry_policy, on_interrupt = excluded.on_interrupt,
        max_interruptions = excluded.max_interruptions, expires_at = excluded.expires_at,
        keep_result = excluded.keep_result, flush_now = excluded.flush_now, tags = excluded.tags,
        metadata = excluded.metadata, on_full = excluded.on_full, concurrency_limit = excluded.concurrency_limit,
        suspended = false, status = 'pending', token = nextval('scheduler_token'),
        stopping_worker = CASE WHEN j.status = 'running' THEN j.worker_id ELSE j.stopping_worker END,
        stop_asked_at = CASE WHEN j.status = 'running' THEN scheduler_now() ELSE j.stop_asked_at END,
        attempt = 0, retry_count = 0, interruptions = 0, started_at = NULL, finished_at = NULL, error_message = NULL
    WHERE j.source_uid IS NULL
    RETURNING execution_time <= scheduler_now() + make_interval(secs => $23) AS soon
)
SELECT soon, CASE WHEN soon THEN pg_notify('scheduler_wakeup', '') IS NULL END,
       CASE WHEN $22 IS NOT NULL THEN scheduler_set_limits(ARRAY[$2], ARRAY[$11], ARRAY[$22]) IS NULL END
FROM made;

-- name: job_status
-- What stands under a taken id, for the caller's message.
SELECT status, source_kind, source_name FROM scheduled_jobs WHERE job_id = $1;

-- name: cancel_job
-- One winner: the row is pending, waiting or running at the moment of the lock. A running one is told to stop.
UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now(),
       stopping_worker = CASE WHEN status = 'running' THEN worker_id ELSE stopping_worker END,
       stop_asked_at = CASE WHEN status = 'running' THEN scheduler_now() ELSE stop_asked_at END
WHERE job_id = $1 AND status IN ('pending', 'waiting', 'running')
RETURNING job_id;

-- name: run_job_again
-- An ended job that did not complete, due now, as if it were new. Not while its old coroutine may still run.
WITH again AS (
    UPDATE scheduled_jobs SET status = 'pending', finished_at = NULL, started_at = NULL, error_message = NULL,
           execution_time = scheduler_now(), attempt = 0, retry_count = 0, interruptions = 0
    WHERE job_id = $1 AND status IN ('failed', 'cancelled', 'expired') AND source_uid IS NULL
    RETURNING job_id)
SELECT job_id, pg_notify('scheduler_wakeup', '') IS NULL FROM again;

-- name: next_due
-- Seconds until the first job that this worker could claim, without and with a concurrency key; two index probes for each
-- queue and priority.
SELECT extract(epoch FROM min(d.execution_time) FILTER (WHERE NOT d.keyed) - scheduler_now())::float8 AS unkeyed,
       extract(epoch FROM min(d.execution_time) FILTER (WHERE d.keyed) - scheduler_now())::float8 AS keyed
FROM unnest($2::text[]) q(queue) CROSS JOIN unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
    (SELECT j.execution_time, false AS keyed FROM scheduled_jobs j
     WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NULL AND j.stopping_worker IS NULL
       AND j.tenant = $1 AND j.queue = q.queue AND j.priority = p.priority AND j.task = ANY($3::text[])
     ORDER BY j.execution_time, j.id LIMIT 1)
    UNION ALL
    (SELECT j.execution_time, true AS keyed FROM scheduled_jobs j
     WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NOT NULL AND j.stopping_worker IS NULL
       AND j.tenant = $1 AND j.queue = q.queue AND j.priority = p.priority AND j.task = ANY($3::text[])
     ORDER BY j.execution_time, j.id LIMIT 1)) d;

-- name: claim_jobs
-- In the order of ClaimedJob's fields. Only for a worker that lives and does not drain, never more than asked for. One arm a priority, or a claim walks every
-- future job before PostgreSQL 18; = ANY(ARRAY(SELECT …)), or the last join becomes a scan of the table.
WITH me AS MATERIALIZED (
    SELECT id FROM scheduler_workers
    WHERE id = $1 AND state = 'alive' AND lease_until > scheduler_now()
      AND (drain_until IS NULL OR drain_until < scheduler_now())
    FOR SHARE),
due AS MATERIALIZED (
    SELECT d.id FROM unnest($3::text[], $5::int[]) q(queue, n) CROSS JOIN LATERAL (
        SELECT e.id FROM unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
            SELECT j.id FROM scheduled_jobs j
            WHERE EXISTS (SELECT 1 FROM me) AND j.status = 'pending' AND NOT j.suspended
              AND j.concurrency_key IS NULL AND j.stopping_worker IS NULL
              AND j.tenant = $2 AND j.queue = q.queue AND j.priority = p.priority AND j.task = ANY($4::text[])
              AND j.execution_time <= scheduler_now()
            ORDER BY j.execution_time, j.id LIMIT q.n FOR UPDATE SKIP LOCKED) e
        LIMIT q.n) d
    LIMIT $6)
UPDATE scheduled_jobs j
SET status = 'running', worker_id = $1, attempt = attempt + 1, token = nextval('scheduler_token'),
    started_at = scheduler_now()
WHERE j.id = ANY(ARRAY(SELECT id FROM due))
RETURNING j.id, j.job_id, j.token, j.worker_id, j.task, j.task_data::text, j.queue, j.priority,
          j.execution_time, j.attempt, j.retry_count, j.max_retries, j.tick_at, j.concurrency_key, j.timeout_seconds,
          j.retry_policy::text, j.on_interrupt, j.keep_result, j.flush_now;

-- name: complete_jobs
-- No join: tokens are unique, so two ANYs are exact, and the plan stays an index scan when it turns generic.
UPDATE scheduled_jobs SET status = 'completed', finished_at = scheduler_now(), error_message = NULL
WHERE id = ANY($1::bigint[]) AND token = ANY($2::bigint[]) AND worker_id = $3 AND status = 'running'
RETURNING token;

-- name: fail_job
-- The end of a job whose limits are used up, with the record of its last attempt.
WITH ended AS (
    UPDATE scheduled_jobs SET status = 'failed', finished_at = scheduler_now(), error_message = $5
    WHERE id = $1 AND token = $2 AND worker_id = $3 AND status = 'running'
    RETURNING job_id, token, attempt, worker_id, started_at)
INSERT INTO scheduler_attempts (job_id, token, attempt, worker_id, started_at, error_type, message, traceback)
SELECT job_id, token, attempt, worker_id, started_at, $4, $5, $6 FROM ended
RETURNING token;

-- name: retry_job
-- Back to the queue after $7 seconds, with the record of the attempt that failed.
WITH ended AS (
    UPDATE scheduled_jobs SET status = 'pending', retry_count = retry_count + 1, error_message = $5,
           execution_time = scheduler_now() + make_interval(secs => $7)
    WHERE id = $1 AND token = $2 AND worker_id = $3 AND status = 'running'
    RETURNING job_id, token, attempt, worker_id, started_at)
INSERT INTO scheduler_attempts (job_id, token, attempt, worker_id, started_at, error_type, message, traceback)
SELECT job_id, token, attempt, worker_id, started_at, $4, $5, $6 FROM ended
RETURNING token;

-- name: release_jobs
-- Handed back unfinished by a worker that shuts down: the attempt is not charged, and nothing waits for its lease.
WITH back AS (
    UPDATE scheduled_jobs SET status = 'pending', attempt = attempt - 1, worker_id = NULL, started_at = NULL
    WHERE id = ANY($1::bigint[]) AND token = ANY($2::bigint[]) AND worker_id = $3 AND status = 'running'
    RETURNING token)
SELECT token, pg_notify('scheduler_wakeup', '') IS NULL FROM back;

-- name: report_stopped
-- The coroutine of a cancelled or replaced job has ended: the row may be claimed again.
UPDATE scheduled_jobs SET stopping_worker = NULL WHERE id = $1 AND stopping_worker = $2
RETURNING CASE WHEN status = 'pending' THEN pg_notify('scheduler_wakeup', '') IS NULL END;

-- name: requeue_orphans
-- Running jobs of buried workers: a late one that no sweep has marked dead may still renew its lease. The anti-join counts
-- a missing worker row as dead too. Fenced by the token seen in the snapshot: the recheck after a row lock does not look
-- again at the anti-join, and would take a job that a living worker has claimed meanwhile. The limit is a literal, since a
-- generic plan for an unknown one scans the table (seen on 15 and 18).
WITH orphan AS MATERIALIZED (
    SELECT j.id, j.token FROM scheduled_jobs j
    WHERE j.status = 'running' AND NOT EXISTS (
        SELECT 1 FROM scheduler_workers w WHERE w.id = j.worker_id AND w.state <> 'dead')
    LIMIT 500),
mine AS MATERIALIZED (
    SELECT j.id FROM scheduled_jobs j JOIN orphan o ON j.id = o.id AND j.token = o.token
    WHERE j.status = 'running' FOR UPDATE OF j SKIP LOCKED)
UPDATE scheduled_jobs j
SET interruptions = interruptions + 1,
    status = CASE WHEN interruptions >= $1 THEN 'failed' ELSE 'pending' END,
    finished_at = CASE WHEN interruptions >= $1 THEN scheduler_now() END,
    error_message = CASE WHEN interruptions >= $1 THEN 'worker died' ELSE error_message END
FROM mine WHERE j.id = mine.id
RETURNING j.job_id, j.status;

-- name: forget_stopping
-- Nobody is left to report the end of these coroutines, or it has not come within 30 seconds (design page 2 §2.6).
UPDATE scheduled_jobs j SET stopping_worker = NULL
WHERE j.stopping_worker IS NOT NULL AND (
    j.stop_asked_at < scheduler_now() - interval '30 seconds'
    OR NOT EXISTS (SELECT 1 FROM scheduler_workers w WHERE w.id = j.stopping_worker AND w.state <> 'dead'))
RETURNING j.job_id;

-- name: release_ghosts
-- Claims whose reply never came: this worker holds them by the table and nobody runs them.
UPDATE scheduled_jobs SET status = 'pending', attempt = attempt - 1, worker_id = NULL, started_at = NULL
WHERE worker_id = $1 AND token = ANY($2::bigint[]) AND status = 'running'
RETURNING token;

-- name: wake_workers
-- A hint without content: every listener looks for itself.
SELECT pg_notify('scheduler_wakeup', '');

-- name: taken_ids
-- Which of these ids exist, with what the caller's message says of them.
SELECT job_id, status, source_kind, source_name FROM scheduled_jobs WHERE job_id = ANY($1::text[]);

-- name: insert_jobs
-- A batch that is too small for COPY, or one of whose ids was taken between the look and the COPY. Sorted, so that two
-- such batches never wait for each other in a circle.
INSERT INTO scheduled_jobs (job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries,
                            misfire_grace_time, concurrency_key, timeout_seconds, retry_policy, on_interrupt,
                            max_interruptions, expires_at, keep_result, flush_now, tags, metadata,
                            on_full, concurrency_limit)
SELECT b.job_id, b.tenant, b.queue, b.task, b.job_name, b.task_data::json, b.execution_time, b.priority, b.max_retries,
       b.misfire_grace_time, b.concurrency_key, b.timeout_seconds, b.retry_policy::json, b.on_interrupt,
       b.max_interruptions, b.expires_at, b.keep_result, b.flush_now, b.tags::json, b.metadata::json, b.on_full,
       b.concurrency_limit
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::int[], $9::int[],
            $10::int[], $11::text[], $12::float8[], $13::text[], $14::text[], $15::int[], $16::timestamptz[], $17::bool[],
            $18::bool[], $19::text[], $20::text[], $21::text[], $22::int[])
     b(job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries, misfire_grace_time,
       concurrency_key, timeout_seconds, retry_policy, on_interrupt, max_interruptions, expires_at, keep_result, flush_now,
       tags, metadata, on_full, concurrency_limit)
ORDER BY b.job_id
ON CONFLICT (job_id) DO NOTHING
RETURNING job_id;

-- name: replace_jobs
-- As replace_job, for rows that exist; those of custom resources stay as they are.
UPDATE scheduled_jobs j SET
    tenant = b.tenant, queue = b.queue, task = b.task, job_name = b.job_name, task_data = b.task_data::json,
    execution_time = b.execution_time, priority = b.priority, max_retries = b.max_retries,
    misfire_grace_time = b.misfire_grace_time, concurrency_key = b.concurrency_key, timeout_seconds = b.timeout_seconds,
    retry_policy = b.retry_policy::json, on_interrupt = b.on_interrupt, max_interruptions = b.max_interruptions,
    expires_at = b.expires_at, keep_result = b.keep_result, flush_now = b.flush_now, tags = b.tags::json,
    metadata = b.metadata::json, on_full = b.on_full, concurrency_limit = b.concurrency_limit, suspended = false,
    status = 'pending', token = nextval('scheduler_token'),
    stopping_worker = CASE WHEN j.status = 'running' THEN j.worker_id ELSE j.stopping_worker END,
    stop_asked_at = CASE WHEN j.status = 'running' THEN scheduler_now() ELSE j.stop_asked_at END,
    attempt = 0, retry_count = 0, interruptions = 0, started_at = NULL, finished_at = NULL, error_message = NULL
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::int[], $9::int[],
            $10::int[], $11::text[], $12::float8[], $13::text[], $14::text[], $15::int[], $16::timestamptz[], $17::bool[],
            $18::bool[], $19::text[], $20::text[], $21::text[], $22::int[])
     b(job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries, misfire_grace_time,
       concurrency_key, timeout_seconds, retry_policy, on_interrupt, max_interruptions, expires_at, keep_result, flush_now,
       tags, metadata, on_full, concurrency_limit)
WHERE j.job_id = b.job_id AND j.source_uid IS NULL
RETURNING j.job_id;
