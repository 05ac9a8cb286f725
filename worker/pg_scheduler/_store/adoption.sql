-- name: older_columns
-- Read from the catalogue: a cache may be older than the lock just taken. Nothing once ours are here, in the same snapshot:
-- another process may have made them since the caller looked.
SELECT c.relname AS table_name, c.relkind::text AS kind, array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relname IN ('scheduled_jobs', 'vacuum_stats') AND pg_catalog.pg_table_is_visible(c.oid)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_class o
                  WHERE o.relname = 'scheduler_migrations' AND pg_catalog.pg_table_is_visible(o.oid))
GROUP BY c.relname, c.relkind;

-- name: lock_older_jobs
-- Before the first look: what is counted is what is rewritten.
LOCK TABLE scheduled_jobs IN ACCESS EXCLUSIVE MODE;

-- name: older_indexes
-- The four that the older package made, by what they hold, since their names are not part of its contract. Indexes that
-- a user has added stay.
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = 'scheduled_jobs'::regclass AND NOT i.indisunique
  AND ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place)
      IN (ARRAY['status', 'priority', 'execution_time'], ARRAY['status', 'lease_until', 'execution_time'],
          ARRAY['status', 'last_heartbeat', 'worker_id'], ARRAY['worker_id', 'status']);

-- name: create_adopted
-- As 0008_adoption.sql makes it for everybody else, but for the clock, which is not there yet.
CREATE TABLE IF NOT EXISTS scheduler_adopted (
    job_id     text        NOT NULL PRIMARY KEY,
    original   json        NOT NULL,
    adopted_at timestamptz NOT NULL DEFAULT now()
);

-- name: keep_originals
-- Every value that no row may have any more, as it is now, under the id that the row is going to have. One look at the
-- table; a row without such a value costs its comparisons only.
INSERT INTO scheduler_adopted (job_id, original)
SELECT CASE WHEN octet_length(j.job_id) BETWEEN 1 AND 200 THEN j.job_id ELSE 'adopted-' || md5(j.job_id) END,
       (SELECT json_object_agg(o.name, o.value) FROM (VALUES
            ('job_id', to_json(j.job_id), octet_length(j.job_id) NOT BETWEEN 1 AND 200),
            ('job_name', to_json(j.job_name), octet_length(j.job_name) > 253),
            ('status', to_json(j.status), coalesce(
                j.status NOT IN ('pending', 'running', 'completed', 'failed', 'cancelled', 'expired'), true)),
            ('priority', to_json(j.priority), coalesce(j.priority NOT IN (1, 3, 5, 8), true)),
            ('execution_time', to_json(j.execution_time::text),
                j.execution_time >= '9999-01-01 00:00:00+00' OR j.execution_time < '0001-01-02 00:00:00+00'),
            ('created_at', to_json(j.created_at::text), coalesce(
                j.created_at >= '9999-01-01 00:00:00+00' OR j.created_at < '0001-01-02 00:00:00+00', true)),
            ('task_data', to_json(j.task_data::text), j.task_data IS NULL),
            ('retry_count', to_json(j.retry_count), coalesce(j.retry_count < 0, true)),
            ('max_retries', to_json(j.max_retries), coalesce(j.max_retries < 0, true)),
            ('misfire_grace_time', to_json(j.misfire_grace_time), j.misfire_grace_time < 0),
            ('lease_until', to_json(j.lease_until::text), j.status = 'running' AND j.lease_until > now() + interval '1 day'),
            ('worker_id', to_json(j.worker_id), octet_length(j.worker_id) > 200
                OR (j.status = 'running' AND j.worker_id IS NULL))
        ) o(name, value, odd) WHERE o.odd)
FROM scheduled_jobs j
WHERE octet_length(j.job_id) NOT BETWEEN 1 AND 200 OR octet_length(j.job_name) > 253
   OR j.status IS NULL OR j.status NOT IN ('pending', 'running', 'completed', 'failed', 'cancelled', 'expired')
   OR j.priority IS NULL OR j.priority NOT IN (1, 3, 5, 8)
   OR j.execution_time >= '9999-01-01 00:00:00+00' OR j.execution_time < '0001-01-02 00:00:00+00'
   OR j.created_at IS NULL OR j.created_at >= '9999-01-01 00:00:00+00' OR j.created_at < '0001-01-02 00:00:00+00'
   OR j.task_data IS NULL OR j.retry_count IS NULL OR j.retry_count < 0 OR j.max_retries IS NULL OR j.max_retries < 0
   OR j.misfire_grace_time < 0 OR octet_length(j.worker_id) > 200
   OR (j.status = 'running' AND (j.worker_id IS NULL OR j.lease_until > now() + interval '1 day'));

-- name: count_originals
-- What is told of them: how many rows of each column.
SELECT o.name, count(*) AS rows FROM scheduler_adopted a CROSS JOIN LATERAL json_object_keys(a.original) o(name)
GROUP BY o.name ORDER BY o.name;

