-- name: upsert_owned_job
-- A lower or equal generation, and a row that has started, change nothing: two operators or a replay cannot regress it.
WITH made AS (
    INSERT INTO scheduled_jobs AS j (job_id, tenant, queue, task, job_name, task_data, execution_time, priority, suspended,
                                     source_cluster, source_kind, source_uid, source_name, source_generation)
    VALUES ($1, $2, $3, $4, $4, $5::text::json, coalesce($6, scheduler_now()), $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (job_id) DO UPDATE SET
        queue = excluded.queue, task = excluded.task, job_name = excluded.job_name, task_data = excluded.task_data,
        execution_time = excluded.execution_time, priority = excluded.priority, suspended = excluded.suspended,
        source_name = excluded.source_name, source_generation = excluded.source_generation
    WHERE j.source_uid = excluded.source_uid AND j.source_generation < excluded.source_generation
      AND j.status = 'pending' AND j.attempt = 0
    RETURNING NOT suspended AND execution_time <= scheduler_now() + make_interval(secs => $14) AS soon
)
SELECT CASE WHEN soon THEN pg_notify('scheduler_overdue', '') IS NULL END,
       CASE WHEN soon THEN pg_notify('scheduler_wakeup', '') IS NULL END FROM made;

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
-- Rows by id, with the type of the last failure.
SELECT j.*, (SELECT a.error_type FROM scheduler_attempts a WHERE a.job_id = j.job_id ORDER BY a.token DESC LIMIT 1)
       AS error_type
FROM scheduled_jobs j WHERE j.job_id = ANY($1::text[]);

-- name: changed_jobs
-- Owned jobs that ended after the cursor, and those that run: two index ranges, whatever the table holds.
SELECT job_id FROM scheduled_jobs
WHERE finished_at > $2 AND source_cluster = $1 AND source_kind = 'ScheduledJob'
UNION ALL
SELECT job_id FROM scheduled_jobs
WHERE status = 'running' AND source_cluster = $1 AND source_kind = 'ScheduledJob';

-- name: changed_schedules
-- Schedules of which a job ended after the cursor, or runs, and those that were halted after it.
SELECT schedule_id FROM scheduled_jobs
WHERE finished_at > $2 AND source_cluster = $1 AND source_kind = 'PeriodicJob' AND schedule_id IS NOT NULL
UNION
SELECT schedule_id FROM scheduled_jobs
WHERE status = 'running' AND source_cluster = $1 AND source_kind = 'PeriodicJob' AND schedule_id IS NOT NULL
UNION
SELECT id FROM scheduler_schedules WHERE halted_at > $2 AND source_cluster = $1 AND source_kind = 'PeriodicJob';

-- name: schedule_states
-- Schedules by id, each with its newest tick that is due, its newest run and the newest end of one, and with what was
-- inserted ahead of time. A tick that was cancelled before it started, as one beside its predecessor's run is, is no run.
SELECT s.*, s.task_data::text AS payload, s.retry_policy::text AS retry_text, s.tags::text AS tags_text,
       s.metadata::text AS metadata_text, due.tick_at AS due_tick_at, run.job_id AS run_job_id, ended.status AS ended_status,
       ahead.first_tick_at AS ahead_tick_at, ahead.ticks AS ahead_ticks
FROM scheduler_schedules s
LEFT JOIN LATERAL (
    SELECT j.tick_at FROM scheduled_jobs j
    WHERE j.schedule_id = s.id AND j.tick_at <= scheduler_now() ORDER BY j.tick_at DESC LIMIT 1) due ON true
LEFT JOIN LATERAL (
    SELECT j.job_id FROM scheduled_jobs j
    WHERE j.schedule_id = s.id AND j.tick_at <= scheduler_now() AND NOT (j.status = 'cancelled' AND j.attempt = 0)
    ORDER BY j.tick_at DESC LIMIT 1) run ON true
LEFT JOIN LATERAL (
    SELECT j.status FROM scheduled_jobs j
    WHERE j.schedule_id = s.id AND j.tick_at <= scheduler_now() AND NOT (j.status = 'cancelled' AND j.attempt = 0)
      AND j.finished_at IS NOT NULL
    ORDER BY j.tick_at DESC LIMIT 1) ended ON true
CROSS JOIN LATERAL (
    SELECT min(j.tick_at) AS first_tick_at, count(*) AS ticks FROM scheduled_jobs j
    WHERE j.schedule_id = s.id AND j.tick_at > scheduler_now()) ahead
WHERE s.id = ANY($1::bigint[]);

-- name: schedule_id
-- The row of a source.
SELECT id FROM scheduler_schedules
WHERE tenant = $1 AND source_kind = $2 AND source_cluster = $3 AND source_uid = $4;

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
