-- min_reader: 1
-- What schedules that must not overlap need of their keys: on_full = 'queue' lets one job wait, and no more; a keyed job is
-- claimed a little ahead, as others are; and what became of a tick can be told from its job.

ALTER TABLE scheduled_jobs
    DROP CONSTRAINT scheduled_jobs_words_are_known,
    ADD CONSTRAINT scheduled_jobs_words_are_known CHECK (
        on_interrupt = ANY ('{retry,fail}'::text[]) AND on_full = ANY ('{wait,skip,queue,replace}'::text[])) NOT VALID;

-- What became of a tick. The one word that status does not say is in the error that scheduler_claim_keyed writes.
CREATE FUNCTION scheduler_tick_outcome(status text, error_message text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN status IN ('pending', 'running', 'waiting') THEN 'open'
    WHEN status IN ('completed', 'failed') THEN 'ran'
    WHEN status = 'expired' THEN 'missed'
    WHEN error_message = 'skipped: its concurrency key was full' THEN 'skipped_overlap'
    ELSE 'cancelled' END;

-- Schedule a job; its id. In the caller's transaction, as every function.
CREATE OR REPLACE FUNCTION scheduler_enqueue(
    task               text,
    args               json             DEFAULT '[]',
    kwargs             json             DEFAULT '{}',
    run_at             timestamptz      DEFAULT NULL,
    queue              text             DEFAULT 'default',
    priority           text             DEFAULT 'normal',
    job_id             text             DEFAULT NULL,
    on_conflict        text             DEFAULT 'raise',
    tenant             text             DEFAULT '',
    max_retries        integer          DEFAULT 0,
    misfire_grace_time integer          DEFAULT NULL,
    timeout_seconds    double precision DEFAULT NULL,
    retry_policy       json             DEFAULT NULL,
    concurrency_key    text             DEFAULT NULL,
    tags               text[]           DEFAULT NULL,
    metadata           json             DEFAULT NULL,
    expires_at         timestamptz      DEFAULT NULL,
    keep_result        boolean          DEFAULT false,
    on_interrupt       text             DEFAULT 'retry',
    max_interruptions  integer          DEFAULT NULL,
    unique_key         text             DEFAULT NULL,
    unique_within      interval         DEFAULT NULL,
    concurrency_limit  integer          DEFAULT NULL,
    on_full            text             DEFAULT 'wait')
RETURNS text LANGUAGE plpgsql AS $$
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

-- As many of the key's waiting jobs as it has free slots go back to the queue, first those that would have run first.
-- Promoting too many does no harm: who finds the key full waits again. But one with on_full = 'queue' would find it full for as
-- long as another is to be retried, and is left to wait for the end of that. Workers are woken, since the one whose slot this
-- was has looked for work before the row said so.
CREATE OR REPLACE FUNCTION scheduler_promote(of_tenant text, of_key text) RETURNS integer LANGUAGE plpgsql
SET enable_seqscan = off AS $$
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

-- Claim due jobs that have a key; the caller selects the columns of ClaimedJob. Each statement has its own snapshot, which is
-- what makes the order below right. Never waits (see the head of 0010):
--   1. due jobs, locked, more than are asked for: those of full keys leave the queue, or they would hide the others. While
--      none of them can run, more are looked at. What is too late at its first claim expires, and is returned with attempt
--      0. What has outlived two workers is claimed alone, and only by who says so. If fewer are due than are asked for, those
--      of other keys that will be within ahead_seconds: they may take a free slot, and that is all that is decided of them.
--      What replaces is not among them, since it would stop another too early;
--   2. their keys, locked by trying: one claim at a time gives out the slots of a key, so that no insert meets another's. At
--      most 64, since such a lock takes room in the server's shared memory. Who fails leaves the jobs for the next poll. Of
--      those that replace only the newest are left, even if they run already: who was first to claim decides nothing;
--   3. free slots to the first jobs of each key: what replaces, or it would stop at once what is started here; what has
--      started before; the others. Only a slot that this snapshot sees as absent is taken: one that is being
--      deleted is still there, and waiting for its deleter could be waiting in a circle. What skips or queues gives way to
--      what has started and will again, and to who waits before it;
--   4. what has lost is parked if the key is full for certain: all its slots locked against deletion. One that is just being
--      deleted is skipped, and its key not full; one that we hold is deleted after our commit, and its deleter then sees who
--      waits. For what skips or queues so are the rows of those that will start again. A job that has started once waits
--      whatever its on_full says, and displaces nobody again. Of those that queue one waits, the first.
CREATE FUNCTION scheduler_claim_keyed(me text, of_tenant text, queues text[], tasks text[], at_most integer,
                                      alone boolean, ahead_seconds double precision)
RETURNS SETOF scheduled_jobs LANGUAGE plpgsql
SET enable_seqscan = off AS $$
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

-- For workers of 0.2, which claim nothing ahead.
CREATE OR REPLACE FUNCTION scheduler_claim_keyed(me text, of_tenant text, queues text[], tasks text[], at_most integer,
                                      alone boolean DEFAULT false)
RETURNS SETOF scheduled_jobs LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT * FROM scheduler_claim_keyed(me, of_tenant, queues, tasks, at_most, alone, 0);
END $$;
