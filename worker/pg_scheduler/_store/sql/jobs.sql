-- name: insert_job
-- No row comes back where the id is taken. What is too late to start is stored as expired. Wakes idle workers only for what is
-- due before their next poll ($23 seconds). Without a WITH: two of them cost a tenth of the server's time for the statement.
INSERT INTO scheduled_jobs (job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries,
                            misfire_grace_time, concurrency_key, timeout_seconds, retry_policy, on_interrupt,
                            max_interruptions, expires_at, keep_result, flush_now, tags, metadata,
                            on_full, concurrency_limit, status, finished_at, error_message)
SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::text::json, $7, $8::int, $9::int, $10, $11::text, $12::float8,
       $13::text::json, $14::text, $15::int, $16, $17::bool, $18::bool, $19::text::json, $20::text::json,
       $21::text, $22::int,
       CASE WHEN late THEN 'expired' ELSE 'pending' END, CASE WHEN late THEN scheduler_now() END,
       CASE WHEN late THEN 'expired: too late when it was submitted' END
FROM (SELECT scheduler_is_late($7::timestamptz, $10::int, $16::timestamptz, scheduler_now()) AS late) l
ON CONFLICT (job_id) DO NOTHING
RETURNING job_id, status,
    CASE WHEN status = 'pending' AND execution_time <= scheduler_now() + make_interval(secs => $23)
              AND execution_time < scheduler_now() - interval '5 seconds' THEN pg_notify('scheduler_overdue', '') IS NULL END,
    CASE WHEN status = 'pending' AND execution_time <= scheduler_now() + make_interval(secs => $23) THEN
        pg_notify('scheduler_wakeup', '') IS NULL END,
    CASE WHEN $22 IS NOT NULL THEN scheduler_set_limits(ARRAY[$2], ARRAY[$11], ARRAY[$22]) IS NULL END;

-- name: insert_claimed_job
-- As insert_job, claimed by worker $24 as claim_jobs would claim it, if it is due within $25 seconds: in the order of
-- ClaimedJob's fields, then the status. Else as insert_job. Without a lock on the worker's row: who buries it meanwhile does
-- so after the lease that this statement has seen, and rescues the job as any other of that worker.
INSERT INTO scheduled_jobs (job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries,
                            misfire_grace_time, concurrency_key, timeout_seconds, retry_policy, on_interrupt,
                            max_interruptions, expires_at, keep_result, flush_now, tags, metadata,
                            on_full, concurrency_limit, status, finished_at, error_message,
                            worker_id, attempt, token, started_at)
SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::text::json, $7, $8::int, $9::int, $10, $11::text, $12::float8,
       $13::text::json, $14::text, $15::int, $16, $17::bool, $18::bool, $19::text::json, $20::text::json,
       $21::text, $22::int,
       CASE WHEN late THEN 'expired' WHEN mine THEN 'running' ELSE 'pending' END, CASE WHEN late THEN scheduler_now() END,
       CASE WHEN late THEN 'expired: too late when it was submitted' END,
       CASE WHEN mine THEN $24::text END, mine::int, CASE WHEN mine THEN nextval('scheduler_token') ELSE 0 END,
       CASE WHEN mine THEN greatest(scheduler_now(), $7) END
FROM (SELECT late, late IS NOT TRUE AND $7 <= scheduler_now() + make_interval(secs => $25)
             AND EXISTS (SELECT FROM scheduler_workers w
                         WHERE w.id = $24 AND w.state = 'alive' AND w.lease_until > scheduler_now()
                           AND (w.drain_until IS NULL OR w.drain_until < scheduler_now()))
             AND NOT EXISTS (SELECT FROM scheduler_queues s
                             WHERE s.tenant = $2 AND s.queue = $3 AND (s.paused_at IS NOT NULL OR s.limited)) AS mine
      FROM (SELECT scheduler_is_late($7::timestamptz, $10::int, $16::timestamptz, scheduler_now()) AS late) l
      OFFSET 0) l
ON CONFLICT (job_id) DO NOTHING
RETURNING id, job_id, token, worker_id, task, task_data::text, queue, priority,
    greatest(execution_time, timestamptz '0001-01-02 00:00+00'), attempt, retry_count, max_retries, tick_at, previous_tick_at,
    concurrency_key, timeout_seconds, retry_policy::text, on_interrupt, keep_result, flush_now, status,
    CASE WHEN status = 'pending' AND execution_time <= scheduler_now() + make_interval(secs => $23)
              AND execution_time < scheduler_now() - interval '5 seconds' THEN pg_notify('scheduler_overdue', '') IS NULL END,
    CASE WHEN status = 'pending' AND execution_time <= scheduler_now() + make_interval(secs => $23) THEN
        pg_notify('scheduler_wakeup', '') IS NULL END;

