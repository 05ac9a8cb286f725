-- min_reader: 1
-- How many rows of ended jobs a schedule keeps, and what becomes of its jobs when it is deleted: the sweep asks the row, since
-- the object is gone. Null leaves the rows to the retention by age, as all schedules of code do.

ALTER TABLE scheduler_schedules
    ADD COLUMN successful_history_limit integer,
    ADD COLUMN failed_history_limit     integer,
    ADD COLUMN deletion                 text NOT NULL DEFAULT 'cancel_pending',
    ADD CONSTRAINT scheduler_schedules_history_fits CHECK (
        successful_history_limit >= 0 AND successful_history_limit <= 10000 AND failed_history_limit >= 0
        AND failed_history_limit <= 10000 AND (successful_history_limit IS NULL) = (failed_history_limit IS NULL)),
    ADD CONSTRAINT scheduler_schedules_deletion_is_known CHECK (deletion IN ('cancel_pending', 'cancel', 'orphan'));

-- The operator asks every second for schedules whose tick nobody has taken up, and for what became of ticks without a job.
CREATE INDEX scheduler_schedules_overdue ON scheduler_schedules (next_tick_at) WHERE source_kind = 'PeriodicJob';
CREATE INDEX scheduler_occurrences_recorded ON scheduler_occurrences (recorded_at) WHERE month IS NULL;
