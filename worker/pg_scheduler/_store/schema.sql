-- Made from the migrations by `make schema`: change those, never this file.
-- digest: 37a1c7ca3f9fa6c4e7fd692a15c4d106bfbe94a5551c875ad9c2eeb387726b56

-- object: FUNCTION scheduler_apply_queue_settings()
CREATE FUNCTION scheduler_apply_queue_settings() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    of_tenant text := coalesce(NEW.tenant, OLD.tenant);
    of_queue  text := coalesce(NEW.queue, OLD.queue);
    limits    boolean := coalesce(NEW.concurrency, NEW.rate_limit) IS NOT NULL;
    pauses    boolean := coalesce(NEW.paused, false);
    holder    text := 'WorkerPool ' || OLD.pool;
BEGIN
    INSERT INTO scheduler_queues AS q (tenant, queue, limited, paused_at, paused_by)
    VALUES (of_tenant, of_queue, limits, CASE WHEN pauses THEN scheduler_now() END,
            CASE WHEN pauses THEN 'WorkerPool ' || NEW.pool END)
    ON CONFLICT (tenant, queue) DO UPDATE SET limited = excluded.limited,
        (paused_at, paused_by, reason) = (
            SELECT CASE WHEN pauses OR NOT is_ours THEN coalesce(q.paused_at, excluded.paused_at) END,
                   CASE WHEN is_ours THEN excluded.paused_by ELSE q.paused_by END,
                   CASE WHEN NOT is_ours THEN q.reason END
            FROM (SELECT q.paused_at IS NULL OR coalesce(q.paused_by = holder, false) AS is_ours) o);
    PERFORM pg_notify('scheduler_overdue', ''), pg_notify('scheduler_wakeup', '');
    RETURN NULL;
END $$;

-- object: FUNCTION scheduler_apply_tenant_limits()
CREATE FUNCTION scheduler_apply_tenant_limits() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
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
    on_full text DEFAULT 'wait'::text NOT NULL,
    concurrency_limit integer,
    stopping_token bigint,
    previous_tick_at timestamp with time zone,
    source_digest text,
    source_deletion text,
    CONSTRAINT scheduled_jobs_can_run CHECK (((priority = ANY ('{1,3,5,8}'::integer[])) AND (execution_time < '9999-01-01 00:00:00+00'::timestamp with time zone) AND (on_interrupt = ANY ('{retry,fail}'::text[])) AND
CASE status
    WHEN 'running'::text THEN (worker_id IS NOT NULL)
    WHEN 'waiting'::text THEN (concurrency_key IS NOT NULL)
    ELSE true
END AND
CASE
    WHEN (finished_at IS NULL) THEN (status = ANY ('{pending,running,waiting}'::text[]))
    ELSE (status = ANY ('{completed,failed,cancelled,expired}'::text[]))
END)),
    CONSTRAINT scheduled_jobs_key_is_of_its_tenant CHECK (((NOT starts_with(job_id, 'key:'::text)) OR starts_with(job_id, (('key:'::text || tenant) || '/'::text))))
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0', vacuum_truncate=off, fillfactor='50');

-- object: FUNCTION scheduler_claim_keyed(text, text, text[], text[], integer, boolean)
CREATE FUNCTION scheduler_claim_keyed(me text, of_tenant text, queues text[], tasks text[], at_most integer, alone boolean DEFAULT false) RETURNS SETOF scheduled_jobs
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN QUERY SELECT * FROM scheduler_claim_keyed(me, of_tenant, queues, tasks, at_most, alone, 0);
END $$;

-- object: FUNCTION scheduler_claim_keyed(text, text, text[], text[], integer, boolean, double precision)
CREATE FUNCTION scheduler_claim_keyed(me text, of_tenant text, queues text[], tasks text[], at_most integer, alone boolean, ahead_seconds double precision) RETURNS SETOF scheduled_jobs
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    due     text[];
    late    text[];
    seen    integer;
    keys    text[];
    polite  text[];
    next_   text[];
    won     text[];
    full_   text[];
    closed  text[];
    key_    text;
    take    integer;
BEGIN
    PERFORM FROM scheduler_workers w
    WHERE w.id = me AND w.state = 'alive' AND w.lease_until > scheduler_now()
      AND (w.drain_until IS NULL OR w.drain_until < scheduler_now())
    FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    FOREACH take IN ARRAY ARRAY[greatest(2 * at_most, 20), greatest(2 * at_most, 200), greatest(2 * at_most, 1000)] LOOP
        IF alone THEN
            due := ARRAY(
                SELECT j.job_id FROM scheduled_jobs j
                WHERE j.status = 'pending' AND j.interruptions >= 2 AND NOT j.suspended AND j.concurrency_key IS NOT NULL
                  AND j.stopping_worker IS NULL AND j.tenant = of_tenant AND j.queue = ANY(queues) AND j.task = ANY(tasks)
                  AND j.execution_time <= scheduler_now()
                ORDER BY j.priority, j.execution_time, j.id LIMIT take FOR UPDATE SKIP LOCKED);
            seen := cardinality(due);
        ELSE
            SELECT array_agg(d.job_id) FILTER (WHERE d.is_late IS NOT TRUE), array_agg(d.job_id) FILTER (WHERE d.is_late),
                   count(*)
            INTO due, late, seen FROM (
                SELECT e.job_id, e.is_late FROM (
                    SELECT u.queue, CASE WHEN s.served_until >= scheduler_now() THEN s.served_since
                                         ELSE scheduler_now() END AS served_since
                    FROM unnest(queues) WITH ORDINALITY u(queue, place)
                    LEFT JOIN scheduler_queues s ON s.tenant = of_tenant AND s.queue = u.queue
                    WHERE s.paused_at IS NULL ORDER BY u.place) q
                CROSS JOIN unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
                    SELECT j.job_id, j.token = 0 AND scheduler_is_late(
                               j.execution_time, j.misfire_grace_time, j.expires_at, q.served_since) AS is_late
                    FROM scheduled_jobs j
                    WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NOT NULL
                      AND j.stopping_worker IS NULL AND j.interruptions < 2
                      AND j.tenant = of_tenant AND j.queue = q.queue AND j.priority = p.priority AND j.task = ANY(tasks)
                      AND j.execution_time <= scheduler_now()
                    ORDER BY j.execution_time, j.id LIMIT take FOR UPDATE SKIP LOCKED) e
                LIMIT take) d;
        END IF;

        RETURN QUERY
        UPDATE scheduled_jobs j
        SET status = 'expired', finished_at = scheduler_now(), error_message = 'expired: no worker could start it in time',
            worker_id = me, token = nextval('scheduler_token'), started_at = NULL
        WHERE j.job_id = ANY(late)
        RETURNING j.*;

        due := coalesce(due, '{}');
        IF ahead_seconds > 0 AND NOT alone AND cardinality(due) < at_most THEN
            due := due || ARRAY(
                SELECT e.job_id FROM unnest(queues) q(queue)
                CROSS JOIN unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
                    SELECT j.job_id FROM scheduled_jobs j
                    WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NOT NULL
                      AND j.stopping_worker IS NULL AND j.interruptions < 2
                      AND j.tenant = of_tenant AND j.queue = q.queue AND j.priority = p.priority AND j.task = ANY(tasks)
                      AND j.execution_time > scheduler_now()
                      AND j.execution_time <= scheduler_now() + make_interval(secs => ahead_seconds)
                      AND j.on_full <> 'replace' AND coalesce(j.expires_at > j.execution_time, true)
                      AND j.concurrency_key <> ALL(ARRAY(
                          SELECT d.concurrency_key FROM scheduled_jobs d WHERE d.job_id = ANY(due)))
                    ORDER BY j.execution_time, j.id LIMIT at_most - cardinality(due) FOR UPDATE SKIP LOCKED) e
                WHERE NOT EXISTS (SELECT FROM scheduler_queues s
                                  WHERE s.tenant = of_tenant AND s.queue = q.queue AND s.paused_at IS NOT NULL)
                LIMIT at_most - cardinality(due));
        END IF;
        EXIT WHEN seen = 0 AND due = '{}';

        SELECT array_agg(k.key), array_agg(k.key) FILTER (WHERE k.is_polite) INTO keys, polite FROM (
            SELECT j.concurrency_key AS key, bool_or(j.on_full IN ('skip', 'queue') AND j.attempt = 0) AS is_polite
            FROM scheduled_jobs j WHERE j.job_id = ANY(due)
            GROUP BY j.concurrency_key
            ORDER BY min(j.execution_time) > scheduler_now(), min(j.priority), min(j.execution_time) LIMIT 64) k
        WHERE pg_try_advisory_xact_lock(hashtextextended(of_tenant || '/' || k.key, 208));
        CONTINUE WHEN keys IS NULL AND seen >= take;
        EXIT WHEN keys IS NULL;

        UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now(),
               error_message = 'replaced: a newer job of its concurrency key took its place'
        WHERE job_id = ANY(ARRAY(
            SELECT r.job_id FROM (
                SELECT j.job_id, j.id, j.execution_time, j.concurrency_key AS key,
                       row_number() OVER (PARTITION BY j.concurrency_key ORDER BY j.execution_time DESC, j.id DESC) AS place
                FROM scheduled_jobs j
                WHERE j.job_id = ANY(due) AND j.concurrency_key = ANY(keys) AND j.on_full = 'replace' AND j.attempt = 0) r
            WHERE r.place + (SELECT count(*) FROM scheduler_slots s JOIN scheduled_jobs n ON n.job_id = s.job_id
                             WHERE s.tenant = of_tenant AND s.key = r.key AND n.status = 'running' AND n.attempt = 1
                               AND n.on_full = 'replace' AND n.execution_time > r.execution_time AND n.id > r.id)
                  > coalesce((SELECT l.limit_ FROM scheduler_concurrency_limits l
                              WHERE l.tenant = of_tenant AND l.key = r.key), 1)));

        WITH room AS MATERIALIZED (
            SELECT k.key,
                   coalesce((SELECT l.limit_ FROM scheduler_concurrency_limits l
                             WHERE l.tenant = of_tenant AND l.key = k.key), 1) AS limit_,
                   (SELECT count(*) FROM scheduler_slots s WHERE s.tenant = of_tenant AND s.key = k.key) AS held,
                   (SELECT count(*) FROM scheduled_jobs j WHERE j.tenant = of_tenant AND j.concurrency_key = k.key
                      AND j.status = 'pending' AND j.attempt > 0 AND j.job_id <> ALL(due)) AS retrying
            FROM unnest(keys) k(key)),
        asks AS MATERIALIZED (
            SELECT j.job_id, j.id, j.concurrency_key AS key, j.priority, j.execution_time,
                   j.on_full IN ('skip', 'queue') AND j.attempt = 0 AS gives_way,
                   row_number() OVER (PARTITION BY j.concurrency_key
                                      ORDER BY j.on_full = 'replace' AND j.attempt = 0 DESC, j.attempt = 0, j.priority,
                                               j.execution_time, j.id) AS place
            FROM scheduled_jobs j
            WHERE j.job_id = ANY(due) AND j.concurrency_key = ANY(keys) AND j.status = 'pending'),
        free AS MATERIALIZED (
            SELECT r.key, n.slot, row_number() OVER (PARTITION BY r.key ORDER BY n.slot) AS place
            FROM room r CROSS JOIN LATERAL generate_series(1, least(r.limit_, r.held + cardinality(due))) n(slot)
            WHERE NOT EXISTS (SELECT FROM scheduler_slots s WHERE s.tenant = of_tenant AND s.key = r.key AND s.slot = n.slot)),
        wins AS (
            SELECT a.job_id, a.key, f.slot FROM asks a JOIN room r USING (key) JOIN free f USING (key, place)
            WHERE a.place <= r.limit_ - r.held - CASE WHEN a.gives_way THEN r.retrying ELSE 0 END
              AND NOT (a.gives_way AND EXISTS (
                  SELECT FROM scheduled_jobs w
                  WHERE w.tenant = of_tenant AND w.concurrency_key = a.key AND w.status = 'waiting'
                    AND (w.priority, w.execution_time, w.id) < (a.priority, a.execution_time, a.id)))
            ORDER BY a.priority, a.execution_time, a.id LIMIT at_most),
        taken AS (
            INSERT INTO scheduler_slots (tenant, key, slot, job_id) SELECT of_tenant, w.key, w.slot, w.job_id FROM wins w
            ON CONFLICT DO NOTHING RETURNING job_id)
        SELECT array_agg(t.job_id) INTO won FROM taken t;

        RETURN QUERY
        UPDATE scheduled_jobs j
        SET status = 'running', worker_id = me, attempt = j.attempt + 1, token = nextval('scheduler_token'),
            started_at = greatest(scheduler_now(), j.execution_time)
        WHERE j.job_id = ANY(won)
        RETURNING j.*;

        WITH held AS MATERIALIZED (
            SELECT s.key FROM scheduler_slots s WHERE s.tenant = of_tenant AND s.key = ANY(keys) FOR KEY SHARE SKIP LOCKED),
        again AS MATERIALIZED (
            SELECT j.concurrency_key AS key FROM scheduled_jobs j
            WHERE j.tenant = of_tenant AND j.concurrency_key = ANY(polite) AND j.status = 'pending' AND j.attempt > 0
              AND j.job_id <> ALL(due) FOR SHARE SKIP LOCKED)
        SELECT array_agg(c.key) FILTER (WHERE c.held >= c.limit_),
               array_agg(c.key) FILTER (WHERE c.held + c.retrying >= c.limit_ AND c.key = ANY(polite))
        INTO full_, closed
        FROM (
            SELECT k.key,
                   (SELECT count(*) FROM held h WHERE h.key = k.key) AS held,
                   (SELECT count(*) FROM again a WHERE a.key = k.key) AS retrying,
                   coalesce((SELECT l.limit_ FROM scheduler_concurrency_limits l
                             WHERE l.tenant = of_tenant AND l.key = k.key), 1) AS limit_
            FROM unnest(keys) k(key)) c;
        next_ := '{}';
        IF closed IS NOT NULL THEN
            next_ := ARRAY(
                SELECT DISTINCT ON (j.concurrency_key) j.job_id FROM scheduled_jobs j
                WHERE j.job_id = ANY(due) AND j.status = 'pending' AND j.on_full = 'queue' AND j.attempt = 0
                  AND j.concurrency_key = ANY(closed) AND NOT EXISTS (
                      SELECT FROM scheduled_jobs w
                      WHERE w.tenant = of_tenant AND w.concurrency_key = j.concurrency_key AND w.status = 'waiting'
                        AND w.on_full = 'queue' AND w.attempt = 0)
                ORDER BY j.concurrency_key, j.execution_time, j.id);
            UPDATE scheduled_jobs j
            SET status = 'cancelled', finished_at = scheduler_now(), error_message = 'skipped: its concurrency key was full'
            WHERE j.job_id = ANY(due) AND j.status = 'pending' AND j.on_full IN ('skip', 'queue') AND j.attempt = 0
              AND j.execution_time <= scheduler_now() AND j.concurrency_key = ANY(closed) AND j.job_id <> ALL(next_);
        END IF;
        UPDATE scheduled_jobs j SET status = 'waiting'
        WHERE j.job_id = ANY(due) AND j.status = 'pending' AND j.execution_time <= scheduler_now()
          AND (j.concurrency_key = ANY(full_) OR j.job_id = ANY(next_));
        FOR key_ IN
            SELECT DISTINCT j.concurrency_key FROM scheduled_jobs j
            WHERE j.job_id = ANY(due) AND j.on_full = 'replace' AND j.concurrency_key = ANY(keys)
              AND (j.status = 'waiting' AND j.attempt = 0 OR j.status = 'running' AND j.attempt = 1)
        LOOP
            PERFORM scheduler_make_room(of_tenant, key_);
        END LOOP;

        EXIT WHEN won IS NOT NULL OR seen < take;
    END LOOP;
