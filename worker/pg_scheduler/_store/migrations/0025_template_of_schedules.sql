-- min_reader: 1
-- What the jobs of a schedule are given beyond its task: how many of their concurrency key may run, and whether their results
-- are kept. A limit may stand without a key: release 0.3 takes the key away and does not know of the limit. A file of its own, since a transaction that holds the jobs and waits for the schedules would meet with the ticker.

ALTER TABLE scheduler_schedules
    ADD COLUMN concurrency_limit integer,
    ADD COLUMN keep_result boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT scheduler_schedules_concurrency_limit_fits
        CHECK (concurrency_limit BETWEEN 1 AND 10000) NOT VALID;
