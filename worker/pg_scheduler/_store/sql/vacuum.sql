-- name: delete_finished_before
-- The oldest of one status, by their end and not by their making; at most $4 rows, so that no claim waits for the rest.
-- Not while a coroutine of the job may still run: with the row would go its slot. A schedule that counts its history keeps it.
SELECT scheduler_delete_ended(ARRAY(
    SELECT ctid FROM scheduled_jobs j
    WHERE finished_at <= scheduler_now() - make_interval(days => $3) AND status = $2 AND tenant = $1
      AND stopping_worker IS NULL
      AND NOT EXISTS (
          SELECT 1 FROM scheduler_schedules s WHERE s.id = j.schedule_id AND s.successful_history_limit IS NOT NULL)
    ORDER BY finished_at LIMIT $4 FOR UPDATE OF j SKIP LOCKED));

-- name: delete_finished_beyond
-- All but the $3 newest of each job name.
SELECT scheduler_delete_ended(ARRAY(
    SELECT r.place_of_row FROM (
        SELECT ctid AS place_of_row, row_number() OVER (PARTITION BY job_name ORDER BY finished_at DESC, id DESC) AS place
        FROM scheduled_jobs j WHERE finished_at IS NOT NULL AND status = $2 AND tenant = $1 AND stopping_worker IS NULL
          AND NOT EXISTS (
              SELECT 1 FROM scheduler_schedules s WHERE s.id = j.schedule_id AND s.successful_history_limit IS NOT NULL)) r
    WHERE r.place > $3 LIMIT $4));

-- name: schedules_with_history
-- Those that say how many rows they keep.
SELECT id FROM scheduler_schedules WHERE tenant = $1 AND successful_history_limit IS NOT NULL ORDER BY id;

-- name: delete_history_beyond
-- All but the newest of each end, of these schedules, at most $2 rows. What suspend_after_failures counts stays whatever the
-- limits say: so many failures, and the success that would interrupt them.
WITH beyond AS MATERIALIZED (
    SELECT r.job_id, r.status FROM scheduler_schedules s CROSS JOIN LATERAL (
        SELECT j.job_id, j.status,
               row_number() OVER (PARTITION BY j.status ORDER BY coalesce(j.tick_at, j.execution_time) DESC, j.id DESC) AS place
        FROM scheduled_jobs j
        WHERE j.schedule_id = s.id AND j.finished_at IS NOT NULL AND j.stopping_worker IS NULL) r
    WHERE s.id = ANY($1::bigint[]) AND r.place > CASE r.status
        WHEN 'completed' THEN greatest(s.successful_history_limit, (s.suspend_after_failures IS NOT NULL)::integer)
        WHEN 'failed' THEN greatest(s.failed_history_limit, s.suspend_after_failures)
        ELSE s.failed_history_limit END
    LIMIT $2),
gone AS (
    SELECT scheduler_delete_ended(ARRAY(
        SELECT ctid FROM scheduled_jobs WHERE job_id = ANY(ARRAY(SELECT job_id FROM beyond)) AND finished_at IS NOT NULL
        FOR UPDATE SKIP LOCKED)) AS job_id)
SELECT b.status, count(*) AS rows FROM gone g JOIN beyond b USING (job_id) GROUP BY b.status;

-- name: forget_tombstones
-- Ends of ScheduledJobs that are older than $2 days: their idempotency keys are free again. At most $3 of them.
DELETE FROM scheduler_tombstones WHERE job_id = ANY(ARRAY(
    SELECT job_id FROM scheduler_tombstones
    WHERE tenant = $1 AND finished_at <= scheduler_now() - make_interval(days => $2)
    ORDER BY finished_at LIMIT $3 FOR UPDATE SKIP LOCKED))
RETURNING job_id;

-- name: record_vacuum
-- Sums of the day; several workers add to one row.
INSERT INTO vacuum_stats AS v (stat_date, deleted_completed, deleted_failed, deleted_cancelled, deleted_expired, last_run)
VALUES (scheduler_now()::date, $1, $2, $3, $4, scheduler_now())
ON CONFLICT (stat_date) DO UPDATE SET
    deleted_completed = v.deleted_completed + excluded.deleted_completed,
    deleted_failed = v.deleted_failed + excluded.deleted_failed,
    deleted_cancelled = v.deleted_cancelled + excluded.deleted_cancelled,
    deleted_expired = v.deleted_expired + excluded.deleted_expired,
    last_run = excluded.last_run;

-- name: vacuum_stats
-- Newest first.
SELECT stat_date, deleted_completed, deleted_failed, deleted_cancelled, deleted_expired, last_run
FROM vacuum_stats WHERE stat_date > scheduler_now()::date - $1::int ORDER BY stat_date DESC;

-- name: total_vacuum_stats
-- Over all time.
SELECT coalesce(sum(deleted_completed), 0)::bigint AS total_completed,
       coalesce(sum(deleted_failed), 0)::bigint AS total_failed,
       coalesce(sum(deleted_cancelled), 0)::bigint AS total_cancelled,
       coalesce(sum(deleted_expired), 0)::bigint AS total_expired,
       max(last_run) AS last_vacuum_run
FROM vacuum_stats;
