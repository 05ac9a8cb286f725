-- name: upsert_owned_job
-- A lower or equal generation, and a row that has started, change nothing: two operators or a replay cannot regress it. The row
-- of an idempotency key is taken over from another source only where it was cancelled before it had ever started, and no row is
-- made where one has left a tombstone. What is too late to start is stored as expired, unless it is held.
WITH given AS MATERIALIZED (
    SELECT coalesce($6::timestamptz, scheduler_now()) AS due_at,
           NOT $8::bool AND coalesce(scheduler_is_late(coalesce($6, scheduler_now()), $16::int, NULL, scheduler_now()), false)
           AS late),
made AS (
    INSERT INTO scheduled_jobs AS j (
        job_id, tenant, queue, task, job_name, task_data, execution_time, priority, suspended, source_cluster, source_kind,
        source_uid, source_name, source_generation, source_digest, source_deletion, misfire_grace_time, max_retries,
        retry_policy, timeout_seconds, concurrency_key, concurrency_limit, keep_result, metadata, status, finished_at,
        error_message)
    SELECT $1, $2, $3, $4, $4, $5::text::json, g.due_at, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18::text::json,
           $19, $20, $21, $22, $23::text::json, CASE WHEN g.late THEN 'expired' ELSE 'pending' END,
           CASE WHEN g.late THEN scheduler_now() END,
           CASE WHEN g.late THEN 'expired: too late when it was submitted' END
    FROM given g WHERE NOT EXISTS (SELECT FROM scheduler_tombstones t WHERE t.job_id = $1)
    ON CONFLICT (job_id) DO UPDATE SET
        queue = excluded.queue, task = excluded.task, job_name = excluded.job_name, task_data = excluded.task_data,
        execution_time = excluded.execution_time, priority = excluded.priority, suspended = excluded.suspended,
        source_cluster = excluded.source_cluster, source_kind = excluded.source_kind, source_uid = excluded.source_uid,
        source_name = excluded.source_name, source_generation = excluded.source_generation,
        source_digest = excluded.source_digest, source_deletion = excluded.source_deletion,
        misfire_grace_time = excluded.misfire_grace_time, max_retries = excluded.max_retries,
        retry_policy = excluded.retry_policy, timeout_seconds = excluded.timeout_seconds,
        concurrency_key = excluded.concurrency_key, concurrency_limit = excluded.concurrency_limit,
        keep_result = excluded.keep_result, metadata = excluded.metadata, status = excluded.status,
        finished_at = excluded.finished_at, error_message = excluded.error_message
    WHERE j.attempt = 0
      AND (j.status IN ('pending', 'waiting') AND j.source_uid = excluded.source_uid
             AND j.source_generation < excluded.source_generation
           OR j.status = 'cancelled' AND j.source_uid IS DISTINCT FROM excluded.source_uid AND j.job_id LIKE 'key:%')
    RETURNING status = 'pending' AND NOT suspended AND execution_time <= scheduler_now() + make_interval(secs => $24) AS soon
)
SELECT CASE WHEN soon THEN pg_notify('scheduler_overdue', '') IS NULL END,
       CASE WHEN soon THEN pg_notify('scheduler_wakeup', '') IS NULL END,
       CASE WHEN $21::int IS NOT NULL THEN scheduler_set_limits(ARRAY[$2], ARRAY[$20], ARRAY[$21]) IS NULL END
FROM made;

-- name: change_started_job
-- What is run is settled once a job has started. Whether it is held before its next attempt, and what becomes of it when its
-- resource goes, may still change.
UPDATE scheduled_jobs SET suspended = $4, source_deletion = $5, source_generation = $6
WHERE job_id = $1 AND source_uid = $2 AND source_digest = $3 AND source_generation < $6 AND finished_at IS NULL
RETURNING CASE WHEN NOT $4 THEN pg_notify('scheduler_wakeup', '') IS NULL END;

-- name: adopt_owned_job
-- The open job of an idempotency key goes over to another resource: where nobody owns it, or where its owner is gone, as it is
-- when one of the same name has another uid.
UPDATE scheduled_jobs SET source_cluster = $2, source_kind = $3, source_uid = $4, source_name = $5, source_generation = $6,
       source_deletion = $7, suspended = $8
WHERE job_id = $1 AND tenant = $9 AND finished_at IS NULL
  AND (source_uid IS NULL OR source_uid <> $4 AND source_cluster = $2 AND source_name = $5)
RETURNING CASE WHEN NOT $8 THEN pg_notify('scheduler_wakeup', '') IS NULL END;

-- name: orphan_owned_job
-- The resource goes, its job stays, and is nobody's.
UPDATE scheduled_jobs SET source_cluster = NULL, source_kind = NULL, source_uid = NULL, source_name = NULL,
       source_generation = NULL, source_deletion = NULL
WHERE job_id = $1 AND source_uid = $2;

-- name: expire_owned_job
-- As a claim would expire it, where there is nobody to claim: no worker has served its queue from its time to the end of its
-- grace.
UPDATE scheduled_jobs j SET status = 'expired', finished_at = scheduler_now(),
       error_message = 'expired: no worker could start it in time'