-- name: insert_unequal_job
-- As insert_job, where an equal job ($24, for $25) may be there: then its id comes back, and no status.
WITH holder AS MATERIALIZED (
    SELECT scheduler_hold_key($2, $24::text, $1::text, $25::interval) AS job_id,
           scheduler_is_late($7::timestamptz, $10::int, $16::timestamptz, scheduler_now()) AS late),
made AS (
    INSERT INTO scheduled_jobs (job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries,
                                misfire_grace_time, concurrency_key, timeout_seconds, retry_policy, on_interrupt,
                                max_interruptions, expires_at, keep_result, flush_now, tags, metadata,
                                on_full, concurrency_limit, status, finished_at, error_message)
    SELECT $1, $2::text, $3::text, $4::text, $5::text, $6::text::json, $7, $8::int, $9::int, $10, $11::text, $12::float8,
           $13::text::json, $14::text, $15::int, $16, $17::bool, $18::bool, $19::text::json, $20::text::json,
           $21::text, $22::int,
           CASE WHEN late THEN 'expired' ELSE 'pending' END, CASE WHEN late THEN scheduler_now() END,
           CASE WHEN late THEN 'expired: too late when it was submitted' END
    FROM holder WHERE job_id = $1
    ON CONFLICT (job_id) DO NOTHING
    RETURNING status, status = 'pending' AND execution_time <= scheduler_now() + make_interval(secs => $23) AS soon,
              execution_time < scheduler_now() - interval '5 seconds' AS overdue
)
SELECT h.job_id, m.status, CASE WHEN m.soon AND m.overdue THEN pg_notify('scheduler_overdue', '') IS NULL END,
       CASE WHEN m.soon THEN pg_notify('scheduler_wakeup', '') IS NULL END,
       CASE WHEN m.status IS NOT NULL AND $22 IS NOT NULL THEN
           scheduler_set_limits(ARRAY[$2], ARRAY[$11], ARRAY[$22]) IS NULL END
FROM holder h LEFT JOIN made m ON true;

-- name: replace_job
-- The function is in migration 0037 and says how.
SELECT status, CASE WHEN soon AND overdue THEN pg_notify('scheduler_overdue', '') IS NULL END,
       CASE WHEN soon THEN pg_notify('scheduler_wakeup', '') IS NULL END,
       CASE WHEN $22 IS NOT NULL THEN scheduler_set_limits(ARRAY[$2], ARRAY[$11], ARRAY[$22]) IS NULL END
FROM scheduler_replace_job($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23);

-- name: job_status
-- What stands under a taken id, for the caller's message.
SELECT status, source_kind, source_name FROM scheduled_jobs WHERE job_id = $1;

-- name: cancel_job
-- One winner: the row is pending, waiting or running at the moment of the lock. A running one is told to stop.
UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now(),
       stopping_worker = CASE WHEN status = 'running' THEN worker_id ELSE stopping_worker END,
       stop_asked_at = CASE WHEN status = 'running' THEN scheduler_now() ELSE stop_asked_at END,
       stopping_token = CASE WHEN status = 'running' THEN token ELSE stopping_token END
WHERE job_id = $1 AND status IN ('pending', 'waiting', 'running')
RETURNING job_id;

-- name: run_job_again
-- An ended job that did not complete, due now, as if it were new. Not while its old coroutine may still run.
WITH again AS (
    UPDATE scheduled_jobs SET status = 'pending', finished_at = NULL, started_at = NULL, error_message = NULL,
           execution_time = scheduler_now(), attempt = 0, retry_count = 0, interruptions = 0, token = 0, expires_at = NULL
    WHERE job_id = $1 AND status IN ('failed', 'cancelled', 'expired') AND source_uid IS NULL
    RETURNING job_id)
SELECT job_id, pg_notify('scheduler_wakeup', '') IS NULL FROM again;

