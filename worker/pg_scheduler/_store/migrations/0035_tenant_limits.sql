-- min_reader: 1
-- What a tenant may ask for. Submissions are looked at by a trigger that is there only while a limit is stored: without one
-- they cost what they did. Releases up to 0.3 meet the limits of jobs too, and none of schedules.

-- An entry for '*' holds for every tenant that has none of its own. Of two clusters the one that named a tenant first decides.
CREATE TABLE scheduler_tenant_limits (
    tenant               text    PRIMARY KEY,
    source_cluster       text    NOT NULL,
    max_pending          integer CHECK (max_pending BETWEEN 1 AND 10000000),
    rate_limit           integer CHECK (rate_limit BETWEEN 1 AND 1000000),
    rate_seconds         integer CHECK (rate_seconds BETWEEN 1 AND 86400),
    min_interval_seconds integer CHECK (min_interval_seconds BETWEEN 1 AND 86400),
    CONSTRAINT scheduler_tenant_limits_tenant_fits_an_index CHECK (octet_length(tenant) <= 200),
    CONSTRAINT scheduler_tenant_limits_cluster_fits_an_index CHECK (octet_length(source_cluster) <= 200),
    CONSTRAINT scheduler_tenant_limits_rate_is_whole CHECK ((rate_limit IS NULL) = (rate_seconds IS NULL))
);

-- Jobs submitted by tenants with a rate, in cells of a hundredth of its window; see scheduler_queue_starts. Each server process
-- has cells of its own: nobody waits for the end of another's transaction, which may be long.
CREATE TABLE scheduler_tenant_submissions (
    tenant  text        NOT NULL,
    until   timestamptz NOT NULL,
    backend integer     NOT NULL,
    jobs    bigint      NOT NULL,
    PRIMARY KEY (tenant, until, backend)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

-- Lets the trigger on submissions be there exactly while it has something to look at, after each statement on the limits, also
-- one that changes nothing. Runs as the tables' owner, who alone may make triggers, and only for a table of that owner: it
-- would else lend its rights to the tables of whoever uses it. Gives up before those who write jobs have waited for long.
CREATE FUNCTION scheduler_apply_tenant_limits() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    jobs   regclass;
    wanted boolean;
    there  boolean;
BEGIN
    IF (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = TG_RELID) <> current_user THEN
        RAISE EXCEPTION 'the owner of % is not that of this function', TG_RELID::regclass
            USING ERRCODE = 'insufficient_privilege', HINT = 'let one role own the whole schema';
    END IF;
    jobs := format('%I.scheduled_jobs', TG_TABLE_SCHEMA)::regclass;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE max_pending IS NOT NULL OR rate_limit IS NOT NULL)', TG_RELID::regclass)
        INTO wanted;
    there := EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = jobs AND t.tgname = 'scheduler_submissions_keep_limits');
    IF wanted AND NOT there THEN
        EXECUTE format('CREATE TRIGGER scheduler_submissions_keep_limits AFTER INSERT ON %s REFERENCING NEW TABLE AS submitted '
                       'FOR EACH STATEMENT EXECUTE FUNCTION %I.scheduler_limit_submissions()', jobs, TG_TABLE_SCHEMA);
    ELSIF there AND NOT wanted THEN
        EXECUTE format('DROP TRIGGER scheduler_submissions_keep_limits ON %s', jobs);
        EXECUTE format('DELETE FROM %I.scheduler_tenant_submissions', TG_TABLE_SCHEMA);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER scheduler_limits_apply AFTER INSERT OR UPDATE OR DELETE ON scheduler_tenant_limits
FOR EACH STATEMENT EXECUTE FUNCTION scheduler_apply_tenant_limits();

-- Undoes a statement that submits more than a tenant may. Rows that it has overwritten or left alone are not among the
-- submitted; ticks of schedules have an instant, and are never refused. What is committed counts, and what this transaction has
-- written: submissions at the same moment do not see each other, so that they may pass a limit together, by no more than they
-- are; nobody waits.
CREATE FUNCTION scheduler_limit_submissions() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    given  record;
    limits record;
