-- min_reader: 1
-- What a schedule says beside its rule: bounds, policies, who suspended it and why; and the ledger, in which every planned
-- tick is accounted for. The job of a tick is its record while it lives; what had no job is a row here, and what retention
-- deletes is added to a range a month.
--
-- ticks, which counts since 0001, is the number of planned ticks: a worker of the previous release adds the jobs that it
-- makes and tells of nothing else, so that the sum holds in a mixed fleet too.

ALTER TABLE scheduler_schedules
    ADD COLUMN phase_seconds             bigint  NOT NULL DEFAULT 0,
    ADD COLUMN seconds                   text    NOT NULL DEFAULT '0',
    ADD COLUMN nonexistent               text    NOT NULL DEFAULT 'shift_forward',
    ADD COLUMN ambiguous                 text    NOT NULL DEFAULT 'first',
    ADD COLUMN jitter_seconds            integer NOT NULL DEFAULT 0,
    ADD COLUMN start_at                  timestamptz,
    ADD COLUMN end_at                    timestamptz,
    ADD COLUMN max_runs                  integer,
    ADD COLUMN missed                    text    NOT NULL DEFAULT 'run_latest',
    ADD COLUMN max_catch_up              integer NOT NULL DEFAULT 100,
    ADD COLUMN starting_deadline_seconds integer,
    ADD COLUMN overlap                   text    NOT NULL DEFAULT 'allow',
    ADD COLUMN suspend_after_failures    integer,
    ADD COLUMN runs                      bigint  NOT NULL DEFAULT 0,
    ADD COLUMN last_run_tick_at          timestamptz,
    ADD COLUMN suspended_at              timestamptz,
    ADD COLUMN suspended_by              text,
    ADD COLUMN suspend_reason            text    NOT NULL DEFAULT '',
    ADD COLUMN halted_at                 timestamptz,
    ADD COLUMN halted_reason             text,
    ADD COLUMN time_zone_data            text,
    ADD CONSTRAINT scheduler_schedules_words_are_known CHECK (
        nonexistent IN ('shift_forward', 'skip') AND ambiguous IN ('first', 'last', 'both')
        AND missed IN ('run_latest', 'skip', 'run_all') AND overlap IN ('allow', 'skip', 'queue', 'replace')),
    ADD CONSTRAINT scheduler_schedules_numbers_fit CHECK (
        jitter_seconds >= 0 AND jitter_seconds <= 86400 AND max_runs >= 1 AND max_catch_up >= 1 AND max_catch_up <= 10000
        AND starting_deadline_seconds >= 0 AND suspend_after_failures >= 1
        AND phase_seconds >= 0 AND phase_seconds < coalesce(interval_seconds, 1)),
    ADD CONSTRAINT scheduler_schedules_end_is_after_start CHECK (end_at >= start_at),
    ADD CONSTRAINT scheduler_schedules_halted_has_a_reason CHECK ((halted_at IS NULL) = (halted_reason IS NULL)),
    ADD CONSTRAINT scheduler_schedules_halted_does_not_tick CHECK (halted_at IS NULL OR next_tick_at IS NULL);
UPDATE scheduler_schedules SET runs = ticks, last_run_tick_at = last_tick_at;

CREATE TABLE scheduler_occurrences (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule_id   bigint NOT NULL REFERENCES scheduler_schedules ON DELETE CASCADE,
    outcome       text   NOT NULL,
    first_tick_at timestamptz NOT NULL,
    last_tick_at  timestamptz NOT NULL,
    ticks         bigint NOT NULL,
    failed        bigint NOT NULL DEFAULT 0,
    reason        text   NOT NULL DEFAULT '',
    recorded_at   timestamptz NOT NULL DEFAULT scheduler_now(),
    month         date,
    CONSTRAINT scheduler_occurrences_outcome_is_known CHECK (outcome IN (
        'ran', 'coalesced', 'skipped_overlap', 'skipped_suspended', 'missed', 'cancelled', 'unrecorded')),
    CONSTRAINT scheduler_occurrences_is_a_range CHECK (
        last_tick_at >= first_tick_at AND ticks >= 1 AND failed BETWEEN 0 AND ticks)
);
CREATE UNIQUE INDEX scheduler_occurrences_month ON scheduler_occurrences (schedule_id, outcome, month) WHERE month IS NOT NULL;
CREATE INDEX scheduler_occurrences_schedule ON scheduler_occurrences (schedule_id, first_tick_at);