-- name: look_ahead
-- What time it is, and the seconds until the first job that this worker could claim, until the tenant's first tick, and until
-- the first job with a concurrency key: of the same rows as claim_jobs, due_schedules and claim_keyed_jobs, but for queues
-- that are paused: a resume wakes. Then until a job of a limited queue could start. While the worker drains, as all do under
-- maintenance, it could claim nothing, and its next poll sees whether it still does. Two index probes for each queue and
-- priority; $4 is the floor of claim_jobs. From a time of -infinity, written by hand, nothing can be subtracted before
-- PostgreSQL 17. Then, since an idle worker asks one question a poll: whether a job that has outlived two workers is due, which
-- is claimed alone; whether suspect_workers would find somebody for worker $5; the settings of its queues, and those of its
-- pool $7; and how long the answer took, for who maps the database's time to a clock of its own.
WITH mine AS MATERIALIZED (
    SELECT CASE WHEN EXISTS (SELECT 1 FROM scheduler_workers w WHERE w.id = $5 AND w.drain_until >= scheduler_now())
                THEN '{}' ELSE $2::text[] END AS queues)
SELECT scheduler_now() AS now, (
    SELECT extract(epoch FROM min(greatest(d.execution_time, timestamptz '0001-01-02 00:00+00')) - scheduler_now())::float8
    FROM mine CROSS JOIN unnest(mine.queues) q(queue) CROSS JOIN unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
        SELECT j.execution_time FROM scheduled_jobs j
        WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NULL AND j.stopping_worker IS NULL
          AND j.tenant = $1 AND j.queue = q.queue AND j.priority = p.priority AND j.task = ANY($3::text[])
          AND j.execution_time >= coalesce($4, timestamptz '-infinity') AND j.interruptions < 2
        ORDER BY j.execution_time, j.id LIMIT 1) d
    WHERE NOT EXISTS (
        SELECT 1 FROM scheduler_queues s
        WHERE s.tenant = $1 AND s.queue = q.queue AND (s.paused_at IS NOT NULL OR s.limited))) AS due_in, (
    SELECT extract(epoch FROM min(s.next_tick_at) - scheduler_now())::float8 FROM scheduler_schedules s
    WHERE s.tenant = $1 AND s.enabled AND NOT s.suspended AND s.next_tick_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM scheduler_maintenance WHERE is_on)
      AND (s.source_kind <> 'code' OR EXISTS (
          SELECT 1 FROM scheduler_living_workers w WHERE w.tenant = s.tenant AND s.source_uid = ANY(w.schedules)))
    ) AS tick_in, (
    SELECT extract(epoch FROM min(greatest(d.execution_time, timestamptz '0001-01-02 00:00+00')) - scheduler_now())::float8
    FROM mine CROSS JOIN unnest(mine.queues) q(queue) CROSS JOIN unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
        SELECT j.execution_time FROM scheduled_jobs j
        WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NOT NULL AND j.stopping_worker IS NULL
          AND j.tenant = $1 AND j.queue = q.queue AND j.priority = p.priority AND j.task = ANY($3::text[])
          AND j.interruptions < 2
        ORDER BY j.execution_time, j.id LIMIT 1) d
    WHERE NOT EXISTS (
        SELECT 1 FROM scheduler_queues s
        WHERE s.tenant = $1 AND s.queue = q.queue AND (s.paused_at IS NOT NULL OR s.limited))) AS keyed_in, (
    SELECT min(greatest(extract(epoch FROM f.execution_time - scheduler_now()), scheduler_queue_opens_in($1, f.queue)))::float8
    FROM (
        SELECT s.queue, min(d.execution_time) AS execution_time
        FROM scheduler_queues s CROSS JOIN unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
            (SELECT greatest(j.execution_time, timestamptz '0001-01-02 00:00+00') AS execution_time FROM scheduled_jobs j
             WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NULL AND j.stopping_worker IS NULL
               AND j.tenant = $1 AND j.queue = s.queue AND j.priority = p.priority AND j.task = ANY($3::text[])
               AND j.interruptions < 2
             ORDER BY j.execution_time, j.id LIMIT 1)
            UNION ALL
            (SELECT greatest(j.execution_time, timestamptz '0001-01-02 00:00+00') FROM scheduled_jobs j
             WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NOT NULL AND j.stopping_worker IS NULL
               AND j.tenant = $1 AND j.queue = s.queue AND j.priority = p.priority AND j.task = ANY($3::text[])
               AND j.interruptions < 2
             ORDER BY j.execution_time, j.id LIMIT 1)) d
        WHERE s.tenant = $1 AND s.queue = ANY((SELECT queues FROM mine)::text[]) AND s.limited AND s.paused_at IS NULL
        GROUP BY s.queue) f) AS limited_in,
    EXISTS (SELECT 1 FROM scheduled_jobs j
            WHERE j.status = 'pending' AND j.interruptions >= 2 AND NOT j.suspended
              AND j.stopping_worker IS NULL AND j.tenant = $1 AND j.queue = ANY((SELECT queues FROM mine)::text[])
              AND j.task = ANY($3::text[]) AND j.execution_time <= scheduler_now()
              AND NOT EXISTS (SELECT 1 FROM scheduler_queues s
                              WHERE s.tenant = $1 AND s.queue = j.queue
                                AND (s.paused_at IS NOT NULL OR s.limited AND scheduler_queue_room($1, s.queue) = 0))) AS alone,
    EXISTS (SELECT 1 FROM scheduler_workers w
            WHERE w.id <> $5 AND w.state = 'alive' AND w.backend_watched AND w.lease_until > scheduler_now()
              AND pg_postmaster_start_time() = $6::timestamptz
              AND NOT EXISTS (SELECT 1 FROM pg_stat_get_activity(w.backend_pid) a
                              WHERE a.backend_start IS NULL OR a.backend_start = w.backend_started_at)) AS missing,
    (SELECT json_object_agg(t.queue, t.weight)::text FROM scheduler_queue_settings t
     WHERE t.tenant = $1 AND t.queue = ANY($2::text[])) AS weights,
    ARRAY(SELECT s.queue FROM scheduler_queues s WHERE s.tenant = $1 AND s.queue = ANY($2::text[]) AND s.limited) AS limited,
    (SELECT p.allowed_tasks FROM scheduler_pool_settings p WHERE p.tenant = $1 AND p.name = $7) AS allowed,
    extract(epoch FROM clock_timestamp() - now())::float8 AS took;