END $$;

-- object: FUNCTION scheduler_claim_limited(text, text, text[], text[], integer, boolean)
CREATE FUNCTION scheduler_claim_limited(me text, of_tenant text, queues text[], tasks text[], at_most integer, alone boolean) RETURNS SETOF scheduled_jobs
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    queue_      text;
    since       timestamptz;
    open_       integer := at_most;
    room        integer;
    started     integer;
    taken       scheduled_jobs[];
    keyed_first boolean;
    keyed       boolean;
BEGIN
    PERFORM FROM scheduler_workers w
    WHERE w.id = me AND w.state = 'alive' AND w.lease_until > scheduler_now()
      AND (w.drain_until IS NULL OR w.drain_until < scheduler_now())
    FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    FOR queue_, since IN
        SELECT q.queue, CASE WHEN q.served_until >= scheduler_now() THEN q.served_since ELSE scheduler_now() END
        FROM unnest(queues) WITH ORDINALITY u(queue, place)
        JOIN scheduler_queues q ON q.tenant = of_tenant AND q.queue = u.queue
        WHERE q.limited AND q.paused_at IS NULL ORDER BY u.place
    LOOP
        EXIT WHEN open_ <= 0;
        PERFORM FROM scheduler_queue_settings s WHERE s.tenant = of_tenant AND s.queue = queue_
        FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        room := least(open_, scheduler_queue_room(of_tenant, queue_));
        CONTINUE WHEN room <= 0;

        started := 0;
        keyed_first := coalesce((
            SELECT h.keyed FROM unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
                (SELECT true AS keyed, j.execution_time, j.id FROM scheduled_jobs j
                 WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NOT NULL
                   AND j.stopping_worker IS NULL AND j.tenant = of_tenant AND j.queue = queue_ AND j.priority = p.priority
                   AND j.task = ANY(tasks) AND j.execution_time <= scheduler_now() AND j.interruptions < 2
                 ORDER BY j.execution_time, j.id LIMIT 1)
                UNION ALL
                (SELECT false, j.execution_time, j.id FROM scheduled_jobs j
                 WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NULL
                   AND j.stopping_worker IS NULL AND j.tenant = of_tenant AND j.queue = queue_ AND j.priority = p.priority
                   AND j.task = ANY(tasks) AND j.execution_time <= scheduler_now() AND j.interruptions < 2
                 ORDER BY j.execution_time, j.id LIMIT 1)) h
            ORDER BY p.priority, h.execution_time, h.id LIMIT 1), false);
        FOREACH keyed IN ARRAY ARRAY[keyed_first, NOT keyed_first] LOOP
            EXIT WHEN room <= started;
            IF keyed THEN
                taken := ARRAY(SELECT k FROM scheduler_claim_keyed(me, of_tenant, ARRAY[queue_], tasks, room - started,
                                                                   alone, 0) k);
            ELSE
                taken := scheduler_start_unkeyed(me, of_tenant, queue_, since, tasks, room - started, alone);
            END IF;
            RETURN QUERY SELECT * FROM unnest(taken);
            started := started + (SELECT count(*) FROM unnest(taken) t WHERE t.status = 'running');
        END LOOP;

        open_ := open_ - started;
        PERFORM scheduler_count_starts(of_tenant, queue_, started) WHERE started > 0;
    END LOOP;
END $$;

-- object: FUNCTION scheduler_count_starts(text, text, integer)
CREATE FUNCTION scheduler_count_starts(of_tenant text, of_queue text, more integer) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    window_ interval := (SELECT make_interval(secs => s.rate_seconds) FROM scheduler_queue_settings s
                         WHERE s.tenant = of_tenant AND s.queue = of_queue);
BEGIN
    IF window_ IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO scheduler_queue_starts AS c (tenant, queue, until, starts)
    VALUES (of_tenant, of_queue,
            date_bin(window_ / 100, scheduler_now(), timestamptz '2000-01-01 00:00+00') + window_ / 100, more)
    ON CONFLICT (tenant, queue, until) DO UPDATE SET starts = c.starts + excluded.starts;
    DELETE FROM scheduler_queue_starts c
    WHERE c.tenant = of_tenant AND c.queue = of_queue AND c.until <= scheduler_now() - window_;
END $$;

-- object: FUNCTION scheduler_count_submitted(text, bigint, integer, integer)
CREATE FUNCTION scheduler_count_submitted(of_tenant text, more bigint, rate_limit integer, rate_seconds integer) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
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

-- object: FUNCTION scheduler_delete_ended(tid[])
CREATE FUNCTION scheduler_delete_ended(places tid[]) RETURNS SETOF text
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN QUERY WITH gone AS (
        DELETE FROM scheduled_jobs WHERE ctid = ANY(places) AND finished_at IS NOT NULL
        RETURNING job_id, tenant, queue, task, schedule_id, tick_at, status, error_message, execution_time, attempt, started_at,
                  finished_at, source_kind, source_digest),
    ranges AS (
        SELECT g.schedule_id, scheduler_tick_outcome(g.status, g.error_message) AS outcome,
               date_trunc('month', g.tick_at AT TIME ZONE 'UTC')::date AS month, min(g.tick_at) AS first_tick_at,
               max(g.tick_at) AS last_tick_at, count(*) AS ticks, count(*) FILTER (WHERE g.status = 'failed') AS failed
        FROM gone g WHERE g.tick_at BETWEEN '0001-01-02' AND '9999-01-01'
        GROUP BY 1, 2, 3),
    alive AS MATERIALIZED (
        SELECT id FROM scheduler_schedules WHERE id IN (SELECT schedule_id FROM ranges) FOR KEY SHARE),
    told AS (
        INSERT INTO scheduler_occurrences AS o (schedule_id, outcome, month, first_tick_at, last_tick_at, ticks, failed)
        SELECT r.schedule_id, r.outcome, r.month, r.first_tick_at, r.last_tick_at, r.ticks, r.failed
        FROM ranges r JOIN alive a ON a.id = r.schedule_id ORDER BY 1, 2, 3
        ON CONFLICT (schedule_id, outcome, month) WHERE month IS NOT NULL DO UPDATE SET
            first_tick_at = least(o.first_tick_at, excluded.first_tick_at),
            last_tick_at = greatest(o.last_tick_at, excluded.last_tick_at),
            ticks = o.ticks + excluded.ticks, failed = o.failed + excluded.failed),
    buried AS (
        INSERT INTO scheduler_tombstones (job_id, tenant, queue, task, status, execution_time, attempt, started_at, finished_at,
                                          source_digest)
        SELECT g.job_id, g.tenant, g.queue, g.task, g.status, g.execution_time, g.attempt, g.started_at, g.finished_at,
               g.source_digest
        FROM gone g
        WHERE (g.source_kind = 'ScheduledJob' OR g.job_id LIKE 'key:%') AND NOT (g.status = 'cancelled' AND g.attempt = 0)
        ON CONFLICT (job_id) DO NOTHING)
    SELECT g.job_id FROM gone g;
END $$;

