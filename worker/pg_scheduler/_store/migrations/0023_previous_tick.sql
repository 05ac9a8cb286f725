-- min_reader: 1
-- The tick before a job's own for which its schedule made a job. A file of its own, since a transaction that holds the schedules
-- and waits for the jobs would meet with a worker's look at both.

ALTER TABLE scheduled_jobs ADD COLUMN previous_tick_at timestamptz;