-- name: claim_jobs
-- In the order of ClaimedJob's fields. Only for a worker that lives and does not drain, never more than asked for ($6), due
-- within $7 seconds. One arm a priority, or a claim walks every future job before PostgreSQL 18; = ANY(ARRAY(SELECT …)), or
-- the last join becomes a scan of the table. By ctid, since a locked row stays where it is: an index of the internal id
-- would cost each claim and each completion 2.5 µs a job and serve nothing else. $8 is a floor below which this worker knows
-- of nothing pending: without it a claim walks the dead entries that a long transaction elsewhere keeps at the index's
-- beginning. A job that is too late at its first claim expires instead (attempt 0 comes back): nobody served its queue until
-- its grace was over. What has outlived two workers is left to claim_poison_job. A queue whose row is missing or stale is
-- served since now. Limited queues are left to claim_limited_jobs. One row that Python cannot read, or that cannot be counted
-- on, would fail the whole batch again and again: hence the bounds.
WITH me AS MATERIALIZED (
    SELECT id FROM scheduler_workers
    WHERE id = $1 AND state = 'alive' AND lease_until > scheduler_now()
      AND (drain_until IS NULL OR drain_until < scheduler_now())
    FOR SHARE),
due AS MATERIALIZED (
    SELECT d.ctid, d.late
    FROM (
        SELECT u.queue, u.n,
               CASE WHEN s.served_until >= scheduler_now() THEN s.served_since ELSE scheduler_now() END AS served_since
        FROM unnest($3::text[], $5::int[]) WITH ORDINALITY u(queue, n, place)
        LEFT JOIN scheduler_queues s ON s.tenant = $2 AND s.queue = u.queue
        WHERE s.paused_at IS NULL AND s.limited IS NOT TRUE ORDER BY u.place) q
    CROSS JOIN LATERAL (
        SELECT e.ctid, e.late FROM unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
            SELECT j.ctid, j.token = 0
                     AND scheduler_is_late(j.execution_time, j.misfire_grace_time, j.expires_at, q.served_since) AS late
            FROM scheduled_jobs j
            WHERE EXISTS (SELECT 1 FROM me) AND j.status = 'pending' AND NOT j.suspended
              AND j.concurrency_key IS NULL AND j.stopping_worker IS NULL
              AND j.tenant = $2 AND j.queue = q.queue AND j.priority = p.priority AND j.task = ANY($4::text[])
              AND j.execution_time <= scheduler_now() + make_interval(secs => $7)
              AND j.execution_time >= coalesce($8, timestamptz '-infinity')
              AND j.interruptions < 2
            ORDER BY j.execution_time, j.id LIMIT q.n FOR UPDATE SKIP LOCKED) e
        LIMIT q.n) d
    LIMIT $6),