-- object: FUNCTION scheduler_enqueue(text, json, json, timestamp with time zone, text, text, text, text, text, integer, integer, double precision, json, text, text[], json, timestamp with time zone, boolean, text, integer, text, interval, integer, text)
CREATE FUNCTION scheduler_enqueue(task text, args json DEFAULT '[]'::json, kwargs json DEFAULT '{}'::json, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, queue text DEFAULT 'default'::text, priority text DEFAULT 'normal'::text, job_id text DEFAULT NULL::text, on_conflict text DEFAULT 'raise'::text, tenant text DEFAULT ''::text, max_retries integer DEFAULT 0, misfire_grace_time integer DEFAULT NULL::integer, timeout_seconds double precision DEFAULT NULL::double precision, retry_policy json DEFAULT NULL::json, concurrency_key text DEFAULT NULL::text, tags text[] DEFAULT NULL::text[], metadata json DEFAULT NULL::json, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, keep_result boolean DEFAULT false, on_interrupt text DEFAULT 'retry'::text, max_interruptions integer DEFAULT NULL::integer, unique_key text DEFAULT NULL::text, unique_within interval DEFAULT NULL::interval, concurrency_limit integer DEFAULT NULL::integer, on_full text DEFAULT 'wait'::text) RETURNS text
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
DECLARE
    new_id   text := coalesce(scheduler_enqueue.job_id, gen_random_uuid()::text);
    due_at   timestamptz := coalesce(run_at, scheduler_now());
    level    integer := CASE scheduler_enqueue.priority
                        WHEN 'critical' THEN 1 WHEN 'high' THEN 3 WHEN 'normal' THEN 5 WHEN 'low' THEN 8 END;
    late     boolean;
    found_in text;
BEGIN
    PERFORM scheduler_refuse(problem, remedy) FROM (VALUES
        (coalesce(scheduler_enqueue.task, '') = '' OR octet_length(scheduler_enqueue.task) > 500,
         'task is empty or longer than 500 bytes', 'give a task''s key, such as ''shop.mail:send'''),
        (json_typeof(coalesce(args, 'null')) <> 'array', 'args is no JSON array', 'give for instance ''[1, "a"]'''),
        (json_typeof(coalesce(kwargs, 'null')) <> 'object', 'kwargs is no JSON object', 'give for instance ''{"a": 1}'''),
        (octet_length(args::text) + octet_length(kwargs::text) > 1048576, 'args and kwargs are longer than 1 MiB',
         'store the data elsewhere and pass a reference'),
        (NOT isfinite(due_at) OR due_at >= '9999-01-01 00:00:00+00', 'run_at is infinite or beyond the year 9998',
         'give a time before that'),
        (octet_length(scheduler_enqueue.queue) NOT BETWEEN 1 AND 200 OR scheduler_enqueue.queue IS NULL,
         'queue is not of 1 to 200 bytes', 'give a queue''s name'),
        (level IS NULL, 'priority is unknown', 'give critical, high, normal or low'),
        (octet_length(new_id) NOT BETWEEN 1 AND 200, 'job_id is not of 1 to 200 bytes', 'give a shorter one'),
        (new_id ~ '^(sj-|pj-|key:)', 'job_id begins with a reserved prefix',
         'sj-, pj- and key: belong to custom resources; begin it otherwise'),
        (on_conflict IS NULL OR on_conflict NOT IN ('raise', 'ignore', 'replace'), 'on_conflict is unknown',
         'give raise, ignore or replace'),
        (scheduler_enqueue.max_retries IS NULL OR scheduler_enqueue.max_retries < 0, 'max_retries is negative',
         'give 0 or more'),
        (scheduler_enqueue.misfire_grace_time < 0, 'misfire_grace_time is negative', 'give seconds from 0, or NULL'),
        (scheduler_enqueue.timeout_seconds <= 0 OR scheduler_enqueue.timeout_seconds > 31622400,
         'timeout_seconds is not above 0 and up to 366 days', 'give seconds, or NULL'),
        (json_typeof(scheduler_enqueue.retry_policy) <> 'object', 'retry_policy is no JSON object',
         'give for instance ''{"initial": 5}'''),
        (octet_length(scheduler_enqueue.concurrency_key) NOT BETWEEN 1 AND 200,
         'concurrency_key is not of 1 to 200 bytes', 'give a shorter one, or NULL'),
        (scheduler_enqueue.concurrency_limit NOT BETWEEN 1 AND 10000, 'concurrency_limit is not from 1 to 10000',
         'give a whole number in that range, or NULL'),
        (scheduler_enqueue.on_full IS NULL OR scheduler_enqueue.on_full NOT IN ('wait', 'skip', 'queue', 'replace'),
         'on_full is unknown', 'give wait, skip, queue or replace'),
        (scheduler_enqueue.concurrency_key IS NULL
         AND (scheduler_enqueue.concurrency_limit IS NOT NULL OR scheduler_enqueue.on_full <> 'wait'),
         'concurrency_limit or on_full is given without concurrency_key', 'give concurrency_key as well'),
        (cardinality(scheduler_enqueue.tags) > 20 OR array_position(scheduler_enqueue.tags, NULL) IS NOT NULL
         OR EXISTS (SELECT 1 FROM unnest(scheduler_enqueue.tags) t WHERE octet_length(t) NOT BETWEEN 1 AND 64),
         'tags is not a list of at most 20 texts of 1 to 64 bytes', 'give fewer or shorter ones'),
        (json_typeof(scheduler_enqueue.metadata) <> 'object' OR octet_length(scheduler_enqueue.metadata::text) > 16384,
         'metadata is no JSON object of up to 16 KiB', 'give for instance ''{"order": 7}'''),
        (scheduler_enqueue.on_interrupt IS NULL OR scheduler_enqueue.on_interrupt NOT IN ('retry', 'fail'),
         'on_interrupt is unknown', 'give retry or fail'),
        (scheduler_enqueue.max_interruptions < 0, 'max_interruptions is negative', 'give 0 or more, or NULL'),
        (octet_length(unique_key) NOT BETWEEN 1 AND 200, 'unique_key is not of 1 to 200 bytes', 'give a shorter one'),
        (unique_within <= interval '0', 'unique_within is not positive', 'give an interval, or NULL while it is open'),
        (unique_within IS NOT NULL AND unique_key IS NULL, 'unique_within is given without unique_key', 'give both'),
        (unique_key IS NOT NULL AND (scheduler_enqueue.job_id IS NOT NULL OR on_conflict = 'replace'),
         'unique_key is given together with a job_id or with replace', 'give only one of them')
    ) AS rules(broken, problem, remedy) WHERE broken;

    IF unique_key IS NOT NULL THEN
        found_in := scheduler_hold_key(scheduler_enqueue.tenant, unique_key, new_id, unique_within);
        IF found_in <> new_id THEN
            RETURN found_in;
        END IF;
    END IF;
    late := coalesce(scheduler_is_late(due_at, scheduler_enqueue.misfire_grace_time, scheduler_enqueue.expires_at,
                                       scheduler_now()), false);
    INSERT INTO scheduled_jobs AS j (
        job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries, misfire_grace_time,
        concurrency_key, timeout_seconds, retry_policy, on_interrupt, max_interruptions, expires_at, keep_result, tags,
        metadata, on_full, concurrency_limit, status, finished_at, error_message)
    VALUES (
        new_id, scheduler_enqueue.tenant, scheduler_enqueue.queue, scheduler_enqueue.task, scheduler_enqueue.task,
        json_build_object('args', args, 'kwargs', kwargs), due_at, level, scheduler_enqueue.max_retries,
        scheduler_enqueue.misfire_grace_time, scheduler_enqueue.concurrency_key, scheduler_enqueue.timeout_seconds,
        scheduler_enqueue.retry_policy, scheduler_enqueue.on_interrupt, scheduler_enqueue.max_interruptions,
        scheduler_enqueue.expires_at, scheduler_enqueue.keep_result, to_json(nullif(scheduler_enqueue.tags, '{}')),
        scheduler_enqueue.metadata, scheduler_enqueue.on_full, scheduler_enqueue.concurrency_limit,
        CASE WHEN late THEN 'expired' ELSE 'pending' END,
        CASE WHEN late THEN scheduler_now() END, CASE WHEN late THEN 'expired: too late when it was submitted' END)
    ON CONFLICT (job_id) DO UPDATE SET
        tenant = excluded.tenant, queue = excluded.queue, task = excluded.task, job_name = excluded.job_name,
        task_data = excluded.task_data, execution_time = excluded.execution_time, priority = excluded.priority,
        max_retries = excluded.max_retries, misfire_grace_time = excluded.misfire_grace_time,
        concurrency_key = excluded.concurrency_key, timeout_seconds = excluded.timeout_seconds,
        retry_policy = excluded.retry_policy, on_interrupt = excluded.on_interrupt,
        max_interruptions = excluded.max_interruptions, expires_at = excluded.expires_at,
        keep_result = excluded.keep_result, flush_now = false, tags = excluded.tags, metadata = excluded.metadata,
        on_full = excluded.on_full, concurrency_limit = excluded.concurrency_limit,
        suspended = false, status = excluded.status, finished_at = excluded.finished_at,
        error_message = excluded.error_message, token = 0,
        stopping_worker = CASE WHEN j.status = 'running' THEN j.worker_id ELSE j.stopping_worker END,
        stop_asked_at = CASE WHEN j.status = 'running' THEN scheduler_now() ELSE j.stop_asked_at END,
        stopping_token = CASE WHEN j.status = 'running' THEN j.token ELSE j.stopping_token END,
        attempt = 0, retry_count = 0, interruptions = 0, started_at = NULL
    WHERE on_conflict = 'replace' AND j.source_uid IS NULL
    RETURNING j.status INTO found_in;

    IF found_in IS NOT NULL AND scheduler_enqueue.concurrency_limit IS NOT NULL THEN
        PERFORM scheduler_set_limits(ARRAY[scheduler_enqueue.tenant], ARRAY[scheduler_enqueue.concurrency_key],
                                     ARRAY[scheduler_enqueue.concurrency_limit]);
    END IF;
    IF found_in = 'pending' AND due_at <= scheduler_now() + interval '5 seconds' THEN
        PERFORM pg_notify('scheduler_overdue', '') WHERE due_at < scheduler_now() - interval '5 seconds';
        PERFORM pg_notify('scheduler_wakeup', '');
    ELSIF found_in = 'expired' THEN
        RAISE WARNING 'job % was past its grace when it was submitted and is stored as expired', new_id;
    ELSIF found_in IS NULL AND on_conflict <> 'ignore' THEN
        RAISE EXCEPTION 'job % already exists', quote_literal(left(new_id, 40))
            USING ERRCODE = 'unique_violation', DETAIL = coalesce((
                SELECT 'it is ' || j.status || coalesce(' and belongs to ' || j.source_kind || ' ' || j.source_name, '')
                FROM scheduled_jobs j WHERE j.job_id = new_id), 'it is gone by now'),
            HINT = 'use another job_id, or on_conflict ignore or replace';
    END IF;
    RETURN new_id;
END $$;

-- object: FUNCTION scheduler_hold_key(text, text, text, interval)
CREATE FUNCTION scheduler_hold_key(for_tenant text, wanted text, new_job_id text, within interval) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    holder text;
    until timestamptz;
BEGIN
    INSERT INTO scheduler_keys AS k (tenant, key, job_id, expires_at)
    VALUES (for_tenant, wanted, new_job_id, scheduler_now() + within)
    ON CONFLICT (tenant, key) DO UPDATE SET job_id = k.job_id
    RETURNING k.job_id, k.expires_at INTO holder, until;
    IF holder = new_job_id THEN
        RETURN holder;
    END IF;
    IF until > scheduler_now() OR until IS NULL AND EXISTS (
        SELECT 1 FROM scheduled_jobs j WHERE j.job_id = holder AND j.finished_at IS NULL) THEN
        RETURN holder;
    END IF;
    UPDATE scheduler_keys k SET job_id = new_job_id, expires_at = scheduler_now() + within
    WHERE k.tenant = for_tenant AND k.key = wanted;
    RETURN new_job_id;