-- name: give_odd_ids
-- Apart from the rewrite: a change of the column's type would check every foreign key on it anew.
UPDATE scheduled_jobs j SET job_id = 'adopted-' || md5(j.job_id) WHERE octet_length(j.job_id) NOT BETWEEN 1 AND 200;

-- name: count_older
-- What is about to be adopted; a lease that has not run out belongs to a worker that may still live.
SELECT count(*) AS jobs,
       count(*) FILTER (WHERE status = 'pending') AS pending,
       count(*) FILTER (WHERE status = 'running') AS running,
       count(*) FILTER (WHERE status = 'pending' AND job_name LIKE 'periodic\_%') AS ticks,
       count(*) FILTER (WHERE status = 'running' AND lease_until > now()) AS leased
FROM scheduled_jobs;

-- name: rewrite_jobs
-- In place of 0001's CREATE TABLE: the same table out of the older one, in one pass over its rows. Expressions after USING
-- see the row as it was; those of generated columns see it as it becomes. Two old columns carry new ones: the heartbeat
-- becomes the end of a job that has ended, and the lease waits for lease_older_workers.
ALTER TABLE scheduled_jobs RENAME COLUMN last_heartbeat TO finished_at;
ALTER TABLE scheduled_jobs
    ALTER COLUMN job_id DROP DEFAULT,
    ADD COLUMN id bigint NOT NULL GENERATED ALWAYS AS IDENTITY CONSTRAINT scheduled_jobs_id_key UNIQUE,
    ADD COLUMN tenant text NOT NULL DEFAULT '',
    ADD COLUMN queue text NOT NULL DEFAULT 'default',
    -- What a periodic function's jobs are called is not what the function is called. Ids that were drawn by lot were never
    -- a tick's.
    ADD COLUMN task text NOT NULL GENERATED ALWAYS AS (CASE
        WHEN octet_length(job_name) > 253 THEN md5(job_name)
        WHEN job_name LIKE 'periodic\_%' AND job_id !~ '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
            THEN substr(job_name, 10)
        ELSE job_name END) STORED,
    ALTER COLUMN task_data TYPE json USING coalesce(task_data::text, '{"args": [], "kwargs": {}}')::json,
    ALTER COLUMN task_data SET NOT NULL,
    ALTER COLUMN priority TYPE integer USING CASE WHEN priority IN (1, 3, 5, 8) THEN priority ELSE 5 END,
    ALTER COLUMN priority SET NOT NULL,
    ALTER COLUMN execution_time TYPE timestamptz USING CASE
        WHEN execution_time >= '9999-01-01 00:00:00+00' THEN '9998-12-31 00:00:00+00'
        WHEN execution_time < '0001-01-02 00:00:00+00' THEN '0001-01-02 00:00:00+00'
        ELSE execution_time END,
    ALTER COLUMN misfire_grace_time TYPE integer USING greatest(misfire_grace_time, CASE WHEN misfire_grace_time < 0 THEN 0 END),
    ADD COLUMN timeout_seconds double precision,
    ALTER COLUMN status TYPE text USING CASE
        WHEN status = 'pending' AND job_name LIKE 'periodic\_%' THEN 'cancelled'
        WHEN status IN ('pending', 'running', 'completed', 'failed', 'cancelled', 'expired') THEN status
        ELSE 'cancelled' END,
    ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN error_message TYPE text USING CASE
        WHEN status = 'pending' AND job_name LIKE 'periodic\_%'
            THEN 'adopted from pg-scheduler 0.2.3: its schedule now makes its ticks from scheduler_schedules'
        WHEN status IN ('pending', 'running', 'completed', 'failed', 'cancelled', 'expired') THEN error_message
        ELSE concat_ws('; ', 'adopted from pg-scheduler 0.2.3: its status was ' || coalesce(quote_literal(status), 'NULL')
                             || ', which no worker runs', error_message) END,
    ALTER COLUMN finished_at TYPE timestamptz USING CASE
        WHEN status IN ('completed', 'failed', 'cancelled', 'expired') THEN greatest('0001-01-02 00:00:00+00',
            least(scheduler_now(), coalesce(finished_at, greatest(created_at, execution_time))))
        WHEN status = 'running' OR (status = 'pending' AND job_name NOT LIKE 'periodic\_%') THEN NULL
        ELSE scheduler_now() END,
    ALTER COLUMN lease_until TYPE timestamptz USING CASE WHEN status = 'running' THEN greatest(
        scheduler_now(), least(scheduler_now() + interval '1 day',
                               coalesce(lease_until, finished_at + interval '120 seconds', scheduler_now()))) END,
    ADD COLUMN suspended boolean NOT NULL DEFAULT false,
    ALTER COLUMN created_at TYPE timestamptz USING CASE
        WHEN created_at < '9999-01-01 00:00:00+00' AND created_at >= '0001-01-02 00:00:00+00' THEN created_at
        ELSE scheduler_now() END,
    ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN created_at SET DEFAULT scheduler_now(),
    ADD COLUMN started_at timestamptz,
    ALTER COLUMN worker_id TYPE text USING CASE
        WHEN octet_length(worker_id) > 200 THEN md5(worker_id)
        WHEN status = 'running' THEN coalesce(worker_id, 'pg-scheduler 0.2.3')
        ELSE worker_id END,
    ADD COLUMN token bigint NOT NULL DEFAULT 0,
    ADD COLUMN attempt bigint NOT NULL GENERATED ALWAYS AS (
        retry_count::bigint + CASE WHEN status IN ('running', 'completed', 'failed') THEN 1 ELSE 0 END) STORED,
    ALTER COLUMN retry_count TYPE integer USING greatest(retry_count, 0),
    ALTER COLUMN retry_count SET NOT NULL,
    ALTER COLUMN max_retries TYPE integer USING greatest(max_retries, 0),
    ALTER COLUMN max_retries SET NOT NULL,
    ADD COLUMN interruptions bigint NOT NULL DEFAULT 0,
    ADD COLUMN schedule_id bigint,
    ADD COLUMN tick_at timestamptz,
    ADD COLUMN concurrency_key text,
    ADD COLUMN stopping_worker text,
    ADD COLUMN stop_asked_at timestamptz,
    ADD COLUMN source_cluster text,
    ADD COLUMN source_kind text,
    ADD COLUMN source_uid text,
    ADD COLUMN source_name text,
    ADD COLUMN source_generation bigint,
    ADD COLUMN traceparent text,
    ADD CONSTRAINT scheduled_jobs_job_id_fits_an_index CHECK (octet_length(job_id) BETWEEN 1 AND 200),
    ADD CONSTRAINT scheduled_jobs_status_is_known
        CHECK (status IN ('pending', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'expired')),
    ADD CONSTRAINT scheduled_jobs_priority_is_known CHECK (priority IN (1, 3, 5, 8)),
    ADD CONSTRAINT scheduled_jobs_running_has_a_worker CHECK (status <> 'running' OR worker_id IS NOT NULL),
    ADD CONSTRAINT scheduled_jobs_due_before_9999 CHECK (execution_time < '9999-01-01 00:00:00+00'),
    ADD CONSTRAINT scheduled_jobs_final_has_an_end
        CHECK ((status IN ('completed', 'failed', 'cancelled', 'expired')) = (finished_at IS NOT NULL)),
    SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