late AS MATERIALIZED (SELECT array_agg(ctid) AS ctids FROM due WHERE late)
UPDATE scheduled_jobs j
SET status = CASE WHEN j.ctid = ANY((SELECT ctids FROM late)::tid[]) THEN 'expired' ELSE 'running' END,
    attempt = least(attempt, 9223372036854775806) + CASE WHEN j.ctid = ANY((SELECT ctids FROM late)::tid[]) THEN 0 ELSE 1 END,
    finished_at = CASE WHEN j.ctid = ANY((SELECT ctids FROM late)::tid[]) THEN scheduler_now() END,
    started_at = CASE WHEN j.ctid = ANY((SELECT ctids FROM late)::tid[]) THEN NULL
                      ELSE greatest(scheduler_now(), execution_time) END,
    error_message = CASE WHEN j.ctid = ANY((SELECT ctids FROM late)::tid[])
                         THEN 'expired: no worker could start it in time' ELSE error_message END,
    worker_id = $1, token = nextval('scheduler_token')
WHERE j.ctid = ANY(ARRAY(SELECT ctid FROM due))
RETURNING j.id, j.job_id, j.token, j.worker_id, j.task, j.task_data::text, j.queue, j.priority,
          greatest(j.execution_time, timestamptz '0001-01-02 00:00+00'), j.attempt, j.retry_count, j.max_retries,
          CASE WHEN j.tick_at BETWEEN '0001-01-02' AND '9999-01-01' THEN j.tick_at END, j.previous_tick_at, j.concurrency_key,
          j.timeout_seconds,
          j.retry_policy::text, j.on_interrupt, j.keep_result, j.flush_now;

-- name: complete_jobs
-- Found by the tokens alone, which are unique, in the index of what the worker runs. No join, which a generic plan makes
-- a scan; the ids are looked up in a hash table (IS TRUE keeps the planner from making a join of that too), where a second
-- ANY would be walked from end to end for each row.
UPDATE scheduled_jobs SET status = 'completed', finished_at = scheduler_now(), error_message = NULL
WHERE worker_id = $3 AND token = ANY($2::bigint[]) AND status = 'running'
  AND (id IN (SELECT unnest($1::bigint[]))) IS TRUE
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
SELECT token, pg_notify('scheduler_overdue', '') IS NULL, pg_notify('scheduler_wakeup', '') IS NULL FROM back;

-- name: report_stopped
-- The coroutine of a cancelled or replaced job has ended: the row may be claimed again. Fenced by its token: a word that comes
-- twice, or late, must not free a row whose newer coroutine has run on the same worker since. Tokens grow, so that one which
-- somebody else's statement has left there is older and refuses nobody.
UPDATE scheduled_jobs SET stopping_worker = NULL
WHERE id = $1 AND stopping_worker = $2 AND $3 >= coalesce(stopping_token, 0)
RETURNING CASE WHEN status = 'pending' THEN pg_notify('scheduler_overdue', '') IS NULL END,
          CASE WHEN status = 'pending' THEN pg_notify('scheduler_wakeup', '') IS NULL END;

-- name: requeue_orphans
-- Running jobs of buried workers: a late one that no sweep has marked dead may still renew its lease. The anti-join counts
-- a missing worker row as dead too. Fenced by the token seen in the snapshot: the recheck after a row lock does not look
-- again at the anti-join, and would take a job that a living worker has claimed meanwhile. The limit is a literal, since a
-- generic plan for an unknown one scans the table (seen on 15 and 18).
-- Charged are those with the most interruptions of what the dead worker held, so that a poison job does not drag its
-- neighbours along; each gets the record of the attempt that ended so.
WITH orphan AS MATERIALIZED (
    SELECT o.ctid, o.token, o.interruptions = max(o.interruptions) OVER (PARTITION BY o.worker_id) AS is_charged FROM (
        SELECT j.ctid, j.token, j.worker_id, j.interruptions FROM scheduled_jobs j
        WHERE j.status = 'running' AND NOT EXISTS (
            SELECT 1 FROM scheduler_workers w WHERE w.id = j.worker_id AND w.state <> 'dead')
        LIMIT 500) o),
mine AS MATERIALIZED (
    SELECT j.ctid, o.is_charged::int AS charge,
           j.on_interrupt = 'fail' OR o.is_charged AND j.interruptions >= coalesce(j.max_interruptions, $1) AS is_over
    FROM scheduled_jobs j JOIN orphan o ON j.ctid = o.ctid AND j.token = o.token
    WHERE j.status = 'running' FOR UPDATE OF j SKIP LOCKED),
