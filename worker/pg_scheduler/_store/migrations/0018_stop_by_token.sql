-- min_reader: 1
-- The two functions that stop a running job write whose word is waited for, as the statements have since 0016: with an older
-- token there, the word that an earlier coroutine of the job has ended, sent once more, freed the row, and its slot, beside the
-- one that was still to end.

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
        (scheduler_enqueue.on_full IS NULL OR scheduler_enqueue.on_full NOT IN ('wait', 'skip', 'replace'),
         'on_full is unknown', 'give wait, skip or replace'),
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

-- What jobs with on_full = 'replace' ask for. Of those that wait the newest stay, at most as many as the limit. Each displaces
-- one other: first the oldest that is to be retried, then the oldest that runs, unless enough slots are being vacated. A slot
-- is free only when the worker has reported the end of the coroutine, is dead, or has been silent for 30 s.
CREATE OR REPLACE FUNCTION scheduler_make_room(of_tenant text, of_key text) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off AS $$
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
