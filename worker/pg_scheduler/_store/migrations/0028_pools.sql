-- min_reader: 1
-- What the operator keeps of a pool of workers while the pool has none: the queues and tasks that its workers have registered,
-- since when it is asked for others, and how long its newest pods took to their first heartbeat. And since when a worker is
-- drained: the mark itself (drain_until) is renewed, so it does not tell.

CREATE TABLE scheduler_pools (
    tenant    text   NOT NULL,
    name      text   NOT NULL,
    queues    text[] NOT NULL,
    tasks     text[] NOT NULL,
    strangers json   NOT NULL,
    starts    json   NOT NULL,
    PRIMARY KEY (tenant, name),
    CONSTRAINT scheduler_pools_are_small CHECK (
        cardinality(queues) <= 500 AND cardinality(tasks) <= 500 AND length(strangers::text || starts::text) <= 100000)
);

ALTER TABLE scheduler_workers ADD COLUMN drain_since timestamptz;
