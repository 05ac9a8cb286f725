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

-- name: has_migrations
-- Whether this database was ever migrated.
SELECT to_regclass('scheduler_migrations') IS NOT NULL;

-- name: has_foreign_jobs
-- A table of our name without our marks belongs to the older package.
SELECT to_regclass('scheduled_jobs') IS NOT NULL;
