-- name: schedule_views
-- What a process asks of its own schedules at every poll.
SELECT s.source_uid AS uid, s.enabled AND NOT s.suspended AND s.halted_at IS NULL AS runs, s.suspended, s.suspended_at,
       s.suspended_by, s.suspend_reason, s.halted_reason, s.retired_reason, r.next_run_at, r.last_run_at, r.last_status
FROM scheduler_schedules s JOIN scheduler_schedule_runs r ON r.schedule_id = s.id
WHERE s.tenant = $1 AND s.source_kind = 'code' AND s.source_cluster = '' AND s.source_uid = ANY($2::text[]);

-- name: list_schedules
-- All of the tenant, or that of one source; of whatever source, by name.
SELECT s.*, s.task_data::text AS payload, s.retry_policy::text AS retry_text, s.tags::text AS tags_text,
       s.metadata::text AS metadata_text, r.next_run_at, r.last_run_at, r.last_status
FROM scheduler_schedules s JOIN scheduler_schedule_runs r ON r.schedule_id = s.id
WHERE s.tenant = $1 AND ($2::text IS NULL OR s.source_kind = $2 AND s.source_cluster = $3 AND s.source_uid = $4)
ORDER BY s.source_name, s.id;

-- name: schedule_ledger
-- What became of the ticks of one schedule.
SELECT l.planned, l.open, l.ran, l.failed, l.coalesced, l.skipped_overlap, l.skipped_suspended, l.missed, l.cancelled,
       l.unrecorded, l.unaccounted
FROM scheduler_ledger l WHERE l.schedule_id = (
    SELECT id FROM scheduler_schedules
    WHERE tenant = $1 AND source_kind = $2 AND source_cluster = $3 AND source_uid = $4);

-- name: insert_extra_run
-- One run beside the ticks, from the row's own template; it is no tick, so the schedule's high-water mark stays.
WITH made AS (
    INSERT INTO scheduled_jobs (job_id, schedule_id, execution_time, tenant, queue, task, job_name, task_data, priority,
                                max_retries, timeout_seconds, retry_policy, on_interrupt, tags, metadata, concurrency_key,
                                source_cluster, source_kind, source_uid, source_name)
    SELECT $5, s.id, scheduler_now(), s.tenant, s.queue, s.task, s.job_name, s.task_data, s.priority,
           s.max_retries, s.timeout_seconds, s.retry_policy, s.on_interrupt, s.tags, s.metadata, s.concurrency_key,
           nullif(s.source_cluster, ''), s.source_kind, s.source_uid, s.source_name
    FROM scheduler_schedules s
    WHERE s.tenant = $1 AND s.source_kind = $2 AND s.source_cluster = $3 AND s.source_uid = $4 AND s.retired_at IS NULL
    RETURNING job_id)
SELECT job_id, pg_notify('scheduler_wakeup', '') IS NULL FROM made;

-- name: retire_schedules
-- Schedules of code that no worker has declared for a day. A dead worker's row stays for that day, so the rows tell.
-- A start that registers a worker while this runs finds its schedule retired at its next poll, and declares it again.
-- enabled says no as well: the previous release knows no retirement, and its start then revives the row.
WITH retired AS (
    UPDATE scheduler_schedules SET retired_at = scheduler_now(), retired_reason = $1, enabled = false, next_tick_at = NULL
    WHERE id IN (
        SELECT s.id FROM scheduler_schedules s
        WHERE s.source_kind = 'code' AND s.retired_at IS NULL AND s.created_at < scheduler_now() - interval '1 day'
          AND NOT EXISTS (
              SELECT 1 FROM scheduler_workers w WHERE w.tenant = s.tenant AND s.source_uid = ANY(w.schedules)
                AND w.lease_until > scheduler_now() - interval '1 day')
        FOR UPDATE SKIP LOCKED)
    RETURNING id, source_uid),
cancelled AS (
    UPDATE scheduled_jobs j SET status = 'cancelled', finished_at = scheduler_now(), error_message = $1
    FROM retired r WHERE j.schedule_id = r.id AND j.status IN ('pending', 'waiting'))
SELECT source_uid FROM retired;
