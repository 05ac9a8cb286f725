-- min_reader: 1
-- Jobs, workers, schedules, and the record of failed attempts.

-- Every start of a job draws a higher token; only the holder of a row's current token may write the row's outcome.
CREATE SEQUENCE scheduler_token AS bigint;

-- The one clock. Statements say scheduler_now(), which PostgreSQL inlines; tests replace it in their own database.
CREATE FUNCTION scheduler_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE RETURN now();

CREATE TABLE scheduled_jobs (
    job_id             text        NOT NULL PRIMARY KEY,
    id                 bigint      NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    tenant             text        NOT NULL DEFAULT '',
    queue              text        NOT NULL DEFAULT 'default',
    task               text        NOT NULL,
    job_name           text        NOT NULL,
    task_data          json        NOT NULL,
    priority           integer     NOT NULL DEFAULT 5,
    execution_time     timestamptz NOT NULL,
    misfire_grace_time integer,
    timeout_seconds    double precision,
    status             text        NOT NULL DEFAULT 'pending',
    suspended          boolean     NOT NULL DEFAULT false,
    created_at         timestamptz NOT NULL DEFAULT scheduler_now(),
    started_at         timestamptz,
    finished_at        timestamptz,
    worker_id          text,
    token              bigint      NOT NULL DEFAULT 0,
    attempt            bigint      NOT NULL DEFAULT 0,
    retry_count        integer     NOT NULL DEFAULT 0,
    max_retries        integer     NOT NULL DEFAULT 0,
    interruptions      bigint      NOT NULL DEFAULT 0,
    error_message      text,
    schedule_id        bigint,
    tick_at            timestamptz,
    concurrency_key    text,
    stopping_worker    text,
    stop_asked_at      timestamptz,
    source_cluster     text,
    source_kind        text,
    source_uid         text,
    source_name        text,
    source_generation  bigint,
    traceparent        text,
    CONSTRAINT scheduled_jobs_job_id_fits_an_index CHECK (octet_length(job_id) BETWEEN 1 AND 200),
    CONSTRAINT scheduled_jobs_status_is_known
        CHECK (status IN ('pending', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'expired')),
    CONSTRAINT scheduled_jobs_priority_is_known CHECK (priority IN (1, 3, 5, 8)),
    CONSTRAINT scheduled_jobs_running_has_a_worker CHECK (status <> 'running' OR worker_id IS NOT NULL),
    CONSTRAINT scheduled_jobs_due_before_9999 CHECK (execution_time < '9999-01-01 00:00:00+00'),
    CONSTRAINT scheduled_jobs_final_has_an_end
        CHECK ((status IN ('completed', 'failed', 'cancelled', 'expired')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);

-- Claim and finish each change which of these hold a row, so that two updates a job are never HOT: add none lightly.
CREATE INDEX scheduled_jobs_due ON scheduled_jobs (tenant, queue, priority, execution_time, id) INCLUDE (task)
    WHERE status = 'pending' AND NOT suspended AND concurrency_key IS NULL;
CREATE INDEX scheduled_jobs_due_keyed ON scheduled_jobs (tenant, queue, priority, execution_time, id) INCLUDE (task)
    WHERE status = 'pending' AND NOT suspended AND concurrency_key IS NOT NULL;
CREATE INDEX scheduled_jobs_running ON scheduled_jobs (worker_id, token) WHERE status = 'running';
CREATE INDEX scheduled_jobs_waiting ON scheduled_jobs (tenant, concurrency_key) WHERE status = 'waiting';
CREATE INDEX scheduled_jobs_finished ON scheduled_jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX scheduled_jobs_tick ON scheduled_jobs (schedule_id, tick_at) WHERE schedule_id IS NOT NULL;
CREATE INDEX scheduled_jobs_stopping ON scheduled_jobs (stopping_worker) WHERE stopping_worker IS NOT NULL;
CREATE INDEX scheduled_jobs_open_by_source ON scheduled_jobs (source_cluster)
    WHERE source_uid IS NOT NULL AND finished_at IS NULL;

-- A row for each failed attempt. The text of an error stays here and in error_message, never in a log or a status.
CREATE TABLE scheduler_attempts (
    job_id     text        NOT NULL REFERENCES scheduled_jobs (job_id) ON DELETE CASCADE ON UPDATE CASCADE,
    token      bigint      NOT NULL,
    attempt    bigint      NOT NULL,
    worker_id  text        NOT NULL,
    started_at timestamptz,
    ended_at   timestamptz NOT NULL DEFAULT scheduler_now(),
    error_type text        NOT NULL,
    message    text        NOT NULL,
    traceback  text        NOT NULL,
    PRIMARY KEY (job_id, token)
);

-- One row for each start of a worker process; a lease covers all that the worker holds.
CREATE TABLE scheduler_workers (
    id           text        NOT NULL PRIMARY KEY,
    tenant       text        NOT NULL,
    queues       text[]      NOT NULL,
    tasks        text[]      NOT NULL,
    schedules    text[]      NOT NULL DEFAULT '{}',
    slots        integer     NOT NULL CHECK (slots > 0),
    state        text        NOT NULL DEFAULT 'alive' CHECK (state IN ('alive', 'dead')),
    lease_until  timestamptz NOT NULL,
    drain_until  timestamptz,
    started_at   timestamptz NOT NULL DEFAULT scheduler_now(),
    pod          text,
    pod_uid      text,
    version      text        NOT NULL,
    backend_pid  integer,
    backend_started_at timestamptz
) WITH (fillfactor = 50);

-- Whom a claim, a tick or a count believes in. A sweep asks for less: not yet buried (see requeue_orphans).
CREATE VIEW scheduler_living_workers AS
SELECT id, tenant, queues, tasks, schedules, slots FROM scheduler_workers
WHERE state = 'alive' AND lease_until > scheduler_now();

-- A rule that produces jobs, with the newest tick as its high-water mark: it outlives the jobs.
CREATE TABLE scheduler_schedules (
    id                bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant            text        NOT NULL DEFAULT '',
    source_kind       text        NOT NULL,
    source_cluster    text        NOT NULL DEFAULT '',
    source_uid        text        NOT NULL,
    source_name       text        NOT NULL,
    source_generation bigint      NOT NULL DEFAULT 0,
    interval_seconds  bigint      CHECK (interval_seconds >= 1),
    cron              text[],
    time_zone         text        NOT NULL DEFAULT 'Etc/UTC',
    anchor_at         timestamptz NOT NULL,
    last_tick_at      timestamptz,
    next_tick_at      timestamptz,
    ticks             bigint      NOT NULL DEFAULT 0,
    enabled           boolean     NOT NULL DEFAULT true,
    suspended         boolean     NOT NULL DEFAULT false,
    task              text        NOT NULL,
    job_name          text        NOT NULL,
    task_data         json        NOT NULL,
    queue             text        NOT NULL DEFAULT 'default',
    priority          integer     NOT NULL DEFAULT 5 CHECK (priority IN (1, 3, 5, 8)),
    max_retries       integer     NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL DEFAULT scheduler_now(),
    CONSTRAINT scheduler_schedules_interval_or_cron CHECK ((interval_seconds IS NULL) <> (cron IS NULL)),
    CONSTRAINT scheduler_schedules_source UNIQUE (tenant, source_kind, source_cluster, source_uid)
);
CREATE INDEX scheduler_schedules_due ON scheduler_schedules (tenant, next_tick_at)
    WHERE next_tick_at IS NOT NULL AND enabled AND NOT suspended;
