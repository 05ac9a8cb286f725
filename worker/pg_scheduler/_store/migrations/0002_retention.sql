-- min_reader: 1
-- Figures of the vacuum, a row a day; the older package's table with the status that it never deleted.

CREATE TABLE vacuum_stats (
    stat_date         date        NOT NULL PRIMARY KEY,
    deleted_completed bigint      NOT NULL DEFAULT 0,
    deleted_failed    bigint      NOT NULL DEFAULT 0,
    deleted_cancelled bigint      NOT NULL DEFAULT 0,
    deleted_expired   bigint      NOT NULL DEFAULT 0,
    last_run          timestamptz,
    worker_id         text
);