WHERE j.job_id = $1 AND j.source_uid = $2 AND j.status = 'pending' AND j.token = 0 AND NOT j.suspended
  AND scheduler_is_late(j.execution_time, j.misfire_grace_time, j.expires_at, coalesce((
          SELECT q.served_since FROM scheduler_queues q
          WHERE q.tenant = j.tenant AND q.queue = j.queue AND q.served_until >= scheduler_now()), scheduler_now()))
RETURNING j.job_id;

-- name: cancel_owned_job
-- As cancel_job, for the row's own source only.
UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now(),
       stopping_worker = CASE WHEN status = 'running' THEN worker_id ELSE stopping_worker END,
       stop_asked_at = CASE WHEN status = 'running' THEN scheduler_now() ELSE stop_asked_at END,
       stopping_token = CASE WHEN status = 'running' THEN token ELSE stopping_token END
WHERE job_id = $1 AND source_uid = $2 AND status IN ('pending', 'waiting', 'running');

-- name: withdraw_owned_job
-- The source is gone: what has not started goes with it, what runs finishes.
UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now()
WHERE job_id = $1 AND source_uid = $2 AND status IN ('pending', 'waiting');

-- name: settle_owned_job
-- A restored row whose end its source has seen: it is not run again. A new token, so that no attempt ends it once more.
UPDATE scheduled_jobs
SET status = $3, attempt = greatest(attempt, $4::bigint), worker_id = coalesce($5, worker_id),
    started_at = coalesce($6, started_at), finished_at = coalesce($7, scheduler_now()), token = nextval('scheduler_token')
WHERE job_id = $1 AND source_uid = $2 AND status IN ('pending', 'waiting', 'running');

-- name: job_states
-- Rows by id, with the last failure and the first $3 characters of its text, and with what the job returned where that is short.
SELECT j.*, a.error_type, a.error_text, a.ended_at AS error_at, r.result_bytes, r.refused IS NOT NULL AS result_refused,
       CASE WHEN r.result_bytes <= $2 THEN r.result END AS result
FROM scheduled_jobs j
LEFT JOIN LATERAL (
    SELECT a.error_type, left(a.message, $3) AS error_text, a.ended_at FROM scheduler_attempts a
    WHERE a.job_id = j.job_id ORDER BY a.token DESC LIMIT 1) a ON true
LEFT JOIN LATERAL (
    SELECT r.result::text AS result, octet_length(r.result::text) AS result_bytes, r.refused FROM scheduler_results r
    WHERE r.job_id = j.job_id AND r.token = j.token) r ON true
WHERE j.job_id = ANY($1::text[]);

-- name: tombstone
-- How the job of a ScheduledJob has ended, whose row is gone.
SELECT t.* FROM scheduler_tombstones t WHERE t.job_id = $1;

-- name: jobs_of_sources
-- Open rows of resources that are gone.
SELECT job_id, source_uid, source_deletion FROM scheduled_jobs
WHERE source_cluster = $1 AND source_uid = ANY($2::text[]) AND source_kind = 'ScheduledJob' AND finished_at IS NULL;

-- name: changed_jobs
-- Owned jobs that ended after the cursor, and those that run: two index ranges, whatever the table holds.
SELECT job_id FROM scheduled_jobs
WHERE finished_at > $2 AND source_cluster = $1 AND source_kind = 'ScheduledJob'
UNION ALL
SELECT job_id FROM scheduled_jobs
WHERE status = 'running' AND source_cluster = $1 AND source_kind = 'ScheduledJob';

-- name: changed_schedules
-- What has happened to schedules after the cursor, each a range of an index: their jobs that ended, and those that run; their
-- ticks that passed without a job; those halted; and those whose tick has now waited for a worker for $3 seconds.
SELECT j.source_kind, j.tenant, j.source_name, j.job_id || '/' || j.status || '/' || j.token AS trace,
       j.status = 'running' AS runs
FROM scheduled_jobs j
WHERE j.finished_at > $2 AND j.source_cluster = $1 AND j.source_kind = 'PeriodicJob' AND j.schedule_id IS NOT NULL
UNION ALL
SELECT j.source_kind, j.tenant, j.source_name, j.job_id || '/running/' || j.token, true
FROM scheduled_jobs j
WHERE j.status = 'running' AND j.source_cluster = $1 AND j.source_kind = 'PeriodicJob' AND j.schedule_id IS NOT NULL
UNION ALL
SELECT s.source_kind, s.tenant, s.source_name, 'passed/' || o.id, false
FROM scheduler_occurrences o CROSS JOIN LATERAL (
    SELECT * FROM scheduler_schedules s WHERE s.id = o.schedule_id LIMIT 1) s  -- a join would be hashed with all schedules
