-- min_reader: 1
-- What a ScheduledJob's row has to know beyond its job: what it was made from, for who asks for the same again, and what becomes
-- of it when the resource goes while no operator looks.

ALTER TABLE scheduled_jobs
    ADD COLUMN source_digest text,
    ADD COLUMN source_deletion text,
    ADD CONSTRAINT scheduled_jobs_source_deletion_is_known
        CHECK (source_deletion IN ('cancel_pending', 'cancel', 'orphan')) NOT VALID;

-- How the job of a ScheduledJob ended: it outlives the job's row, so that what is applied again under an idempotency key, or has
-- ended and been cleaned up while no operator looked, does not run again.
CREATE TABLE scheduler_tombstones (
    job_id          text PRIMARY KEY,
    tenant          text NOT NULL,
    queue           text NOT NULL,
    task            text NOT NULL,
    status          text NOT NULL CHECK (status IN ('completed', 'failed', 'cancelled', 'expired')),
    execution_time  timestamptz NOT NULL,
    attempt         bigint NOT NULL,
    started_at      timestamptz,
    finished_at     timestamptz NOT NULL,
    source_digest   text
);

CREATE INDEX scheduler_tombstones_finished ON scheduler_tombstones (tenant, finished_at);

-- As before, and a ScheduledJob leaves its tombstone, unless it was cancelled before it had ever started: then nothing has been
-- done, and its key is free.
CREATE OR REPLACE FUNCTION scheduler_delete_ended(places tid[]) RETURNS SETOF text
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN QUERY WITH gone AS (
        DELETE FROM scheduled_jobs WHERE ctid = ANY(places) AND finished_at IS NOT NULL
        RETURNING job_id, tenant, queue, task, schedule_id, tick_at, status, error_message, execution_time, attempt, started_at,
                  finished_at, source_kind, source_digest),
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
            ticks = o.ticks + excluded.ticks, failed = o.failed + excluded.failed),
    buried AS (
        INSERT INTO scheduler_tombstones (job_id, tenant, queue, task, status, execution_time, attempt, started_at, finished_at,
                                          source_digest)
        SELECT g.job_id, g.tenant, g.queue, g.task, g.status, g.execution_time, g.attempt, g.started_at, g.finished_at,
               g.source_digest
        FROM gone g
        WHERE (g.source_kind = 'ScheduledJob' OR g.job_id LIKE 'key:%') AND NOT (g.status = 'cancelled' AND g.attempt = 0)
        ON CONFLICT (job_id) DO NOTHING)
    SELECT g.job_id FROM gone g;
END $$;
