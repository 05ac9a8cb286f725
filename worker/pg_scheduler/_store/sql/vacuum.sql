-- name: delete_finished_before
-- The oldest of one status, by their end and not by their making; at most $4 rows, so that no claim waits for the rest.
-- Not while a coroutine of the job may still run: with the row would go its slot.
SELECT scheduler_delete_ended(ARRAY(
    SELECT ctid FROM scheduled_jobs
    WHERE finished_at <= scheduler_now() - make_interval(days => $3) AND status = $2 AND tenant = $1
      AND stopping_worker IS NULL
    ORDER BY finished_at LIMIT $4 FOR UPDATE SKIP LOCKED));

-- name: delete_finished_beyond
-- All but the $3 newest of each job name.
SELECT scheduler_delete_ended(ARRAY(
    SELECT r.place_of_row FROM (
        SELECT ctid AS place_of_row, row_number() OVER (PARTITION BY job_name ORDER BY finished_at DESC, id DESC) AS place
        FROM scheduled_jobs WHERE finished_at IS NOT NULL AND status = $2 AND tenant = $1 AND stopping_worker IS NULL) r
    WHERE r.place > $3 LIMIT $4));

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