ALTER TABLE scheduled_jobs
    ALTER COLUMN task DROP EXPRESSION,
    ALTER COLUMN attempt DROP EXPRESSION;
ALTER TABLE scheduled_jobs ALTER COLUMN attempt SET DEFAULT 0;

-- name: rewrite_vacuum_stats
-- In place of 0002's CREATE TABLE.
ALTER TABLE vacuum_stats
    ALTER COLUMN deleted_completed TYPE bigint USING greatest(deleted_completed, 0),
    ALTER COLUMN deleted_completed SET DEFAULT 0,
    ALTER COLUMN deleted_completed SET NOT NULL,
    ALTER COLUMN deleted_failed TYPE bigint USING greatest(deleted_failed, 0),
    ALTER COLUMN deleted_failed SET DEFAULT 0,
    ALTER COLUMN deleted_failed SET NOT NULL,
    ALTER COLUMN deleted_cancelled TYPE bigint USING greatest(deleted_cancelled, 0),
    ALTER COLUMN deleted_cancelled SET DEFAULT 0,
    ALTER COLUMN deleted_cancelled SET NOT NULL,
    ADD COLUMN deleted_expired bigint NOT NULL DEFAULT 0;

-- name: lease_older_workers
-- Older workers may still run what they hold: each stands as a worker that can take nothing, until the last of its leases
-- has run out. Then the sweep of any worker takes its jobs back, as it does for every worker that falls silent.
INSERT INTO scheduler_workers (id, tenant, queues, tasks, slots, lease_until, version)
SELECT worker_id, '', '{}', '{}', least(count(*), 100000), max(lease_until), 'pg-scheduler 0.2.3'
FROM scheduled_jobs WHERE status = 'running' GROUP BY worker_id;

-- name: drop_older_columns
-- A statement of the older package fails from now on, instead of writing what nobody fences.
ALTER TABLE scheduled_jobs DROP COLUMN lease_until;
ALTER TABLE scheduler_adopted ALTER COLUMN adopted_at SET DEFAULT scheduler_now();

-- name: analyze_jobs
-- After the commit: the rewrite left the planner without a notion of the table.
ANALYZE scheduled_jobs;
