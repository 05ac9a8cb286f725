-- Made from the migrations by `make schema`: change those, never this file.
-- digest: efdf5b3071a568d36d2b473bf11a4a547a4e710b7dfe95e3bb4177306694ce6f

-- object: FUNCTION scheduler_now()
CREATE FUNCTION scheduler_now() RETURNS timestamp with time zone
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN now();

-- object: TABLE scheduled_jobs
CREATE TABLE scheduled_jobs (
    job_id text NOT NULL,
    id bigint NOT NULL,
    tenant text DEFAULT ''::text NOT NULL,
    queue text DEFAULT 'default'::text NOT NULL,
    task text NOT NULL,
    job_name text NOT NULL,
    task_data json NOT NULL,
    priority integer DEFAULT 5 NOT NULL,
    execution_time timestamp with time zone NOT NULL,
    misfire_grace_time integer,
    timeout_seconds double precision,
    status text DEFAULT 'pending'::text NOT NULL,
    suspended boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT scheduler_now() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    worker_id text,
    token bigint DEFAULT 0 NOT NULL,
    attempt bigint DEFAULT 0 NOT NULL,
    retry_count integer DEFAULT 0 NOT NULL,
    max_retries integer DEFAULT 0 NOT NULL,
    interruptions bigint DEFAULT 0 NOT NULL,
    error_message text,
    schedule_id bigint,
    tick_at timestamp with time zone,
    concurrency_key text,
    stopping_worker text,
    stop_asked_at timestamp with time zone,
    source_cluster text,
    source_kind text,
    source_uid text,
    source_name text,
    source_generation bigint,
    traceparent text,
    retry_policy json,
    on_interrupt text DEFAULT 'retry'::text NOT NULL,
    max_interruptions integer,
    expires_at timestamp with time zone,
    keep_result boolean DEFAULT false NOT NULL,
    flush_now boolean DEFAULT false NOT NULL,
    tags json,
    metadata json,
    CONSTRAINT scheduled_jobs_due_before_9999 CHECK ((execution_time < '9999-01-01 00:00:00+00'::timestamp with time zone)),
    CONSTRAINT scheduled_jobs_final_has_an_end CHECK (((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'expired'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT scheduled_jobs_job_id_fits_an_index CHECK (((octet_length(job_id) >= 1) AND (octet_length(job_id) <= 200))),
    CONSTRAINT scheduled_jobs_max_interruptions_is_positive CHECK ((max_interruptions >= 0)),
    CONSTRAINT scheduled_jobs_on_interrupt_is_known CHECK ((on_interrupt = ANY (ARRAY['retry'::text, 'fail'::text]))),
    CONSTRAINT scheduled_jobs_priority_is_known CHECK ((priority = ANY (ARRAY[1, 3, 5, 8]))),
    CONSTRAINT scheduled_jobs_running_has_a_worker CHECK (((status <> 'running'::text) OR (worker_id IS NOT NULL))),
    CONSTRAINT scheduled_jobs_status_is_known CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'expired'::text]))),
    CONSTRAINT scheduled_jobs_timeout_is_positive CHECK ((timeout_seconds > (0)::double precision))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0', vacuum_truncate=off);

-- object: SEQUENCE scheduled_jobs_id_seq
ALTER TABLE scheduled_jobs ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME scheduled_jobs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- object: TABLE scheduler_adopted
CREATE TABLE scheduler_adopted (
    job_id text NOT NULL,
    original json NOT NULL,
    adopted_at timestamp with time zone DEFAULT scheduler_now() NOT NULL
);

-- object: TABLE scheduler_attempts
CREATE TABLE scheduler_attempts (
    job_id text NOT NULL,
    token bigint NOT NULL,
    attempt bigint NOT NULL,
    worker_id text NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone DEFAULT scheduler_now() NOT NULL,
    error_type text NOT NULL,
    message text NOT NULL,
    traceback text NOT NULL
);