END $$;

-- object: FUNCTION scheduler_is_late(timestamp with time zone, integer, timestamp with time zone, timestamp with time zone)
CREATE FUNCTION scheduler_is_late(execution_time timestamp with time zone, misfire_grace_time integer, expires_at timestamp with time zone, served_since timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN ((expires_at <= scheduler_now()) OR (served_since > (execution_time + make_interval(secs => (misfire_grace_time)::double precision))));

-- object: FUNCTION scheduler_keep_drained()
CREATE FUNCTION scheduler_keep_drained() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('scheduler_maintenance', 208));
    IF EXISTS (SELECT FROM scheduler_maintenance) THEN
        NEW.drain_until := '9999-01-01 00:00:00+00';
    END IF;
    RETURN NEW;
END $$;

-- object: FUNCTION scheduler_leave_slot()
CREATE FUNCTION scheduler_leave_slot() RETURNS trigger
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    left_slot record;
BEGIN
    DELETE FROM scheduler_slots WHERE job_id = OLD.job_id RETURNING tenant, key INTO left_slot;
    IF FOUND THEN
        PERFORM scheduler_promote(left_slot.tenant, left_slot.key);
    END IF;
    IF OLD.concurrency_key IS NOT NULL AND (left_slot.tenant, left_slot.key) IS DISTINCT FROM
            (OLD.tenant, OLD.concurrency_key) THEN
        PERFORM scheduler_promote(OLD.tenant, OLD.concurrency_key);
    END IF;
    RETURN NULL;
END $$;

-- object: FUNCTION scheduler_limit_submissions()
CREATE FUNCTION scheduler_limit_submissions() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

-- object: FUNCTION scheduler_make_room(text, text)
CREATE FUNCTION scheduler_make_room(of_tenant text, of_key text) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    reason   CONSTANT text := 'replaced: a newer job of its concurrency key took its place';
    limit_   CONSTANT integer := coalesce((SELECT l.limit_ FROM scheduler_concurrency_limits l
                                           WHERE l.tenant = of_tenant AND l.key = of_key), 1);
    asking   integer;
    held     integer;
    vacating integer;
    again    text[];
    surplus  integer;
    gone     integer;
