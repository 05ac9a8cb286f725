-- name: create_migrations
-- What was applied here, by which file, and the oldest release that may still read the result.
CREATE TABLE IF NOT EXISTS scheduler_migrations (
    version    integer     NOT NULL PRIMARY KEY,
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    min_reader integer     NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: lock_migrations
-- One migrator at a time; the lock ends with its transaction, so no pooler can leak it.
SELECT pg_advisory_xact_lock(hashtextextended('pgscheduler.migrations', 0));

-- name: applied_migrations
-- In order.
SELECT version, name, sha256, min_reader FROM scheduler_migrations ORDER BY version;

-- name: record_migration
-- In the transaction of the migration itself.
INSERT INTO scheduler_migrations (version, name, sha256, min_reader) VALUES ($1, $2, $3, $4);

-- name: tables_here
-- Read from the catalogue in one snapshot: to_regclass may answer from a cache that is older than the lock just taken.
SELECT coalesce(bool_or(relname = 'scheduler_migrations'), false) AS ours,
       coalesce(bool_or(relname = 'scheduled_jobs'), false) AS jobs
FROM pg_catalog.pg_class
WHERE relname IN ('scheduler_migrations', 'scheduled_jobs') AND pg_catalog.pg_table_is_visible(oid);