-- object: TABLE scheduler_workers
CREATE TABLE scheduler_workers (
    id text NOT NULL,
    tenant text NOT NULL,
    queues text[] NOT NULL,
    tasks text[] NOT NULL,
    schedules text[] DEFAULT '{}'::text[] NOT NULL,
    slots integer NOT NULL,
    state text DEFAULT 'alive'::text NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    drain_until timestamp with time zone,
    started_at timestamp with time zone DEFAULT scheduler_now() NOT NULL,
    pod text,
    pod_uid text,
    version text NOT NULL,
    backend_pid integer,
    backend_started_at timestamp with time zone,
    CONSTRAINT scheduler_workers_slots_check CHECK ((slots > 0)),
    CONSTRAINT scheduler_workers_state_check CHECK ((state = ANY (ARRAY['alive'::text, 'dead'::text])))
)
WITH (fillfactor='50');

-- object: VIEW scheduler_living_workers
CREATE VIEW scheduler_living_workers AS
 SELECT id,
    tenant,
    queues,
    tasks,
    schedules,
    slots
   FROM scheduler_workers
  WHERE ((state = 'alive'::text) AND (lease_until > scheduler_now()));

-- object: TABLE scheduler_schedules
CREATE TABLE scheduler_schedules (
    id bigint NOT NULL,
    tenant text DEFAULT ''::text NOT NULL,
    source_kind text NOT NULL,
    source_cluster text DEFAULT ''::text NOT NULL,
    source_uid text NOT NULL,
    source_name text NOT NULL,
    source_generation bigint DEFAULT 0 NOT NULL,
    interval_seconds bigint,
    cron text[],
    time_zone text DEFAULT 'Etc/UTC'::text NOT NULL,
    anchor_at timestamp with time zone NOT NULL,
    last_tick_at timestamp with time zone,
    next_tick_at timestamp with time zone,
    ticks bigint DEFAULT 0 NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    suspended boolean DEFAULT false NOT NULL,
    task text NOT NULL,
    job_name text NOT NULL,
    task_data json NOT NULL,
    queue text DEFAULT 'default'::text NOT NULL,
    priority integer DEFAULT 5 NOT NULL,
    max_retries integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT scheduler_now() NOT NULL,
    CONSTRAINT scheduler_schedules_interval_or_cron CHECK (((interval_seconds IS NULL) <> (cron IS NULL))),
    CONSTRAINT scheduler_schedules_interval_seconds_check CHECK ((interval_seconds >= 1)),
    CONSTRAINT scheduler_schedules_priority_check CHECK ((priority = ANY (ARRAY[1, 3, 5, 8])))
);

-- object: SEQUENCE scheduler_schedules_id_seq
ALTER TABLE scheduler_schedules ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME scheduler_schedules_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- object: SEQUENCE scheduler_token
CREATE SEQUENCE scheduler_token
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

-- object: TABLE vacuum_stats
CREATE TABLE vacuum_stats (
    stat_date date NOT NULL,
    deleted_completed bigint DEFAULT 0 NOT NULL,
    deleted_failed bigint DEFAULT 0 NOT NULL,
    deleted_cancelled bigint DEFAULT 0 NOT NULL,
    deleted_expired bigint DEFAULT 0 NOT NULL,
    last_run timestamp with time zone,
    worker_id text
);

-- object: CONSTRAINT scheduled_jobs scheduled_jobs_id_key
ALTER TABLE ONLY scheduled_jobs
    ADD CONSTRAINT scheduled_jobs_id_key UNIQUE (id);

-- object: CONSTRAINT scheduled_jobs scheduled_jobs_pkey
ALTER TABLE ONLY scheduled_jobs
    ADD CONSTRAINT scheduled_jobs_pkey PRIMARY KEY (job_id);