WHERE o.month IS NULL AND o.recorded_at > $2 AND s.source_cluster = $1 AND s.source_kind = 'PeriodicJob'
UNION ALL
SELECT s.source_kind, s.tenant, s.source_name, 'halted/' || s.halted_at, false
FROM scheduler_schedules s WHERE s.halted_at > $2 AND s.source_cluster = $1 AND s.source_kind = 'PeriodicJob'
UNION ALL
SELECT s.source_kind, s.tenant, s.source_name, 'overdue/' || s.next_tick_at, false
FROM scheduler_schedules s
WHERE s.next_tick_at > $2::timestamptz - make_interval(secs => $3) AND s.source_kind = 'PeriodicJob'
  AND s.next_tick_at <= scheduler_now() - make_interval(secs => $3) AND s.source_cluster = $1;

-- name: schedule_states
-- Schedules by their sources, each with its newest tick that is due, its newest run and the newest end of one, with what was
-- inserted ahead of time, and with how it keeps to its rule. A tick that was cancelled before it started, as one beside its
-- predecessor's run is, is no run. The ledger is read for those only of which it is asked: it counts all their jobs.
SELECT s.*, s.task_data::text AS payload, s.retry_policy::text AS retry_text, s.tags::text AS tags_text,
       s.metadata::text AS metadata_text, due.tick_at AS due_tick_at, run.job_id AS run_job_id, ended.status AS ended_status,
       ended.finished_at AS ended_at, ahead.first_tick_at AS ahead_tick_at, ahead.ticks AS ahead_ticks,
       greatest(CASE WHEN due.status = 'expired' THEN due.tick_at END, passed.missed_at) AS missed_at,
       s.enabled AND NOT s.suspended AND s.next_tick_at <= scheduler_now() - make_interval(secs => $6) AS is_overdue,
       EXISTS (SELECT 1 FROM scheduler_living_workers w WHERE w.tenant = s.tenant AND s.queue = ANY(w.queues)) AS is_served,
       ledger.ran, ledger.failed, ledger.coalesced, ledger.skipped_overlap + ledger.skipped_suspended AS skipped,
       ledger.missed AS missed_ticks, ends.succeeded_at, ends.failed_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[]) k(tenant, kind, cluster, uid, is_counted)
JOIN scheduler_schedules s
  ON s.tenant = k.tenant AND s.source_kind = k.kind AND s.source_cluster = k.cluster AND s.source_uid = k.uid
LEFT JOIN LATERAL (
    SELECT j.tick_at, j.status FROM scheduled_jobs j
    WHERE j.schedule_id = s.id AND j.tick_at <= scheduler_now() ORDER BY j.tick_at DESC LIMIT 1) due ON true
LEFT JOIN LATERAL (
    SELECT j.job_id FROM scheduled_jobs j
    WHERE j.schedule_id = s.id AND j.tick_at <= scheduler_now() AND NOT (j.status = 'cancelled' AND j.attempt = 0)
    ORDER BY j.tick_at DESC LIMIT 1) run ON true
LEFT JOIN LATERAL (
    SELECT j.status, j.finished_at FROM scheduled_jobs j
    WHERE j.schedule_id = s.id AND j.tick_at <= scheduler_now() AND NOT (j.status = 'cancelled' AND j.attempt = 0)
      AND j.finished_at IS NOT NULL
    ORDER BY j.tick_at DESC LIMIT 1) ended ON true
CROSS JOIN LATERAL (
    SELECT min(j.tick_at) AS first_tick_at, count(*) AS ticks FROM scheduled_jobs j
    WHERE j.schedule_id = s.id AND j.tick_at > scheduler_now()) ahead
CROSS JOIN LATERAL (
    SELECT max(o.last_tick_at) AS missed_at FROM scheduler_occurrences o
    WHERE o.schedule_id = s.id AND o.outcome = 'missed') passed
LEFT JOIN scheduler_ledger ledger ON ledger.schedule_id = CASE WHEN k.is_counted THEN s.id END
LEFT JOIN LATERAL (
    SELECT max(j.finished_at) FILTER (WHERE j.status = 'completed') AS succeeded_at,
           max(j.finished_at) FILTER (WHERE j.status = 'failed') AS failed_at
    FROM scheduled_jobs j WHERE j.schedule_id = CASE WHEN k.is_counted THEN s.id END) ends ON true;

-- name: open_sources
-- What a sweep compares with the resources that exist.
SELECT DISTINCT source_kind, tenant, source_name, source_uid, source_generation FROM scheduled_jobs
WHERE source_uid IS NOT NULL AND finished_at IS NULL AND source_cluster = $1 AND source_kind = 'ScheduledJob'
UNION ALL
SELECT source_kind, tenant, source_name, source_uid, source_generation FROM scheduler_schedules
WHERE source_cluster = $1 AND source_kind = 'PeriodicJob'
UNION ALL
SELECT 'WorkerPool', tenant, name, source_uid, source_generation FROM scheduler_pool_settings WHERE source_cluster = $1;

-- name: unknown_tasks
-- Nothing while no worker lives: the first one may be on its way.
SELECT t.task FROM unnest($2::text[]) t(task)
WHERE EXISTS (SELECT 1 FROM scheduler_living_workers w WHERE w.tenant = $1)
  AND NOT EXISTS (SELECT 1 FROM scheduler_living_workers w WHERE w.tenant = $1 AND t.task = ANY(w.tasks));