taken AS (
    UPDATE scheduled_jobs j
    SET interruptions = interruptions + charge,
        status = CASE WHEN is_over THEN 'failed' ELSE 'pending' END,
        finished_at = CASE WHEN is_over THEN scheduler_now() END,
        error_message = CASE WHEN is_over THEN 'worker died' ELSE error_message END
    FROM mine WHERE j.ctid = mine.ctid
    RETURNING j.job_id, j.status, j.token, j.attempt, j.worker_id, j.started_at),
noted AS (
    INSERT INTO scheduler_attempts (job_id, token, attempt, worker_id, started_at, error_type, message, traceback)
    SELECT job_id, token, attempt, worker_id, started_at, 'WorkerDied', 'worker died', '' FROM taken
    ON CONFLICT (job_id, token) DO NOTHING)
SELECT job_id, status FROM taken;

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
-- A hint without content: every listener looks for itself, and beneath its floor too.
SELECT pg_notify('scheduler_overdue', ''), pg_notify('scheduler_wakeup', '');

-- name: taken_ids
-- Which of these ids exist, with what the caller's message says of them.
SELECT job_id, status, source_kind, source_name FROM scheduled_jobs WHERE job_id = ANY($1::text[]);

-- name: insert_jobs
-- A batch that is too small for COPY, one of whose ids was taken between the look and the COPY, or those that are too late
-- to start. Sorted, so that two such batches never wait for each other in a circle. A value that all jobs share in a column
-- without NULL is given once, and nothing in one of NULL alone: the driver looks at each, and the server at each column.
INSERT INTO scheduled_jobs (job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries,
                            misfire_grace_time, concurrency_key, timeout_seconds, retry_policy, on_interrupt,
                            max_interruptions, expires_at, keep_result, flush_now, tags, metadata,
                            on_full, concurrency_limit, status, finished_at, error_message)
SELECT b.job_id, b.tenant, b.queue, b.task, b.job_name, b.task_data::json, b.execution_time, b.priority, b.max_retries,
       b.misfire_grace_time, b.concurrency_key, b.timeout_seconds, b.retry_policy::json, b.on_interrupt,
       b.max_interruptions, b.expires_at, b.keep_result, b.flush_now, b.tags::json, b.metadata::json,
       b.on_full, b.concurrency_limit,
       CASE WHEN l.late THEN 'expired' ELSE 'pending' END, CASE WHEN l.late THEN scheduler_now() END,
       CASE WHEN l.late THEN 'expired: too late when it was submitted' END
FROM (
    SELECT job_id, coalesce(tenant, ($2::text[])[1]) AS tenant, coalesce(queue, ($3::text[])[1]) AS queue,
           coalesce(task, ($4::text[])[1]) AS task, coalesce(job_name, ($5::text[])[1]) AS job_name,
           coalesce(task_data, ($6::text[])[1]) AS task_data,
           coalesce(execution_time, ($7::timestamptz[])[1]) AS execution_time,
           coalesce(priority, ($8::int[])[1]) AS priority, coalesce(max_retries, ($9::int[])[1]) AS max_retries,
           misfire_grace_time, concurrency_key, timeout_seconds, retry_policy,
           coalesce(on_interrupt, ($14::text[])[1]) AS on_interrupt, max_interruptions, expires_at,
           coalesce(keep_result, ($17::bool[])[1]) AS keep_result, coalesce(flush_now, ($18::bool[])[1]) AS flush_now,
           tags, metadata, coalesce(on_full, ($21::text[])[1]) AS on_full, concurrency_limit
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::int[],
                $9::int[], $10::int[], $11::text[], $12::float8[], $13::text[], $14::text[], $15::int[],
                $16::timestamptz[], $17::bool[], $18::bool[], $19::text[], $20::text[], $21::text[], $22::int[])
         u(job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries, misfire_grace_time,
           concurrency_key, timeout_seconds, retry_policy, on_interrupt, max_interruptions, expires_at, keep_result,
           flush_now, tags, metadata, on_full, concurrency_limit)) b,
     LATERAL (SELECT scheduler_is_late(b.execution_time, b.misfire_grace_time, b.expires_at, scheduler_now()) AS late) l
ORDER BY b.job_id
ON CONFLICT (job_id) DO NOTHING
RETURNING job_id, status;

-- name: replace_jobs
-- As replace_job, for rows that exist, given as to insert_jobs.
SELECT job_id, status
FROM scheduler_replace_jobs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22);