-- object: CONSTRAINT scheduler_adopted scheduler_adopted_pkey
ALTER TABLE ONLY scheduler_adopted
    ADD CONSTRAINT scheduler_adopted_pkey PRIMARY KEY (job_id);

-- object: CONSTRAINT scheduler_attempts scheduler_attempts_pkey
ALTER TABLE ONLY scheduler_attempts
    ADD CONSTRAINT scheduler_attempts_pkey PRIMARY KEY (job_id, token);

-- object: CONSTRAINT scheduler_schedules scheduler_schedules_pkey
ALTER TABLE ONLY scheduler_schedules
    ADD CONSTRAINT scheduler_schedules_pkey PRIMARY KEY (id);

-- object: CONSTRAINT scheduler_schedules scheduler_schedules_source
ALTER TABLE ONLY scheduler_schedules
    ADD CONSTRAINT scheduler_schedules_source UNIQUE (tenant, source_kind, source_cluster, source_uid);

-- object: CONSTRAINT scheduler_workers scheduler_workers_pkey
ALTER TABLE ONLY scheduler_workers
    ADD CONSTRAINT scheduler_workers_pkey PRIMARY KEY (id);

-- object: CONSTRAINT vacuum_stats vacuum_stats_pkey
ALTER TABLE ONLY vacuum_stats
    ADD CONSTRAINT vacuum_stats_pkey PRIMARY KEY (stat_date);

-- object: INDEX scheduled_jobs_due
CREATE INDEX scheduled_jobs_due ON scheduled_jobs USING btree (tenant, queue, priority, execution_time, id) INCLUDE (task) WHERE ((status = 'pending'::text) AND (NOT suspended) AND (concurrency_key IS NULL));

-- object: INDEX scheduled_jobs_due_keyed
CREATE INDEX scheduled_jobs_due_keyed ON scheduled_jobs USING btree (tenant, queue, priority, execution_time, id) INCLUDE (task) WHERE ((status = 'pending'::text) AND (NOT suspended) AND (concurrency_key IS NOT NULL));

-- object: INDEX scheduled_jobs_finished
CREATE INDEX scheduled_jobs_finished ON scheduled_jobs USING btree (finished_at) WHERE (finished_at IS NOT NULL);

-- object: INDEX scheduled_jobs_open_by_source
CREATE INDEX scheduled_jobs_open_by_source ON scheduled_jobs USING btree (source_cluster) WHERE ((source_uid IS NOT NULL) AND (finished_at IS NULL));

-- object: INDEX scheduled_jobs_running
CREATE INDEX scheduled_jobs_running ON scheduled_jobs USING btree (worker_id, token) WHERE (status = 'running'::text);

-- object: INDEX scheduled_jobs_stopping
CREATE INDEX scheduled_jobs_stopping ON scheduled_jobs USING btree (stopping_worker) WHERE (stopping_worker IS NOT NULL);

-- object: INDEX scheduled_jobs_tick
CREATE UNIQUE INDEX scheduled_jobs_tick ON scheduled_jobs USING btree (schedule_id, tick_at) WHERE (schedule_id IS NOT NULL);

-- object: INDEX scheduled_jobs_waiting
CREATE INDEX scheduled_jobs_waiting ON scheduled_jobs USING btree (tenant, concurrency_key) WHERE (status = 'waiting'::text);

-- object: INDEX scheduler_schedules_due
CREATE INDEX scheduler_schedules_due ON scheduler_schedules USING btree (tenant, next_tick_at) WHERE ((next_tick_at IS NOT NULL) AND enabled AND (NOT suspended));

-- object: FK CONSTRAINT scheduler_attempts scheduler_attempts_job_id_fkey
ALTER TABLE ONLY scheduler_attempts
    ADD CONSTRAINT scheduler_attempts_job_id_fkey FOREIGN KEY (job_id) REFERENCES scheduled_jobs(job_id) ON UPDATE CASCADE ON DELETE CASCADE;
