-- Five roles without a login, to be granted to logins; each run brings them to what this release needs and no more. They are
-- of the whole server, their rights of this schema: the first of the search path. Run it as a superuser, or as a user with
-- CREATEROLE who owns the tables.
DO $$
DECLARE
    schema_  CONSTANT text := current_schema();
    role_    text;
    thing    record;
BEGIN
    FOREACH role_ IN ARRAY ARRAY['owner', 'operator', 'worker', 'enqueue', 'reader'] LOOP
        IF to_regrole('scheduler_' || role_) IS NULL THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', 'scheduler_' || role_);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema_, 'scheduler_' || role_);
    END LOOP;
    IF NOT pg_has_role(current_user, 'scheduler_owner', 'USAGE') THEN
        EXECUTE format('GRANT scheduler_owner TO %I', current_user);
    END IF;
    GRANT scheduler_reader TO scheduler_operator;
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', schema_);
    EXECUTE format('GRANT CREATE ON SCHEMA %I TO scheduler_owner', schema_);

    FOR thing IN
        SELECT format('%I.%I', schema_, c.relname) AS name, c.relkind = 'S' AS is_sequence,
               EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i')
                         AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass) AS goes_along
        FROM pg_class c
        WHERE c.relnamespace = schema_::regnamespace AND c.relkind IN ('r', 'v', 'S')
          AND (c.relname ~ '^scheduler_' OR c.relname IN ('scheduled_jobs', 'scheduled_jobs_id_seq', 'vacuum_stats'))
    LOOP
        IF NOT (thing.is_sequence AND thing.goes_along) THEN
            EXECUTE format('ALTER TABLE %s OWNER TO scheduler_owner', thing.name);
        END IF;
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, scheduler_operator, scheduler_worker, scheduler_enqueue, scheduler_reader',
                       CASE WHEN thing.is_sequence THEN 'SEQUENCE ' ELSE '' END || thing.name);
    END LOOP;
    FOR thing IN
        SELECT p.oid::regprocedure::text AS name,
               p.proname IN ('scheduler_enqueue', 'scheduler_replace_job', 'scheduler_replace_jobs', 'scheduler_hold_key',
                             'scheduler_set_limits', 'scheduler_take_back_ticks', 'scheduler_delete_ended',
                             'scheduler_limit_submissions', 'scheduler_leave_slot') AS is_door
        FROM pg_proc p WHERE p.pronamespace = schema_::regnamespace AND p.proname ~ '^scheduler_'
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO scheduler_owner', thing.name);
        IF thing.is_door THEN  -- in the owner's name, for what the caller himself may not
            EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = pg_catalog, %I, pg_temp', thing.name, schema_);
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', thing.name);
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO scheduler_operator, scheduler_worker', thing.name);
        END IF;
    END LOOP;
END $$;

-- Who runs the operator, and people with its commands: every row, no definition of a table.
GRANT SELECT, INSERT, UPDATE, DELETE ON
    scheduled_jobs, scheduler_adopted, scheduler_attempts, scheduler_clusters, scheduler_concurrency_limits, scheduler_keys,
    scheduler_maintenance, scheduler_occurrences, scheduler_pool_settings, scheduler_pools, scheduler_queue_settings,
    scheduler_queue_starts, scheduler_queues, scheduler_results, scheduler_schedules, scheduler_slots, scheduler_tenant_limits,
    scheduler_tenant_submissions, scheduler_tombstones, scheduler_workers, vacuum_stats
    TO scheduler_operator;
GRANT SELECT ON scheduler_migrations TO scheduler_operator;
GRANT SELECT, USAGE, UPDATE ON SEQUENCE scheduler_token TO scheduler_operator;

-- Worker processes: how a job goes, never what it is to do.
GRANT SELECT, INSERT ON scheduled_jobs TO scheduler_worker;
GRANT UPDATE (status, execution_time, suspended, started_at, finished_at, worker_id, token, attempt, retry_count, interruptions,
              error_message, expires_at, stopping_worker, stop_asked_at, stopping_token)
    ON scheduled_jobs TO scheduler_worker;
GRANT SELECT, INSERT ON scheduler_attempts TO scheduler_worker;
GRANT SELECT, INSERT, UPDATE ON scheduler_occurrences, scheduler_queues, scheduler_results, vacuum_stats TO scheduler_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    scheduler_keys, scheduler_queue_starts, scheduler_schedules, scheduler_slots, scheduler_workers
    TO scheduler_worker;
GRANT SELECT, DELETE, UPDATE (finished_at) ON scheduler_tombstones TO scheduler_worker;
GRANT SELECT ON
    scheduler_adopted, scheduler_concurrency_limits, scheduler_maintenance, scheduler_migrations, scheduler_pool_settings,
    scheduler_queue_settings, scheduler_tenant_limits, scheduler_jobs_overview, scheduler_ledger, scheduler_living_workers,
    scheduler_queue_depth, scheduler_schedule_runs
    TO scheduler_worker;
GRANT USAGE ON SEQUENCE scheduler_token TO scheduler_worker;

-- Programs that submit jobs and run none, by this library or by SELECT scheduler_enqueue(…).
GRANT INSERT, SELECT (job_id, id, tenant, status, execution_time, source_kind, source_name, source_uid)
    ON scheduled_jobs TO scheduler_enqueue;
GRANT SELECT ON scheduler_migrations TO scheduler_enqueue;

-- People and dashboards: everything but arguments, results and error texts.
GRANT SELECT (job_id, id, tenant, queue, task, job_name, priority, execution_time, misfire_grace_time, timeout_seconds, status,
              suspended, created_at, started_at, finished_at, worker_id, token, attempt, retry_count, max_retries, interruptions,
              schedule_id, tick_at, previous_tick_at, concurrency_key, concurrency_limit, on_full, stopping_worker,
              stop_asked_at, source_cluster, source_kind, source_uid, source_name, source_generation, on_interrupt,
              max_interruptions, expires_at, keep_result)
    ON scheduled_jobs TO scheduler_reader;
GRANT SELECT ON
    scheduler_clusters, scheduler_concurrency_limits, scheduler_maintenance, scheduler_migrations, scheduler_occurrences,
    scheduler_pool_settings, scheduler_pools, scheduler_queue_settings, scheduler_queues, scheduler_slots,
    scheduler_tenant_limits, scheduler_tombstones, scheduler_workers, scheduler_jobs_overview, scheduler_ledger,
    scheduler_living_workers, scheduler_queue_depth, scheduler_schedule_runs, vacuum_stats
    TO scheduler_reader;

DO $$
DECLARE
    door text;
BEGIN
    FOR door IN
        SELECT p.oid::regprocedure::text FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace
          AND p.proname IN ('scheduler_enqueue', 'scheduler_replace_job', 'scheduler_replace_jobs', 'scheduler_hold_key',
                            'scheduler_set_limits')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO scheduler_enqueue', door);
    END LOOP;
END $$;
