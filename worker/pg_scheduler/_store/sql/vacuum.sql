-- name: delete_finished_before
-- The oldest of one status, by their end and not by their making; at most $4 rows, so that no claim waits for the rest.
-- Not while a coroutine of the job may still run: with the row would go its slot. The job of a tick is the record of its tick:
-- what is deleted is added to the ranges of its schedule, a month and an outcome each, unless the schedule is gone.
WITH old AS (
    SELECT ctid FROM scheduled_jobs
    WHERE finished_at <= scheduler_now() - make_interval(days => $3) AND status = $2 AND tenant = $1
      AND stopping_worker IS NULL
    ORDER BY finished_at LIMIT $4 FOR UPDATE SKIP LOCKED),
gone AS (
    DELETE FROM scheduled_jobs WHERE ctid = ANY(ARRAY(SELECT ctid FROM old))
    RETURNING job_id, schedule_id, tick_at, status, error_message),
ranges AS (
    SELECT g.schedule_id, scheduler_tick_outcome(g.status, g.error_message) AS outcome,
           date_trunc('month', g.tick_at AT TIME ZONE 'UTC')::date AS month, min(g.tick_at) AS first_tick_at,
           max(g.tick_at) AS last_tick_at, count(*) AS ticks, count(*) FILTER (WHERE g.status = 'failed') AS failed
    FROM gone g WHERE g.tick_at BETWEEN '0001-01-02' AND '9999-01-01'
    GROUP BY 1, 2, 3),
alive AS MATERIALIZED (
    SELECT id FROM scheduler_schedules WHERE id IN (SELECT schedule_id FROM ranges) FOR KEY SHARE),
told AS (
    INSERT INTO scheduler_occurrences AS o (schedule_id, outcome, month, first_tick_at, last_tick_at, ticks, failed)
    SELECT r.schedule_id, r.outcome, r.month, r.first_tick_at, r.last_tick_at, r.ticks, r.failed
    FROM ranges r JOIN alive a ON a.id = r.schedule_id ORDER BY 1, 2, 3
    ON CONFLICT (schedule_id, outcome, month) WHERE month IS NOT NULL DO UPDATE SET
        first_tick_at = least(o.first_tick_at, excluded.first_tick_at),
        last_tick_at = greatest(o.last_tick_at, excluded.last_tick_at),
        ticks = o.ticks + excluded.ticks, failed = o.failed + excluded.failed)
SELECT job_id FROM gone;

-- name: delete_finished_beyond
-- All but the $3 newest of each job name; as delete_finished_before.
WITH ranked AS (
    SELECT ctid AS place_of_row, row_number() OVER (PARTITION BY job_name ORDER BY finished_at DESC, id DESC) AS place
    FROM scheduled_jobs WHERE finished_at IS NOT NULL AND status = $2 AND tenant = $1 AND stopping_worker IS NULL),
old AS (SELECT place_of_row FROM ranked WHERE place > $3 LIMIT $4),
gone AS (
    DELETE FROM scheduled_jobs WHERE ctid = ANY(ARRAY(SELECT place_of_row FROM old)) AND finished_at IS NOT NULL
    RETURNING job_id, schedule_id, tick_at, status, error_message),
ranges AS (
    SELECT g.schedule_id, scheduler_tick_outcome(g.status, g.error_message) AS outcome,
           date_trunc('month', g.tick_at AT TIME ZONE 'UTC')::date AS month, min(g.tick_at) AS first_tick_at,
           max(g.tick_at) AS last_tick_at, count(*) AS ticks, count(*) FILTER (WHERE g.status = 'failed') AS failed
    FROM gone g WHERE g.tick_at BETWEEN '0001-01-02' AND '9999-01-01'
    GROUP BY 1, 2, 3),
alive AS MATERIALIZED (
    SELECT id FROM scheduler_schedules WHERE id IN (SELECT schedule_id FROM ranges) FOR KEY SHARE),
told AS (
    INSERT INTO scheduler_occurrences AS o (schedule_id, outcome, month, first_tick_at, last_tick_at, ticks, failed)
    SELECT r.schedule_id, r.outcome, r.month, r.first_tick_at, r.last_tick_at, r.ticks, r.failed
    FROM ranges r JOIN alive a ON a.id = r.schedule_id ORDER BY 1, 2, 3
    ON CONFLICT (schedule_id, outcome, month) WHERE month IS NOT NULL DO UPDATE SET
        first_tick_at = least(o.first_tick_at, excluded.first_tick_at),
        last_tick_at = greatest(o.last_tick_at, excluded.last_tick_at),
        ticks = o.ticks + excluded.ticks, failed = o.failed + excluded.failed)
SELECT job_id FROM gone;

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