BEGIN
    UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now(), error_message = reason
    WHERE job_id = ANY(ARRAY(
        SELECT j.job_id FROM scheduled_jobs j
        WHERE j.tenant = of_tenant AND j.concurrency_key = of_key AND j.status = 'waiting' AND j.on_full = 'replace'
          AND j.attempt = 0
        ORDER BY j.execution_time DESC, j.id DESC OFFSET limit_ FOR UPDATE SKIP LOCKED));
    SELECT count(*) INTO asking FROM scheduled_jobs j
    WHERE j.tenant = of_tenant AND j.concurrency_key = of_key AND j.status = 'waiting' AND j.on_full = 'replace'
      AND j.attempt = 0;
    SELECT count(*), count(*) FILTER (WHERE j.status <> 'running') INTO held, vacating
    FROM scheduler_slots s JOIN scheduled_jobs j ON j.job_id = s.job_id
    WHERE s.tenant = of_tenant AND s.key = of_key;
    again := ARRAY(
        SELECT j.job_id FROM scheduled_jobs j
        WHERE j.tenant = of_tenant AND j.concurrency_key = of_key AND j.status = 'pending' AND j.attempt > 0
        UNION ALL
        SELECT j.job_id FROM scheduled_jobs j
        WHERE j.tenant = of_tenant AND j.concurrency_key = of_key AND j.status = 'waiting' AND j.attempt > 0);
    surplus := cardinality(again) + asking + held - vacating - limit_;
    UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now(), error_message = reason
    WHERE job_id = ANY(ARRAY(
        SELECT j.job_id FROM scheduled_jobs j WHERE j.job_id = ANY(again) AND j.status IN ('pending', 'waiting')
        ORDER BY j.token LIMIT greatest(least(surplus, greatest(asking - vacating, 1)), 0) FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now(), error_message = reason,
           stopping_worker = worker_id, stop_asked_at = scheduler_now(), stopping_token = token
    WHERE job_id = ANY(ARRAY(
        SELECT j.job_id FROM scheduled_jobs j JOIN scheduler_slots s ON s.job_id = j.job_id
        WHERE s.tenant = of_tenant AND s.key = of_key AND j.status = 'running'
        ORDER BY j.token LIMIT greatest(least(surplus, asking - vacating) - gone, 0) FOR UPDATE OF j SKIP LOCKED));
END $$;

-- object: FUNCTION scheduler_promote(text, text)
CREATE FUNCTION scheduler_promote(of_tenant text, of_key text) RETURNS integer
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    free     integer;
    retrying integer;
    promoted integer;
BEGIN
    IF NOT EXISTS (SELECT 1 FROM scheduled_jobs j
                   WHERE j.tenant = of_tenant AND j.concurrency_key = of_key AND j.status = 'waiting') THEN
        RETURN 0;
    END IF;
    free := coalesce((SELECT l.limit_ FROM scheduler_concurrency_limits l
                      WHERE l.tenant = of_tenant AND l.key = of_key), 1)
            - (SELECT count(*) FROM scheduler_slots s WHERE s.tenant = of_tenant AND s.key = of_key);
    IF free <= 0 THEN
        RETURN 0;
    END IF;
    retrying := (SELECT count(*) FROM scheduled_jobs j
                 WHERE j.tenant = of_tenant AND j.concurrency_key = of_key AND j.status = 'pending' AND j.attempt > 0);
    UPDATE scheduled_jobs SET status = 'pending' WHERE job_id = ANY(ARRAY(
        SELECT j.job_id FROM scheduled_jobs j
        WHERE j.tenant = of_tenant AND j.concurrency_key = of_key AND j.status = 'waiting'
          AND (retrying < free OR j.on_full <> 'queue' OR j.attempt > 0)
        ORDER BY j.priority, j.execution_time, j.id LIMIT free FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS promoted = ROW_COUNT;
    IF promoted > 0 THEN
        PERFORM pg_notify('scheduler_wakeup', '');
    END IF;
    RETURN promoted;
END $$;

-- object: FUNCTION scheduler_queue_opens_in(text, text)
CREATE FUNCTION scheduler_queue_opens_in(of_tenant text, of_queue text) RETURNS double precision
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    next_at timestamptz;
BEGIN
    IF scheduler_queue_room(of_tenant, of_queue) > 0 THEN
        RETURN 0;
    END IF;
    next_at := (SELECT min(c.until + make_interval(secs => s.rate_seconds))
                FROM scheduler_queue_settings s JOIN scheduler_queue_starts c ON c.tenant = s.tenant AND c.queue = s.queue
                WHERE s.tenant = of_tenant AND s.queue = of_queue
                  AND c.until > scheduler_now() - make_interval(secs => s.rate_seconds)
                HAVING sum(c.starts) >= min(s.rate_limit));
    RETURN coalesce(extract(epoch FROM next_at - scheduler_now()), 1);
END $$;

-- object: FUNCTION scheduler_queue_room(text, text)
CREATE FUNCTION scheduler_queue_room(of_tenant text, of_queue text) RETURNS integer
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    settings record;
    running  integer;
    started  integer;
BEGIN
    SELECT * INTO settings FROM scheduler_queue_settings s WHERE s.tenant = of_tenant AND s.queue = of_queue;
    IF settings.concurrency IS NOT NULL THEN
        running := (SELECT count(*) FROM scheduled_jobs j
                    WHERE j.status = 'running' AND j.tenant = of_tenant AND j.queue = of_queue)
                 + (SELECT count(*) FROM scheduled_jobs j
                    WHERE j.stopping_worker IS NOT NULL AND j.status <> 'running'
                      AND j.tenant = of_tenant AND j.queue = of_queue);
    END IF;
    IF settings.rate_limit IS NOT NULL THEN
        started := (SELECT coalesce(sum(c.starts), 0) FROM scheduler_queue_starts c
                    WHERE c.tenant = of_tenant AND c.queue = of_queue
                      AND c.until > scheduler_now() - make_interval(secs => settings.rate_seconds));
    END IF;
    RETURN greatest(0, least(settings.concurrency - running, settings.rate_limit - started, 1000000));
END $$;

-- object: FUNCTION scheduler_refuse(text, text)
CREATE FUNCTION scheduler_refuse(problem text, remedy text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'scheduler_enqueue: %', problem USING ERRCODE = 'invalid_parameter_value', HINT = remedy;
END $$;

-- object: FUNCTION scheduler_refuse_submission(text, text, text, text)
CREATE FUNCTION scheduler_refuse_submission(of_tenant text, limit_ text, value text, remedy text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'tenant % is at its limit %', quote_literal(left(of_tenant, 63)), limit_
        USING ERRCODE = 'configuration_limit_exceeded', TABLE = 'scheduler_tenant_limits', CONSTRAINT = limit_, DETAIL = value,
              HINT = remedy || format(', or have whoever runs the operator raise %s', limit_);
END $$;

-- object: FUNCTION scheduler_replace_job(text, text, text, text, text, text, timestamp with time zone, integer, integer, integer, text, double precision, text, text, integer, timestamp with time zone, boolean, boolean, text, text, text, integer, double precision)
CREATE FUNCTION scheduler_replace_job(given_job_id text, given_tenant text, given_queue text, given_task text, given_job_name text, given_task_data text, given_execution_time timestamp with time zone, given_priority integer, given_max_retries integer, given_misfire_grace_time integer, given_concurrency_key text, given_timeout_seconds double precision, given_retry_policy text, given_on_interrupt text, given_max_interruptions integer, given_expires_at timestamp with time zone, given_keep_result boolean, given_flush_now boolean, given_tags text, given_metadata text, given_on_full text, given_concurrency_limit integer, wake_within_seconds double precision) RETURNS TABLE(status text, soon boolean, overdue boolean)
    LANGUAGE plpgsql ROWS 1
    AS $$
#variable_conflict use_column
BEGIN
    WITH given AS MATERIALIZED (
        SELECT scheduler_is_late(given_execution_time, given_misfire_grace_time, given_expires_at, scheduler_now()) AS late),
    made AS (
        INSERT INTO scheduled_jobs AS j (job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries,
                                         misfire_grace_time, concurrency_key, timeout_seconds, retry_policy, on_interrupt,
                                         max_interruptions, expires_at, keep_result, flush_now, tags, metadata,
                                         on_full, concurrency_limit, status, finished_at, error_message)
        SELECT given_job_id, given_tenant, given_queue, given_task, given_job_name, given_task_data::json,
               given_execution_time, given_priority, given_max_retries, given_misfire_grace_time, given_concurrency_key,
               given_timeout_seconds, given_retry_policy::json, given_on_interrupt, given_max_interruptions,
               given_expires_at, given_keep_result, given_flush_now, given_tags::json, given_metadata::json,
               given_on_full, given_concurrency_limit,
               CASE WHEN late THEN 'expired' ELSE 'pending' END, CASE WHEN late THEN scheduler_now() END,
               CASE WHEN late THEN 'expired: too late when it was submitted' END
        FROM given
        ON CONFLICT (job_id) DO UPDATE SET
            tenant = excluded.tenant, queue = excluded.queue, task = excluded.task, job_name = excluded.job_name,
            task_data = excluded.task_data, execution_time = excluded.execution_time, priority = excluded.priority,
            max_retries = excluded.max_retries, misfire_grace_time = excluded.misfire_grace_time,
            concurrency_key = excluded.concurrency_key, timeout_seconds = excluded.timeout_seconds,
            retry_policy = excluded.retry_policy, on_interrupt = excluded.on_interrupt,
            max_interruptions = excluded.max_interruptions, expires_at = excluded.expires_at,
            keep_result = excluded.keep_result, flush_now = excluded.flush_now, tags = excluded.tags,
            metadata = excluded.metadata, on_full = excluded.on_full, concurrency_limit = excluded.concurrency_limit,
            suspended = false, status = excluded.status, finished_at = excluded.finished_at,
            error_message = excluded.error_message, token = 0,
            stopping_worker = CASE WHEN j.status = 'running' THEN j.worker_id ELSE j.stopping_worker END,
            stop_asked_at = CASE WHEN j.status = 'running' THEN scheduler_now() ELSE j.stop_asked_at END,
            stopping_token = CASE WHEN j.status = 'running' THEN j.token ELSE j.stopping_token END,
            attempt = 0, retry_count = 0, interruptions = 0, started_at = NULL
        WHERE j.source_uid IS NULL
        RETURNING status, status = 'pending' AND execution_time <= scheduler_now() + make_interval(secs => wake_within_seconds)
                  AS soon,
                  execution_time < scheduler_now() - interval '5 seconds' AS overdue
    )
    SELECT m.status, m.soon, m.overdue INTO status, soon, overdue FROM made m;
    IF FOUND THEN
        RETURN NEXT;
    END IF;
END $$;

-- object: FUNCTION scheduler_replace_jobs(text[], text[], text[], text[], text[], text[], timestamp with time zone[], integer[], integer[], integer[], text[], double precision[], text[], text[], integer[], timestamp with time zone[], boolean[], boolean[], text[], text[], text[], integer[])
CREATE FUNCTION scheduler_replace_jobs(given_job_id text[], given_tenant text[], given_queue text[], given_task text[], given_job_name text[], given_task_data text[], given_execution_time timestamp with time zone[], given_priority integer[], given_max_retries integer[], given_misfire_grace_time integer[], given_concurrency_key text[], given_timeout_seconds double precision[], given_retry_policy text[], given_on_interrupt text[], given_max_interruptions integer[], given_expires_at timestamp with time zone[], given_keep_result boolean[], given_flush_now boolean[], given_tags text[], given_metadata text[], given_on_full text[], given_concurrency_limit integer[]) RETURNS TABLE(job_id text, status text)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    UPDATE scheduled_jobs j SET
        tenant = b.tenant, queue = b.queue, task = b.task, job_name = b.job_name, task_data = b.task_data::json,
        execution_time = b.execution_time, priority = b.priority, max_retries = b.max_retries,
        misfire_grace_time = b.misfire_grace_time, concurrency_key = b.concurrency_key, timeout_seconds = b.timeout_seconds,
        retry_policy = b.retry_policy::json, on_interrupt = b.on_interrupt, max_interruptions = b.max_interruptions,
        expires_at = b.expires_at, keep_result = b.keep_result, flush_now = b.flush_now, tags = b.tags::json,
        metadata = b.metadata::json, on_full = b.on_full, concurrency_limit = b.concurrency_limit,
        suspended = false, token = 0,
        status = CASE WHEN l.late THEN 'expired' ELSE 'pending' END, finished_at = CASE WHEN l.late THEN scheduler_now() END,
        error_message = CASE WHEN l.late THEN 'expired: too late when it was submitted' END,
        stopping_worker = CASE WHEN j.status = 'running' THEN j.worker_id ELSE j.stopping_worker END,
        stop_asked_at = CASE WHEN j.status = 'running' THEN scheduler_now() ELSE j.stop_asked_at END,
        stopping_token = CASE WHEN j.status = 'running' THEN j.token ELSE j.stopping_token END,
        attempt = 0, retry_count = 0, interruptions = 0, started_at = NULL
    FROM (
        SELECT job_id, coalesce(tenant, given_tenant[1]) AS tenant, coalesce(queue, given_queue[1]) AS queue,
               coalesce(task, given_task[1]) AS task, coalesce(job_name, given_job_name[1]) AS job_name,
               coalesce(task_data, given_task_data[1]) AS task_data,
               coalesce(execution_time, given_execution_time[1]) AS execution_time,
               coalesce(priority, given_priority[1]) AS priority,
               coalesce(max_retries, given_max_retries[1]) AS max_retries,
               misfire_grace_time, concurrency_key, timeout_seconds, retry_policy,
               coalesce(on_interrupt, given_on_interrupt[1]) AS on_interrupt, max_interruptions, expires_at,
               coalesce(keep_result, given_keep_result[1]) AS keep_result,
               coalesce(flush_now, given_flush_now[1]) AS flush_now,
               tags, metadata, coalesce(on_full, given_on_full[1]) AS on_full, concurrency_limit
        FROM unnest(given_job_id, given_tenant, given_queue, given_task, given_job_name, given_task_data,
                    given_execution_time, given_priority, given_max_retries, given_misfire_grace_time,
                    given_concurrency_key, given_timeout_seconds, given_retry_policy, given_on_interrupt,
                    given_max_interruptions, given_expires_at, given_keep_result, given_flush_now, given_tags,
                    given_metadata, given_on_full, given_concurrency_limit)
             u(job_id, tenant, queue, task, job_name, task_data, execution_time, priority, max_retries, misfire_grace_time,
               concurrency_key, timeout_seconds, retry_policy, on_interrupt, max_interruptions, expires_at, keep_result,
               flush_now, tags, metadata, on_full, concurrency_limit)) b,
         LATERAL (SELECT scheduler_is_late(b.execution_time, b.misfire_grace_time, b.expires_at, scheduler_now()) AS late) l
    WHERE j.job_id = b.job_id AND j.source_uid IS NULL
    RETURNING j.job_id, j.status;
END $$;

-- object: FUNCTION scheduler_require_room(text, integer)
CREATE FUNCTION scheduler_require_room(of_tenant text, max_pending integer) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
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

-- object: FUNCTION scheduler_set_limits(text[], text[], integer[])
CREATE FUNCTION scheduler_set_limits(tenants text[], keys text[], limits integer[]) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    wish record;
BEGIN
    FOR wish IN
        SELECT DISTINCT ON (w.tenant, w.key) w.tenant, w.key, w.limit_
        FROM unnest(tenants, keys, limits) WITH ORDINALITY w(tenant, key, limit_, place)
        ORDER BY w.tenant, w.key, w.place DESC
    LOOP
        CONTINUE WHEN wish.limit_ IS NULL OR wish.limit_ = coalesce((
            SELECT l.limit_ FROM scheduler_concurrency_limits l WHERE l.tenant = wish.tenant AND l.key = wish.key), 1);
        IF wish.limit_ = 1 THEN
            DELETE FROM scheduler_concurrency_limits WHERE tenant = wish.tenant AND key = wish.key;
        ELSE
            INSERT INTO scheduler_concurrency_limits AS l (tenant, key, limit_) VALUES (wish.tenant, wish.key, wish.limit_)
            ON CONFLICT (tenant, key) DO UPDATE SET limit_ = excluded.limit_;
            PERFORM scheduler_promote(wish.tenant, wish.key);
        END IF;
    END LOOP;
END $$;

-- object: FUNCTION scheduler_set_maintenance(boolean, text, text)
CREATE FUNCTION scheduler_set_maintenance(turn_on boolean, who text, why text DEFAULT ''::text) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    was_on boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('scheduler_maintenance', 208));
    was_on := EXISTS (SELECT FROM scheduler_maintenance);
    IF turn_on THEN
        INSERT INTO scheduler_maintenance (set_by, reason) VALUES (who, why)
        ON CONFLICT (is_on) DO UPDATE SET set_by = excluded.set_by, reason = excluded.reason;
    ELSE
        DELETE FROM scheduler_maintenance;
    END IF;
    UPDATE scheduler_workers SET drain_until = CASE WHEN turn_on THEN timestamptz '9999-01-01 00:00:00+00' END
    WHERE state <> 'dead' AND (turn_on OR drain_until = '9999-01-01 00:00:00+00');
    PERFORM pg_notify('scheduler_overdue', ''), pg_notify('scheduler_wakeup', ''), pg_notify('scheduler_schedules', '');
    RETURN was_on <> turn_on;
END $$;

-- object: FUNCTION scheduler_start_unkeyed(text, text, text, timestamp with time zone, text[], integer, boolean)
CREATE FUNCTION scheduler_start_unkeyed(me text, of_tenant text, of_queue text, since timestamp with time zone, tasks text[], at_most integer, alone boolean) RETURNS scheduled_jobs[]
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    due   text[];
    late  text[];
    taken scheduled_jobs[];
BEGIN
    IF alone THEN
        due := ARRAY(
            SELECT j.job_id FROM scheduled_jobs j
            WHERE j.status = 'pending' AND j.interruptions >= 2 AND NOT j.suspended AND j.concurrency_key IS NULL
              AND j.stopping_worker IS NULL AND j.tenant = of_tenant AND j.queue = of_queue AND j.task = ANY(tasks)
              AND j.execution_time <= scheduler_now()
            ORDER BY j.priority, j.execution_time, j.id LIMIT at_most FOR UPDATE SKIP LOCKED);
    ELSE
        SELECT array_agg(d.job_id) FILTER (WHERE d.is_late IS NOT TRUE), array_agg(d.job_id) FILTER (WHERE d.is_late)
        INTO due, late FROM (
            SELECT e.job_id, e.is_late FROM unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
                SELECT j.job_id, j.token = 0 AND scheduler_is_late(
                           j.execution_time, j.misfire_grace_time, j.expires_at, since) AS is_late
                FROM scheduled_jobs j
                WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NULL
                  AND j.stopping_worker IS NULL AND j.interruptions < 2
                  AND j.tenant = of_tenant AND j.queue = of_queue AND j.priority = p.priority AND j.task = ANY(tasks)
                  AND j.execution_time <= scheduler_now()
                ORDER BY j.execution_time, j.id LIMIT at_most FOR UPDATE SKIP LOCKED) e
            LIMIT at_most) d;
    END IF;
    WITH started AS (
        UPDATE scheduled_jobs j
        SET status = 'running', worker_id = me, attempt = least(j.attempt, 9223372036854775806) + 1,
            token = nextval('scheduler_token'), started_at = scheduler_now()
        WHERE j.job_id = ANY(due)
        RETURNING j),
    expired AS (
        UPDATE scheduled_jobs j
        SET status = 'expired', finished_at = scheduler_now(), error_message = 'expired: no worker could start it in time',
            worker_id = me, token = nextval('scheduler_token'), started_at = NULL
        WHERE j.job_id = ANY(late)
        RETURNING j)
    SELECT array_agg(b.j) INTO taken FROM (SELECT s.j FROM started s UNION ALL SELECT e.j FROM expired e) b;
    RETURN taken;
END $$;

-- object: FUNCTION scheduler_take_back_ticks(bigint, timestamp with time zone)
CREATE FUNCTION scheduler_take_back_ticks(of_schedule bigint, later_than timestamp with time zone) RETURNS TABLE(tick_at timestamp with time zone, previous_tick_at timestamp with time zone)
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    DELETE FROM scheduled_jobs j
    WHERE j.schedule_id = of_schedule AND j.tick_at > later_than AND j.status = 'pending' AND j.attempt = 0
    RETURNING j.tick_at, j.previous_tick_at;
END $$;

-- object: FUNCTION scheduler_tick_outcome(text, text)
CREATE FUNCTION scheduler_tick_outcome(status text, error_message text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting'::text])) THEN 'open'::text WHEN (status = ANY (ARRAY['completed'::text, 'failed'::text])) THEN 'ran'::text WHEN (status = 'expired'::text) THEN 'missed'::text WHEN (error_message = 'skipped: its concurrency key was full'::text) THEN 'skipped_overlap'::text ELSE 'cancelled'::text END;

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

-- object: TABLE scheduler_clusters
CREATE TABLE scheduler_clusters (
    cluster text NOT NULL,
    identity text NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    held_at timestamp with time zone,
    held_rows bigint,
    held_of bigint,
    confirmed_rows bigint,
    CONSTRAINT scheduler_clusters_cluster_fits_an_index CHECK (((octet_length(cluster) >= 1) AND (octet_length(cluster) <= 200))),
    CONSTRAINT scheduler_clusters_hold_is_whole CHECK (
CASE
    WHEN (held_at IS NULL) THEN ((held_rows IS NULL) AND (held_of IS NULL) AND (confirmed_rows IS NULL))
    ELSE ((held_rows >= 1) AND (held_rows <= held_of))
END),
    CONSTRAINT scheduler_clusters_identity_fits CHECK (((octet_length(identity) >= 1) AND (octet_length(identity) <= 200)))
);

-- object: TABLE scheduler_concurrency_limits
CREATE TABLE scheduler_concurrency_limits (
    tenant text NOT NULL,
    key text NOT NULL,
    limit_ integer NOT NULL,
    CONSTRAINT scheduler_concurrency_limits_limit__check CHECK (((limit_ >= 2) AND (limit_ <= 10000)))
);

-- object: VIEW scheduler_jobs_overview
CREATE VIEW scheduler_jobs_overview AS
 SELECT id,
    job_id,
    tenant,
    queue,
    task,
    job_name,
    status,
    priority,
    execution_time,
    created_at,
    started_at,
    finished_at,
    expires_at,
    worker_id,
    attempt,
    retry_count,
    max_retries,
    interruptions,
    suspended,
    concurrency_key,
    timeout_seconds,
    schedule_id,
        CASE
            WHEN (schedule_id IS NOT NULL) THEN source_name
            ELSE NULL::text
        END AS schedule,
    tick_at,
    error_message AS error,
    tags,
    metadata
   FROM scheduled_jobs j;

-- object: TABLE scheduler_keys
CREATE TABLE scheduler_keys (
    tenant text NOT NULL,
    key text NOT NULL,
    job_id text NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT scheduler_keys_key_fits_an_index CHECK (((octet_length(key) >= 1) AND (octet_length(key) <= 200)))
);

-- object: TABLE scheduler_occurrences
CREATE TABLE scheduler_occurrences (
    id bigint NOT NULL,
    schedule_id bigint NOT NULL,
    outcome text NOT NULL,
    first_tick_at timestamp with time zone NOT NULL,
    last_tick_at timestamp with time zone NOT NULL,
    ticks bigint NOT NULL,
    failed bigint DEFAULT 0 NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    recorded_at timestamp with time zone DEFAULT scheduler_now() NOT NULL,
    month date,
    CONSTRAINT scheduler_occurrences_is_a_range CHECK (((last_tick_at >= first_tick_at) AND (ticks >= 1) AND ((failed >= 0) AND (failed <= ticks)))),
    CONSTRAINT scheduler_occurrences_outcome_is_known CHECK ((outcome = ANY (ARRAY['ran'::text, 'coalesced'::text, 'skipped_overlap'::text, 'skipped_suspended'::text, 'missed'::text, 'cancelled'::text, 'unrecorded'::text])))
);

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
    concurrency_key text,
    timeout_seconds double precision,
    retry_policy json,
    on_interrupt text DEFAULT 'retry'::text NOT NULL,
    tags json,
    metadata json,
    retired_at timestamp with time zone,
    retired_reason text,
    phase_seconds bigint DEFAULT 0 NOT NULL,
    seconds text DEFAULT '0'::text NOT NULL,
    nonexistent text DEFAULT 'shift_forward'::text NOT NULL,
    ambiguous text DEFAULT 'first'::text NOT NULL,
    jitter_seconds integer DEFAULT 0 NOT NULL,
    start_at timestamp with time zone,
    end_at timestamp with time zone,
    max_runs integer,
    missed text DEFAULT 'run_latest'::text NOT NULL,
    max_catch_up integer DEFAULT 100 NOT NULL,
    starting_deadline_seconds integer,
    overlap text DEFAULT 'allow'::text NOT NULL,
    suspend_after_failures integer,
    runs bigint DEFAULT 0 NOT NULL,
    last_run_tick_at timestamp with time zone,
    suspended_at timestamp with time zone,
    suspended_by text,
    suspend_reason text DEFAULT ''::text NOT NULL,
    halted_at timestamp with time zone,
    halted_reason text,
    time_zone_data text,
    concurrency_limit integer,
    keep_result boolean DEFAULT false NOT NULL,
    successful_history_limit integer,
    failed_history_limit integer,
    deletion text DEFAULT 'cancel_pending'::text NOT NULL,
    CONSTRAINT scheduler_schedules_concurrency_limit_fits CHECK (((concurrency_limit >= 1) AND (concurrency_limit <= 10000))),
    CONSTRAINT scheduler_schedules_deletion_is_known CHECK ((deletion = ANY (ARRAY['cancel_pending'::text, 'cancel'::text, 'orphan'::text]))),
    CONSTRAINT scheduler_schedules_end_is_after_start CHECK ((end_at >= start_at)),
    CONSTRAINT scheduler_schedules_halted_does_not_tick CHECK (((halted_at IS NULL) OR (next_tick_at IS NULL))),
    CONSTRAINT scheduler_schedules_halted_has_a_reason CHECK (((halted_at IS NULL) = (halted_reason IS NULL))),
    CONSTRAINT scheduler_schedules_history_fits CHECK (((successful_history_limit >= 0) AND (successful_history_limit <= 10000) AND (failed_history_limit >= 0) AND (failed_history_limit <= 10000) AND ((successful_history_limit IS NULL) = (failed_history_limit IS NULL)))),
    CONSTRAINT scheduler_schedules_interval_or_cron CHECK (((interval_seconds IS NULL) <> (cron IS NULL))),
    CONSTRAINT scheduler_schedules_interval_seconds_check CHECK ((interval_seconds >= 1)),
    CONSTRAINT scheduler_schedules_numbers_fit CHECK (((jitter_seconds >= 0) AND (jitter_seconds <= 86400) AND (max_runs >= 1) AND (max_catch_up >= 1) AND (max_catch_up <= 10000) AND (starting_deadline_seconds >= 0) AND (suspend_after_failures >= 1) AND (phase_seconds >= 0) AND (phase_seconds < COALESCE(interval_seconds, (1)::bigint)))),
    CONSTRAINT scheduler_schedules_on_interrupt_is_known CHECK ((on_interrupt = ANY (ARRAY['retry'::text, 'fail'::text]))),
    CONSTRAINT scheduler_schedules_priority_check CHECK ((priority = ANY (ARRAY[1, 3, 5, 8]))),
    CONSTRAINT scheduler_schedules_retired_has_a_reason CHECK (((retired_at IS NULL) = (retired_reason IS NULL))),
    CONSTRAINT scheduler_schedules_timeout_is_positive CHECK ((timeout_seconds > (0)::double precision)),
    CONSTRAINT scheduler_schedules_words_are_known CHECK (((nonexistent = ANY (ARRAY['shift_forward'::text, 'skip'::text])) AND (ambiguous = ANY (ARRAY['first'::text, 'last'::text, 'both'::text])) AND (missed = ANY (ARRAY['run_latest'::text, 'skip'::text, 'run_all'::text])) AND (overlap = ANY (ARRAY['allow'::text, 'skip'::text, 'queue'::text, 'replace'::text]))))
);

-- object: VIEW scheduler_ledger
CREATE VIEW scheduler_ledger AS
 SELECT s.id AS schedule_id,
    s.tenant,
    s.source_kind,
    s.source_uid,
    s.source_name AS schedule,
    s.ticks AS planned,
    j.open,
    (j.ran + o.ran) AS ran,
    (j.failed + o.failed) AS failed,
    o.coalesced,
    (j.skipped_overlap + o.skipped_overlap) AS skipped_overlap,
    o.skipped_suspended,
    (j.missed + o.missed) AS missed,
    (j.cancelled + o.cancelled) AS cancelled,
    o.unrecorded,
    ((s.ticks - j.jobs) - o.ticks) AS unaccounted
   FROM ((scheduler_schedules s
     CROSS JOIN LATERAL ( SELECT count(*) AS jobs,
            count(*) FILTER (WHERE (t.outcome = 'open'::text)) AS open,
            count(*) FILTER (WHERE (t.outcome = 'ran'::text)) AS ran,
            count(*) FILTER (WHERE (t.status = 'failed'::text)) AS failed,
            count(*) FILTER (WHERE (t.outcome = 'skipped_overlap'::text)) AS skipped_overlap,
            count(*) FILTER (WHERE (t.outcome = 'missed'::text)) AS missed,
            count(*) FILTER (WHERE (t.outcome = 'cancelled'::text)) AS cancelled
           FROM ( SELECT j_1.status,
                    scheduler_tick_outcome(j_1.status, j_1.error_message) AS outcome
                   FROM scheduled_jobs j_1
                  WHERE ((j_1.schedule_id = s.id) AND (j_1.tick_at IS NOT NULL))) t) j)
     CROSS JOIN LATERAL ( SELECT (COALESCE(sum(o_1.ticks), (0)::numeric))::bigint AS ticks,
            (COALESCE(sum(o_1.ticks) FILTER (WHERE (o_1.outcome = 'ran'::text)), (0)::numeric))::bigint AS ran,
            (COALESCE(sum(o_1.failed), (0)::numeric))::bigint AS failed,
            (COALESCE(sum(o_1.ticks) FILTER (WHERE (o_1.outcome = 'coalesced'::text)), (0)::numeric))::bigint AS coalesced,
            (COALESCE(sum(o_1.ticks) FILTER (WHERE (o_1.outcome = 'skipped_overlap'::text)), (0)::numeric))::bigint AS skipped_overlap,
            (COALESCE(sum(o_1.ticks) FILTER (WHERE (o_1.outcome = 'skipped_suspended'::text)), (0)::numeric))::bigint AS skipped_suspended,
            (COALESCE(sum(o_1.ticks) FILTER (WHERE (o_1.outcome = 'missed'::text)), (0)::numeric))::bigint AS missed,
            (COALESCE(sum(o_1.ticks) FILTER (WHERE (o_1.outcome = 'cancelled'::text)), (0)::numeric))::bigint AS cancelled,
            (COALESCE(sum(o_1.ticks) FILTER (WHERE (o_1.outcome = 'unrecorded'::text)), (0)::numeric))::bigint AS unrecorded
           FROM scheduler_occurrences o_1
          WHERE (o_1.schedule_id = s.id)) o);

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
    backend_watched boolean DEFAULT false NOT NULL,
    drain_since timestamp with time zone,
    pod_namespace text,
    node text,
    pool text,
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

-- object: TABLE scheduler_maintenance
CREATE TABLE scheduler_maintenance (
    is_on boolean DEFAULT true NOT NULL,
    since timestamp with time zone DEFAULT scheduler_now() NOT NULL,
    set_by text NOT NULL,
    reason text NOT NULL,
    CONSTRAINT scheduler_maintenance_is_one_row CHECK (is_on)
);

-- object: SEQUENCE scheduler_occurrences_id_seq
ALTER TABLE scheduler_occurrences ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME scheduler_occurrences_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- object: TABLE scheduler_pool_settings
CREATE TABLE scheduler_pool_settings (
    tenant text NOT NULL,
    name text NOT NULL,
    source_cluster text NOT NULL,
    source_uid text NOT NULL,
    source_generation bigint NOT NULL,
    made_at timestamp with time zone NOT NULL,
    allowed_tasks text[]
);

-- object: TABLE scheduler_pools
CREATE TABLE scheduler_pools (
    tenant text NOT NULL,
    name text NOT NULL,
    queues text[] NOT NULL,
    tasks text[] NOT NULL,
    strangers json NOT NULL,
    starts json NOT NULL,
    CONSTRAINT scheduler_pools_are_small CHECK (((cardinality(queues) <= 500) AND (cardinality(tasks) <= 500) AND (length(((strangers)::text || (starts)::text)) <= 100000)))
);

-- object: TABLE scheduler_queues
CREATE TABLE scheduler_queues (
    tenant text NOT NULL,
    queue text NOT NULL,
    paused_at timestamp with time zone,
    paused_by text,
    reason text,
    served_since timestamp with time zone,
    served_until timestamp with time zone,
    limited boolean DEFAULT false NOT NULL
)
WITH (fillfactor='50');

-- object: VIEW scheduler_queue_depth
CREATE VIEW scheduler_queue_depth AS
 WITH RECURSIVE plain AS (
        ( SELECT scheduled_jobs.tenant,
            scheduled_jobs.queue
           FROM scheduled_jobs
          WHERE ((scheduled_jobs.status = 'pending'::text) AND (NOT scheduled_jobs.suspended) AND (scheduled_jobs.concurrency_key IS NULL))
          ORDER BY scheduled_jobs.tenant, scheduled_jobs.queue
         LIMIT 1)
        UNION ALL
         SELECT n.tenant,
            n.queue
           FROM (plain p
             CROSS JOIN LATERAL ( SELECT j.tenant,
                    j.queue
                   FROM scheduled_jobs j
                  WHERE ((j.status = 'pending'::text) AND (NOT j.suspended) AND (j.concurrency_key IS NULL) AND (ROW(j.tenant, j.queue) > ROW(p.tenant, p.queue)))
                  ORDER BY j.tenant, j.queue
                 LIMIT 1) n)
        ), keyed AS (
        ( SELECT scheduled_jobs.tenant,
            scheduled_jobs.queue
           FROM scheduled_jobs
          WHERE ((scheduled_jobs.status = 'pending'::text) AND (NOT scheduled_jobs.suspended) AND (scheduled_jobs.concurrency_key IS NOT NULL))
          ORDER BY scheduled_jobs.tenant, scheduled_jobs.queue
         LIMIT 1)
        UNION ALL
         SELECT n.tenant,
            n.queue
           FROM (keyed k
             CROSS JOIN LATERAL ( SELECT j.tenant,
                    j.queue
                   FROM scheduled_jobs j
                  WHERE ((j.status = 'pending'::text) AND (NOT j.suspended) AND (j.concurrency_key IS NOT NULL) AND (ROW(j.tenant, j.queue) > ROW(k.tenant, k.queue)))
                  ORDER BY j.tenant, j.queue
                 LIMIT 1) n)
        ), counted AS (
         SELECT q.tenant,
            q.queue,
            d.due,
            (0)::bigint AS running,
            d.since
           FROM ((plain q
             CROSS JOIN unnest(ARRAY[1, 3, 5, 8]) p(priority))
             CROSS JOIN LATERAL ( SELECT count(*) AS due,
                    min(j.execution_time) AS since
                   FROM scheduled_jobs j
                  WHERE ((j.status = 'pending'::text) AND (NOT j.suspended) AND (j.concurrency_key IS NULL) AND (j.tenant = q.tenant) AND (j.queue = q.queue) AND (j.priority = p.priority) AND (j.execution_time <= scheduler_now()))) d)
        UNION ALL
         SELECT q.tenant,
            q.queue,
            d.due,
            0,
            d.since
           FROM ((keyed q
             CROSS JOIN unnest(ARRAY[1, 3, 5, 8]) p(priority))
             CROSS JOIN LATERAL ( SELECT count(*) AS due,
                    min(j.execution_time) AS since
                   FROM scheduled_jobs j
                  WHERE ((j.status = 'pending'::text) AND (NOT j.suspended) AND (j.concurrency_key IS NOT NULL) AND (j.tenant = q.tenant) AND (j.queue = q.queue) AND (j.priority = p.priority) AND (j.execution_time <= scheduler_now()))) d)
        UNION ALL
         SELECT j.tenant,
            j.queue,
            0,
            1,
            NULL::timestamp with time zone
           FROM scheduled_jobs j
          WHERE (j.status = 'running'::text)
        UNION ALL
         SELECT q.tenant,
            q.queue,
            0,
            0,
            NULL::timestamp with time zone
           FROM scheduler_queues q
        )
 SELECT tenant,
    queue,
    (sum(due))::bigint AS due,
    (sum(running))::bigint AS running,
    (COALESCE(EXTRACT(epoch FROM (scheduler_now() - min(since))), (0)::numeric))::double precision AS oldest_due_seconds,
    (EXISTS ( SELECT 1
           FROM scheduler_queues p
          WHERE ((p.tenant = c.tenant) AND (p.queue = c.queue) AND (p.paused_at IS NOT NULL)))) AS paused
   FROM counted c
  GROUP BY tenant, queue;

-- object: TABLE scheduler_queue_settings
CREATE TABLE scheduler_queue_settings (
    tenant text NOT NULL,
    queue text NOT NULL,
    pool text NOT NULL,
    weight integer DEFAULT 1 NOT NULL,
    concurrency integer,
    rate_limit integer,
    rate_seconds integer,
    paused boolean DEFAULT false NOT NULL,
    CONSTRAINT scheduler_queue_settings_concurrency_check CHECK (((concurrency >= 1) AND (concurrency <= 100000))),
    CONSTRAINT scheduler_queue_settings_rate_is_whole CHECK (((rate_limit IS NULL) = (rate_seconds IS NULL))),
    CONSTRAINT scheduler_queue_settings_rate_limit_check CHECK (((rate_limit >= 1) AND (rate_limit <= 1000000))),
    CONSTRAINT scheduler_queue_settings_rate_seconds_check CHECK (((rate_seconds >= 1) AND (rate_seconds <= 86400))),
    CONSTRAINT scheduler_queue_settings_weight_check CHECK (((weight >= 1) AND (weight <= 1000)))
);

-- object: TABLE scheduler_queue_starts
CREATE TABLE scheduler_queue_starts (
    tenant text NOT NULL,
    queue text NOT NULL,
    until timestamp with time zone NOT NULL,
    starts integer NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0');

-- object: TABLE scheduler_results
CREATE TABLE scheduler_results (
    job_id text NOT NULL,
    token bigint NOT NULL,
    progress double precision,
    note text,
    result json,
    refused text,
    stored_at timestamp with time zone DEFAULT scheduler_now() NOT NULL,
    CONSTRAINT scheduler_results_kept_or_refused CHECK (((result IS NULL) OR (refused IS NULL))),
    CONSTRAINT scheduler_results_progress_check CHECK (((progress >= (0)::double precision) AND (progress <= (1)::double precision)))
);

-- object: VIEW scheduler_schedule_runs
CREATE VIEW scheduler_schedule_runs AS
 SELECT s.id AS schedule_id,
    COALESCE(ahead.tick_at, s.next_tick_at) AS next_run_at,
    newest.started_at AS last_run_at,
    newest.status AS last_status
   FROM ((scheduler_schedules s
     CROSS JOIN LATERAL ( SELECT min(j.tick_at) AS tick_at
           FROM scheduled_jobs j
          WHERE ((j.schedule_id = s.id) AND (j.tick_at > scheduler_now()))) ahead)
     LEFT JOIN LATERAL (( SELECT j.started_at,
            j.status
           FROM scheduled_jobs j
          WHERE ((j.schedule_id = s.id) AND (j.tick_at <= scheduler_now()) AND (j.started_at IS NOT NULL))
          ORDER BY j.tick_at DESC
         LIMIT 1)
        UNION ALL
        ( SELECT j.started_at,
            j.status
           FROM scheduled_jobs j
          WHERE ((j.schedule_id = s.id) AND (j.tick_at IS NULL) AND (j.started_at IS NOT NULL))
          ORDER BY j.started_at DESC
         LIMIT 1)
  ORDER BY 1 DESC
 LIMIT 1) newest ON (true));

-- object: SEQUENCE scheduler_schedules_id_seq
ALTER TABLE scheduler_schedules ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME scheduler_schedules_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- object: TABLE scheduler_slots
CREATE TABLE scheduler_slots (
    tenant text NOT NULL,
    key text NOT NULL,
    slot integer NOT NULL,
    job_id text NOT NULL,
    CONSTRAINT scheduler_slots_slot_check CHECK (((slot >= 1) AND (slot <= 10000)))
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0');

-- object: TABLE scheduler_tenant_limits
CREATE TABLE scheduler_tenant_limits (
    tenant text NOT NULL,
    source_cluster text NOT NULL,
    max_pending integer,
    rate_limit integer,
    rate_seconds integer,
    min_interval_seconds integer,
    CONSTRAINT scheduler_tenant_limits_cluster_fits_an_index CHECK ((octet_length(source_cluster) <= 200)),
    CONSTRAINT scheduler_tenant_limits_max_pending_check CHECK (((max_pending >= 1) AND (max_pending <= 10000000))),
    CONSTRAINT scheduler_tenant_limits_min_interval_seconds_check CHECK (((min_interval_seconds >= 1) AND (min_interval_seconds <= 86400))),
    CONSTRAINT scheduler_tenant_limits_rate_is_whole CHECK (((rate_limit IS NULL) = (rate_seconds IS NULL))),
    CONSTRAINT scheduler_tenant_limits_rate_limit_check CHECK (((rate_limit >= 1) AND (rate_limit <= 1000000))),
    CONSTRAINT scheduler_tenant_limits_rate_seconds_check CHECK (((rate_seconds >= 1) AND (rate_seconds <= 86400))),
    CONSTRAINT scheduler_tenant_limits_tenant_fits_an_index CHECK ((octet_length(tenant) <= 200))
);

-- object: TABLE scheduler_tenant_submissions
CREATE TABLE scheduler_tenant_submissions (
    tenant text NOT NULL,
    until timestamp with time zone NOT NULL,
    backend integer NOT NULL,
    jobs bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0');

-- object: SEQUENCE scheduler_token
CREATE SEQUENCE scheduler_token
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

-- object: TABLE scheduler_tombstones
CREATE TABLE scheduler_tombstones (
    job_id text NOT NULL,
    tenant text NOT NULL,
    queue text NOT NULL,
    task text NOT NULL,
    status text NOT NULL,
    execution_time timestamp with time zone NOT NULL,
    attempt bigint NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    source_digest text,
    CONSTRAINT scheduler_tombstones_status_check CHECK ((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'expired'::text])))
);

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

-- object: CONSTRAINT scheduled_jobs scheduled_jobs_pkey
ALTER TABLE ONLY scheduled_jobs
    ADD CONSTRAINT scheduled_jobs_pkey PRIMARY KEY (job_id) WITH (fillfactor='50');

-- object: CONSTRAINT scheduler_adopted scheduler_adopted_pkey
ALTER TABLE ONLY scheduler_adopted
    ADD CONSTRAINT scheduler_adopted_pkey PRIMARY KEY (job_id);

-- object: CONSTRAINT scheduler_attempts scheduler_attempts_pkey
ALTER TABLE ONLY scheduler_attempts
    ADD CONSTRAINT scheduler_attempts_pkey PRIMARY KEY (job_id, token);

-- object: CONSTRAINT scheduler_clusters scheduler_clusters_pkey
ALTER TABLE ONLY scheduler_clusters
    ADD CONSTRAINT scheduler_clusters_pkey PRIMARY KEY (cluster);

-- object: CONSTRAINT scheduler_concurrency_limits scheduler_concurrency_limits_pkey
ALTER TABLE ONLY scheduler_concurrency_limits
    ADD CONSTRAINT scheduler_concurrency_limits_pkey PRIMARY KEY (tenant, key);

-- object: CONSTRAINT scheduler_keys scheduler_keys_pkey
ALTER TABLE ONLY scheduler_keys
    ADD CONSTRAINT scheduler_keys_pkey PRIMARY KEY (tenant, key);

-- object: CONSTRAINT scheduler_maintenance scheduler_maintenance_pkey
ALTER TABLE ONLY scheduler_maintenance
    ADD CONSTRAINT scheduler_maintenance_pkey PRIMARY KEY (is_on);

-- object: CONSTRAINT scheduler_occurrences scheduler_occurrences_pkey
ALTER TABLE ONLY scheduler_occurrences
    ADD CONSTRAINT scheduler_occurrences_pkey PRIMARY KEY (id);

-- object: CONSTRAINT scheduler_pool_settings scheduler_pool_settings_pkey
ALTER TABLE ONLY scheduler_pool_settings
    ADD CONSTRAINT scheduler_pool_settings_pkey PRIMARY KEY (tenant, name);

-- object: CONSTRAINT scheduler_pools scheduler_pools_pkey
ALTER TABLE ONLY scheduler_pools
    ADD CONSTRAINT scheduler_pools_pkey PRIMARY KEY (tenant, name);

-- object: CONSTRAINT scheduler_queue_settings scheduler_queue_settings_pkey
ALTER TABLE ONLY scheduler_queue_settings
    ADD CONSTRAINT scheduler_queue_settings_pkey PRIMARY KEY (tenant, queue);

-- object: CONSTRAINT scheduler_queue_starts scheduler_queue_starts_pkey
ALTER TABLE ONLY scheduler_queue_starts
    ADD CONSTRAINT scheduler_queue_starts_pkey PRIMARY KEY (tenant, queue, until);

-- object: CONSTRAINT scheduler_queues scheduler_queues_pkey
ALTER TABLE ONLY scheduler_queues
    ADD CONSTRAINT scheduler_queues_pkey PRIMARY KEY (tenant, queue);

-- object: CONSTRAINT scheduler_results scheduler_results_pkey
ALTER TABLE ONLY scheduler_results
    ADD CONSTRAINT scheduler_results_pkey PRIMARY KEY (job_id);

-- object: CONSTRAINT scheduler_schedules scheduler_schedules_pkey
ALTER TABLE ONLY scheduler_schedules
    ADD CONSTRAINT scheduler_schedules_pkey PRIMARY KEY (id);

-- object: CONSTRAINT scheduler_schedules scheduler_schedules_source
ALTER TABLE ONLY scheduler_schedules
    ADD CONSTRAINT scheduler_schedules_source UNIQUE (tenant, source_kind, source_cluster, source_uid);

-- object: CONSTRAINT scheduler_slots scheduler_slots_job_id_key
ALTER TABLE ONLY scheduler_slots
    ADD CONSTRAINT scheduler_slots_job_id_key UNIQUE (job_id);

-- object: CONSTRAINT scheduler_slots scheduler_slots_pkey
ALTER TABLE ONLY scheduler_slots
    ADD CONSTRAINT scheduler_slots_pkey PRIMARY KEY (tenant, key, slot);

-- object: CONSTRAINT scheduler_tenant_limits scheduler_tenant_limits_pkey
ALTER TABLE ONLY scheduler_tenant_limits
    ADD CONSTRAINT scheduler_tenant_limits_pkey PRIMARY KEY (tenant);

-- object: CONSTRAINT scheduler_tenant_submissions scheduler_tenant_submissions_pkey
ALTER TABLE ONLY scheduler_tenant_submissions
    ADD CONSTRAINT scheduler_tenant_submissions_pkey PRIMARY KEY (tenant, until, backend);

-- object: CONSTRAINT scheduler_tombstones scheduler_tombstones_pkey
ALTER TABLE ONLY scheduler_tombstones
    ADD CONSTRAINT scheduler_tombstones_pkey PRIMARY KEY (job_id);

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

-- object: INDEX scheduled_jobs_keyed_retries
CREATE INDEX scheduled_jobs_keyed_retries ON scheduled_jobs USING btree (tenant, concurrency_key) WHERE ((concurrency_key IS NOT NULL) AND (status = 'pending'::text) AND (attempt > 0));

-- object: INDEX scheduled_jobs_open_by_source
CREATE INDEX scheduled_jobs_open_by_source ON scheduled_jobs USING btree (source_cluster) WHERE ((source_uid IS NOT NULL) AND (finished_at IS NULL));

-- object: INDEX scheduled_jobs_poison
CREATE INDEX scheduled_jobs_poison ON scheduled_jobs USING btree (tenant, queue, priority, execution_time, id) WHERE ((status = 'pending'::text) AND (interruptions >= 2));

-- object: INDEX scheduled_jobs_running
CREATE INDEX scheduled_jobs_running ON scheduled_jobs USING btree (worker_id, token) WHERE (status = 'running'::text);

-- object: INDEX scheduled_jobs_stopping
CREATE INDEX scheduled_jobs_stopping ON scheduled_jobs USING btree (stopping_worker) WHERE (stopping_worker IS NOT NULL);

-- object: INDEX scheduled_jobs_tick
CREATE UNIQUE INDEX scheduled_jobs_tick ON scheduled_jobs USING btree (schedule_id, tick_at) WHERE (schedule_id IS NOT NULL);

-- object: INDEX scheduled_jobs_waiting_in_order
CREATE INDEX scheduled_jobs_waiting_in_order ON scheduled_jobs USING btree (tenant, concurrency_key, priority, execution_time, id) WHERE (status = 'waiting'::text);

-- object: INDEX scheduler_keys_expired
CREATE INDEX scheduler_keys_expired ON scheduler_keys USING btree (expires_at);

-- object: INDEX scheduler_occurrences_month
CREATE UNIQUE INDEX scheduler_occurrences_month ON scheduler_occurrences USING btree (schedule_id, outcome, month) WHERE (month IS NOT NULL);

-- object: INDEX scheduler_occurrences_recorded
CREATE INDEX scheduler_occurrences_recorded ON scheduler_occurrences USING btree (recorded_at) WHERE (month IS NULL);

-- object: INDEX scheduler_occurrences_schedule
CREATE INDEX scheduler_occurrences_schedule ON scheduler_occurrences USING btree (schedule_id, first_tick_at);

-- object: INDEX scheduler_queue_settings_pool
CREATE INDEX scheduler_queue_settings_pool ON scheduler_queue_settings USING btree (tenant, pool);

-- object: INDEX scheduler_schedules_due
CREATE INDEX scheduler_schedules_due ON scheduler_schedules USING btree (tenant, next_tick_at) WHERE ((next_tick_at IS NOT NULL) AND enabled AND (NOT suspended));

-- object: INDEX scheduler_schedules_halted
CREATE INDEX scheduler_schedules_halted ON scheduler_schedules USING btree (halted_at) WHERE (halted_at IS NOT NULL);

-- object: INDEX scheduler_schedules_overdue
CREATE INDEX scheduler_schedules_overdue ON scheduler_schedules USING btree (next_tick_at) WHERE (source_kind = 'PeriodicJob'::text);

-- object: INDEX scheduler_tombstones_finished
CREATE INDEX scheduler_tombstones_finished ON scheduler_tombstones USING btree (tenant, finished_at);

-- object: TRIGGER scheduled_jobs scheduler_deleted_leaves_slot
CREATE TRIGGER scheduler_deleted_leaves_slot AFTER DELETE ON scheduled_jobs FOR EACH ROW WHEN (((old.stopping_worker IS NOT NULL) OR ((old.concurrency_key IS NOT NULL) AND (old.status = ANY (ARRAY['running'::text, 'pending'::text]))))) EXECUTE FUNCTION scheduler_leave_slot();

-- object: TRIGGER scheduled_jobs scheduler_leaves_slot
CREATE TRIGGER scheduler_leaves_slot AFTER UPDATE ON scheduled_jobs FOR EACH ROW WHEN ((((old.stopping_worker IS NOT NULL) OR ((old.concurrency_key IS NOT NULL) AND (old.status = ANY ('{running,pending}'::text[])))) AND (new.stopping_worker IS NULL) AND (new.status <> ALL ('{running,waiting}'::text[])))) EXECUTE FUNCTION scheduler_leave_slot();

-- object: TRIGGER scheduler_tenant_limits scheduler_limits_apply
CREATE TRIGGER scheduler_limits_apply AFTER INSERT OR DELETE OR UPDATE ON scheduler_tenant_limits FOR EACH STATEMENT EXECUTE FUNCTION scheduler_apply_tenant_limits();

-- object: TRIGGER scheduler_queue_settings scheduler_settings_apply
CREATE TRIGGER scheduler_settings_apply AFTER INSERT OR DELETE OR UPDATE ON scheduler_queue_settings FOR EACH ROW EXECUTE FUNCTION scheduler_apply_queue_settings();

-- object: TRIGGER scheduler_workers scheduler_workers_keep_drained
CREATE TRIGGER scheduler_workers_keep_drained BEFORE INSERT OR UPDATE OF drain_until ON scheduler_workers FOR EACH ROW EXECUTE FUNCTION scheduler_keep_drained();

-- object: FK CONSTRAINT scheduler_attempts scheduler_attempts_job_id_fkey
ALTER TABLE ONLY scheduler_attempts
    ADD CONSTRAINT scheduler_attempts_job_id_fkey FOREIGN KEY (job_id) REFERENCES scheduled_jobs(job_id) ON UPDATE CASCADE ON DELETE CASCADE;

-- object: FK CONSTRAINT scheduler_occurrences scheduler_occurrences_schedule_id_fkey
ALTER TABLE ONLY scheduler_occurrences
    ADD CONSTRAINT scheduler_occurrences_schedule_id_fkey FOREIGN KEY (schedule_id) REFERENCES scheduler_schedules(id) ON DELETE CASCADE;

-- object: FK CONSTRAINT scheduler_queue_settings scheduler_queue_settings_tenant_pool_fkey
ALTER TABLE ONLY scheduler_queue_settings
    ADD CONSTRAINT scheduler_queue_settings_tenant_pool_fkey FOREIGN KEY (tenant, pool) REFERENCES scheduler_pool_settings(tenant, name) ON DELETE CASCADE;

-- object: FK CONSTRAINT scheduler_results scheduler_results_job_id_fkey
ALTER TABLE ONLY scheduler_results
    ADD CONSTRAINT scheduler_results_job_id_fkey FOREIGN KEY (job_id) REFERENCES scheduled_jobs(job_id) ON UPDATE CASCADE ON DELETE CASCADE;
