-- min_reader: 1
-- The options that a schedule gives to the job of each tick, and the mark of a schedule that no code declares any more.

ALTER TABLE scheduler_schedules
    ADD COLUMN timeout_seconds double precision,
    ADD COLUMN retry_policy    json,
    ADD COLUMN on_interrupt    text NOT NULL DEFAULT 'retry',
    ADD COLUMN tags            json,
    ADD COLUMN metadata        json,
    ADD COLUMN retired_at      timestamptz,
    ADD COLUMN retired_reason  text,
    ADD CONSTRAINT scheduler_schedules_timeout_is_positive CHECK (timeout_seconds > 0),
    ADD CONSTRAINT scheduler_schedules_on_interrupt_is_known CHECK (on_interrupt IN ('retry', 'fail')),
    ADD CONSTRAINT scheduler_schedules_retired_has_a_reason CHECK ((retired_at IS NULL) = (retired_reason IS NULL));