-- How a schedule stands beside its row. The newest start is found by the index of the ticks, from its end, and among the extra
-- runs, which are few.
CREATE VIEW scheduler_schedule_runs AS
SELECT s.id AS schedule_id, coalesce(ahead.tick_at, s.next_tick_at) AS next_run_at, newest.started_at AS last_run_at,
       newest.status AS last_status
FROM scheduler_schedules s
CROSS JOIN LATERAL (
    SELECT min(j.tick_at) AS tick_at FROM scheduled_jobs j
    WHERE j.schedule_id = s.id AND j.tick_at > scheduler_now()) ahead
LEFT JOIN LATERAL (
    (SELECT j.started_at, j.status FROM scheduled_jobs j
     WHERE j.schedule_id = s.id AND j.tick_at <= scheduler_now() AND j.started_at IS NOT NULL
     ORDER BY j.tick_at DESC LIMIT 1)
    UNION ALL
    (SELECT j.started_at, j.status FROM scheduled_jobs j
     WHERE j.schedule_id = s.id AND j.tick_at IS NULL AND j.started_at IS NOT NULL
     ORDER BY j.started_at DESC LIMIT 1)
    ORDER BY started_at DESC LIMIT 1) newest ON true;

-- Delete ended jobs by their places; the job of a tick is the record of its tick, so that what is deleted is added to the ranges
-- of its schedule, a month and an outcome each, unless the schedule is gone.
CREATE FUNCTION scheduler_delete_ended(places tid[]) RETURNS SETOF text
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN QUERY WITH gone AS (
        DELETE FROM scheduled_jobs WHERE ctid = ANY(places) AND finished_at IS NOT NULL
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
    SELECT g.job_id FROM gone g;
END $$;

-- planned = open + ran + coalesced + skipped_overlap + skipped_suspended + missed + cancelled + unrecorded, or unaccounted
-- says by how much not. failed are among those that ran.
CREATE VIEW scheduler_ledger AS
SELECT s.id AS schedule_id, s.tenant, s.source_kind, s.source_uid, s.source_name AS schedule, s.ticks AS planned,
       j.open, j.ran + o.ran AS ran, j.failed + o.failed AS failed, o.coalesced,
       j.skipped_overlap + o.skipped_overlap AS skipped_overlap, o.skipped_suspended, j.missed + o.missed AS missed,
       j.cancelled + o.cancelled AS cancelled, o.unrecorded,
       s.ticks - j.jobs - o.ticks AS unaccounted
FROM scheduler_schedules s
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs, count(*) FILTER (WHERE t.outcome = 'open') AS open, count(*) FILTER (WHERE t.outcome = 'ran') AS ran,
           count(*) FILTER (WHERE t.status = 'failed') AS failed,
           count(*) FILTER (WHERE t.outcome = 'skipped_overlap') AS skipped_overlap,
           count(*) FILTER (WHERE t.outcome = 'missed') AS missed, count(*) FILTER (WHERE t.outcome = 'cancelled') AS cancelled
    FROM (SELECT j.status, scheduler_tick_outcome(j.status, j.error_message) AS outcome FROM scheduled_jobs j
          WHERE j.schedule_id = s.id AND j.tick_at IS NOT NULL) t) j
CROSS JOIN LATERAL (
    SELECT coalesce(sum(o.ticks), 0)::bigint AS ticks,
           coalesce(sum(o.ticks) FILTER (WHERE o.outcome = 'ran'), 0)::bigint AS ran, coalesce(sum(o.failed), 0)::bigint AS failed,
           coalesce(sum(o.ticks) FILTER (WHERE o.outcome = 'coalesced'), 0)::bigint AS coalesced,
           coalesce(sum(o.ticks) FILTER (WHERE o.outcome = 'skipped_overlap'), 0)::bigint AS skipped_overlap,
           coalesce(sum(o.ticks) FILTER (WHERE o.outcome = 'skipped_suspended'), 0)::bigint AS skipped_suspended,
           coalesce(sum(o.ticks) FILTER (WHERE o.outcome = 'missed'), 0)::bigint AS missed,
           coalesce(sum(o.ticks) FILTER (WHERE o.outcome = 'cancelled'), 0)::bigint AS cancelled,
           coalesce(sum(o.ticks) FILTER (WHERE o.outcome = 'unrecorded'), 0)::bigint AS unrecorded
    FROM scheduler_occurrences o WHERE o.schedule_id = s.id) o;

-- The operator asks every second for what has been halted since.
CREATE INDEX scheduler_schedules_halted ON scheduler_schedules (halted_at) WHERE halted_at IS NOT NULL;
