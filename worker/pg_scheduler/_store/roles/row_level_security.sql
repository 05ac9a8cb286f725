-- One login a tenant, called as the tenant. The session's user, whom nothing but a superuser changes, and not the current one:
-- so functions and views, which run in the owner's name, keep to the caller's rows as well, unless that is who may read all
-- rows himself: looked up once a statement.
DO $$
DECLARE
    policy   record;
    sees_all CONSTANT text := '(SELECT pg_has_role(session_user, ''scheduler_reader'', ''MEMBER'')'
                              ' OR pg_has_role(session_user, ''scheduler_owner'', ''MEMBER''))';
BEGIN
    FOR policy IN
        SELECT c.relname AS of_table, CASE
            WHEN c.relname IN ('scheduler_adopted', 'scheduler_attempts', 'scheduler_results') THEN
                format('EXISTS (SELECT FROM scheduled_jobs j WHERE j.job_id = %I.job_id)', c.relname)
            WHEN c.relname = 'scheduler_occurrences' THEN
                'EXISTS (SELECT FROM scheduler_schedules s WHERE s.id = scheduler_occurrences.schedule_id)'
            WHEN c.relname = 'scheduler_tenant_limits' THEN 'tenant COLLATE "C" IN (session_user, ''*'')'
            ELSE 'tenant COLLATE "C" = session_user' END AS is_own
        FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relname IN (
            'scheduled_jobs', 'scheduler_adopted', 'scheduler_attempts', 'scheduler_concurrency_limits', 'scheduler_keys',
            'scheduler_occurrences', 'scheduler_pool_settings', 'scheduler_pools', 'scheduler_queue_settings',
            'scheduler_queue_starts', 'scheduler_queues', 'scheduler_results', 'scheduler_schedules', 'scheduler_slots',
            'scheduler_tenant_limits', 'scheduler_tenant_submissions', 'scheduler_tombstones', 'scheduler_workers')
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', policy.of_table);
        EXECUTE format('DROP POLICY IF EXISTS scheduler_own_rows ON %I', policy.of_table);
        EXECUTE format('DROP POLICY IF EXISTS scheduler_rows_of_all ON %I', policy.of_table);
        EXECUTE format('DROP POLICY IF EXISTS scheduler_doors ON %I', policy.of_table);
        EXECUTE format('DROP POLICY IF EXISTS scheduler_looks ON %I', policy.of_table);
        EXECUTE format('CREATE POLICY scheduler_own_rows ON %I TO scheduler_worker, scheduler_enqueue USING (%s)',
                       policy.of_table, policy.is_own);
        EXECUTE format('CREATE POLICY scheduler_rows_of_all ON %I TO scheduler_operator USING (true)', policy.of_table);
        EXECUTE format('CREATE POLICY scheduler_looks ON %I FOR SELECT TO scheduler_reader USING (true)', policy.of_table);
        EXECUTE format('CREATE POLICY scheduler_doors ON %I TO scheduler_owner USING (%s OR %s)',
                       policy.of_table, policy.is_own, sees_all);
    END LOOP;
    -- Ids of custom resources are the operator's to give: a tenant could take them from another before he comes.
    DROP POLICY IF EXISTS scheduler_reserved_ids ON scheduled_jobs;
    EXECUTE format('CREATE POLICY scheduler_reserved_ids ON scheduled_jobs AS RESTRICTIVE FOR INSERT '
                   'TO scheduler_worker, scheduler_enqueue, scheduler_owner '
                   'WITH CHECK (NOT starts_with(job_id, ''sj-'') AND NOT starts_with(job_id, ''key:'') OR %s)', sees_all);
END $$;
