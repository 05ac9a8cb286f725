-- name: create_migrations
-- What was applied here, by which file, and the oldest release that may still read the result.
CREATE TABLE IF NOT EXISTS scheduler_migrations (
    version    integer     NOT NULL PRIMARY KEY,
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    min_reader integer     NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: try_lock_migrations
-- One migrator at a time; the lock ends with its transaction, so no pooler can leak it. Asked for again and again instead of
-- waited for: who waits holds a snapshot, and CREATE INDEX CONCURRENTLY waits for every snapshot.
SELECT pg_try_advisory_xact_lock(hashtextextended('pgscheduler.migrations', 0));

-- name: limit_migration
-- Two seconds is the longest that a migration may stand in the queue for a lock, since everybody stands behind it. A
-- process that is frozen in its transaction gives it up; how long a statement takes is for the migration to say.
SELECT set_config('lock_timeout', '2s', true), set_config('statement_timeout', '0', true),
       set_config('idle_in_transaction_session_timeout', '20s', true);

-- name: stand_guard
-- For a transaction that only holds the lock while an index is made beside it, for as long as that takes. The last statement
-- of an open transaction keeps its snapshot, and CREATE INDEX CONCURRENTLY waits for every snapshot: sent as a simple
-- query, this one takes that statement's place and lets its own go.
SELECT set_config('idle_in_transaction_session_timeout', '0', true);

-- name: applied_migrations
-- In order.
SELECT version, name, sha256, min_reader FROM scheduler_migrations ORDER BY version;

-- name: record_migration
-- In the transaction of the migration itself.
INSERT INTO scheduler_migrations (version, name, sha256, min_reader) VALUES ($1, $2, $3, $4);

-- name: tables_here
-- Read from the catalogue in one snapshot: to_regclass may answer from a cache that is older than the lock just taken.
SELECT coalesce(bool_or(relname = 'scheduler_migrations'), false) AS ours
FROM pg_catalog.pg_class
WHERE relname = 'scheduler_migrations' AND pg_catalog.pg_table_is_visible(oid);

-- name: visible_tables
-- Those of some tables that are there.
SELECT relname::text FROM pg_catalog.pg_class
WHERE relname = ANY($1::text[]) AND relkind = 'r' AND pg_catalog.pg_table_is_visible(oid) ORDER BY relname;

-- name: missing_objects
-- What schema.sql makes and the catalogue lacks, in the order of the file. A default exists where its table does.
SELECT o.place FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY o(kind, parent, name, place)
WHERE NOT CASE
    WHEN o.kind = 'FUNCTION' THEN pg_catalog.to_regprocedure(o.name) IS NOT NULL
    WHEN o.kind = 'DEFAULT' THEN EXISTS (
        SELECT FROM pg_catalog.pg_class c WHERE c.relname = o.parent AND pg_catalog.pg_table_is_visible(c.oid))
    WHEN o.kind IN ('CONSTRAINT', 'FK CONSTRAINT') THEN EXISTS (
        SELECT FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
        WHERE k.conname = o.name AND c.relname = o.parent AND pg_catalog.pg_table_is_visible(c.oid))
    WHEN o.kind = 'TRIGGER' THEN EXISTS (
        SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
        WHERE t.tgname = o.name AND c.relname = o.parent AND pg_catalog.pg_table_is_visible(c.oid))
    ELSE EXISTS (
        SELECT FROM pg_catalog.pg_class c WHERE c.relname = o.name AND pg_catalog.pg_table_is_visible(c.oid))
    END
ORDER BY o.place;

-- name: unvalidated_constraints
-- Ours that a migration has added without a look at the rows that were there, so that nobody waited for that look.
SELECT format('ALTER TABLE %I VALIDATE CONSTRAINT %I', c.relname, k.conname) AS validate
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
WHERE NOT k.convalidated AND pg_catalog.pg_table_is_visible(c.oid)
  AND (k.conname LIKE 'scheduled\_jobs\_%' OR k.conname LIKE 'scheduler\_%')
ORDER BY c.relname, k.conname;

-- name: invalid_index
-- What an interrupted CREATE INDEX CONCURRENTLY leaves: no query uses it, and every write keeps it up.
SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE c.relname = $1 AND pg_catalog.pg_table_is_visible(c.oid) AND NOT i.indisvalid;

-- name: older_workers_live
-- Whether a worker of release $1 (major, minor) or an older one may still run; a version that is no version is a build of
-- today's.
SELECT EXISTS (
    SELECT 1 FROM scheduler_workers
    WHERE state <> 'dead' AND (regexp_match(version, '^(\d+)\.(\d+)'))::int[] <= $1::int[]);
