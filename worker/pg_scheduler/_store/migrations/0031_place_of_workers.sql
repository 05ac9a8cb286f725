-- min_reader: 1
-- Where a worker runs, and which pool's settings it heeds: for who looks for it.

ALTER TABLE scheduler_workers
    ADD COLUMN pod_namespace text,
    ADD COLUMN node          text,
    ADD COLUMN pool          text;
