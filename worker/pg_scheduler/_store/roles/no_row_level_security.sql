-- Its policies stay and do nothing.
DO $$
DECLARE
    of_table text;
BEGIN
    FOR of_table IN
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relrowsecurity
          AND (c.relname ~ '^scheduler_' OR c.relname = 'scheduled_jobs')
    LOOP
        EXECUTE format('ALTER TABLE %I DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', of_table);
    END LOOP;
END $$;