BEGIN
    FOR given IN
        SELECT s.tenant, count(*) AS jobs, bool_or(s.status = 'pending' AND NOT s.suspended) AS waits
        FROM submitted s WHERE s.tick_at IS NULL GROUP BY s.tenant
    LOOP
        SELECT * INTO limits FROM scheduler_tenant_limits l
        WHERE l.tenant IN (given.tenant, '*') ORDER BY l.tenant = '*' LIMIT 1;
        IF limits.max_pending IS NOT NULL AND given.waits THEN
            PERFORM scheduler_require_room(given.tenant, limits.max_pending);
        END IF;
        IF limits.rate_limit IS NOT NULL THEN
            PERFORM scheduler_count_submitted(given.tenant, given.jobs, limits.rate_limit, limits.rate_seconds);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- Jobs that wait to run, those just submitted among them, by the indexes that claims use; a count ends at the limit.
CREATE FUNCTION scheduler_require_room(of_tenant text, max_pending integer) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    IF (SELECT count(*) > max_pending FROM (
            (SELECT FROM scheduled_jobs j
             WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NULL AND j.tenant = of_tenant)
            UNION ALL
            (SELECT FROM scheduled_jobs j
             WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NOT NULL AND j.tenant = of_tenant)
            UNION ALL
            (SELECT FROM scheduled_jobs j WHERE j.status = 'waiting' AND j.tenant = of_tenant)
            LIMIT max_pending + 1) w) THEN
        PERFORM scheduler_refuse_submission(of_tenant, 'maxPending', format('at most %s jobs may wait to run', max_pending),
                                            'wait until workers have caught up');
    END IF;
END $$;

-- Enter so many jobs in this process's present cell, unless the window is full; forget old cells that nobody holds.
CREATE FUNCTION scheduler_count_submitted(of_tenant text, more bigint, rate_limit integer, rate_seconds integer)
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    window_ CONSTANT interval := make_interval(secs => rate_seconds);
    before  bigint;
    first_  timestamptz;
BEGIN
    SELECT coalesce(sum(c.jobs), 0), min(c.until) INTO before, first_ FROM scheduler_tenant_submissions c
    WHERE c.tenant = of_tenant AND c.until > scheduler_now() - window_;
    IF before + more > rate_limit THEN
        PERFORM scheduler_refuse_submission(
            of_tenant, 'maxRate', format('at most %s jobs in %s s may be submitted: %s were, %s more are given',
                                         rate_limit, rate_seconds, before, more),
            CASE WHEN more > rate_limit THEN format('give at most %s at a time', rate_limit)
                 ELSE format('submit again in %s s', ceil(extract(epoch FROM first_ + window_ - scheduler_now()))) END);
    END IF;
    INSERT INTO scheduler_tenant_submissions AS c (tenant, until, backend, jobs)
    VALUES (of_tenant, date_bin(window_ / 100, scheduler_now(), timestamptz '2000-01-01 00:00+00') + window_ / 100,
            pg_backend_pid(), more)
    ON CONFLICT (tenant, until, backend) DO UPDATE SET jobs = c.jobs + excluded.jobs;
    DELETE FROM scheduler_tenant_submissions c
    WHERE (c.tenant, c.until, c.backend) IN (
        SELECT o.tenant, o.until, o.backend FROM scheduler_tenant_submissions o
        WHERE o.tenant = of_tenant AND o.until <= scheduler_now() - window_
        ORDER BY o.until LIMIT 100 FOR UPDATE SKIP LOCKED);
END $$;

CREATE FUNCTION scheduler_refuse_submission(of_tenant text, limit_ text, value text, remedy text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'tenant % is at its limit %', quote_literal(left(of_tenant, 63)), limit_
        USING ERRCODE = 'configuration_limit_exceeded', TABLE = 'scheduler_tenant_limits', CONSTRAINT = limit_, DETAIL = value,
              HINT = remedy || format(', or have whoever runs the operator raise %s', limit_);
END $$;
