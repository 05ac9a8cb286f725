-- min_reader: 1
-- Settings of worker pools and of their queues. Releases up to 0.3 do not look at limits: these hold from when the last of their
-- workers has ended.
--
-- A claim of a limited queue locks the queue's row of scheduler_queue_settings, so that one at a time gives out what is left; it
-- leaves the queue alone if another one has that: it waits for nobody. Beats write scheduler_queues, which no claim locks.

-- allowed_tasks: globs of the tasks that workers of this pool run; NULL means all. Of two pools, the older is first in everything.
CREATE TABLE scheduler_pool_settings (
    tenant            text        NOT NULL,
    name              text        NOT NULL,
    source_cluster    text        NOT NULL,
    source_uid        text        NOT NULL,
    source_generation bigint      NOT NULL,
    made_at           timestamptz NOT NULL,
    allowed_tasks     text[],
    PRIMARY KEY (tenant, name)
);

CREATE TABLE scheduler_queue_settings (
    tenant       text    NOT NULL,
    queue        text    NOT NULL,
    pool         text    NOT NULL,
    weight       integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
    concurrency  integer CHECK (concurrency BETWEEN 1 AND 100000),
    rate_limit   integer CHECK (rate_limit BETWEEN 1 AND 1000000),
    rate_seconds integer CHECK (rate_seconds BETWEEN 1 AND 86400),
    paused       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant, queue),
    CONSTRAINT scheduler_queue_settings_rate_is_whole CHECK ((rate_limit IS NULL) = (rate_seconds IS NULL)),
    FOREIGN KEY (tenant, pool) REFERENCES scheduler_pool_settings (tenant, name) ON DELETE CASCADE
);
CREATE INDEX scheduler_queue_settings_pool ON scheduler_queue_settings (tenant, pool);

-- Starts of a queue with a rate limit, in cells of a hundredth of its window. A cell leaves the window with its last moment: so
-- no window, wherever it begins, has more starts than the limit, and the next may come a hundredth of it late.
CREATE TABLE scheduler_queue_starts (
    tenant text        NOT NULL,
    queue  text        NOT NULL,
    until  timestamptz NOT NULL,
    starts integer     NOT NULL,
    PRIMARY KEY (tenant, queue, until)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

-- What claims ask in the one row that they read of each queue anyway: those of limited queues have a statement of their own.
ALTER TABLE scheduler_queues ADD COLUMN limited boolean NOT NULL DEFAULT false;

-- Keeps scheduler_queues as the settings say, and wakes the workers. A pause by people stays when that of a pool ends.
CREATE FUNCTION scheduler_apply_queue_settings() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER scheduler_settings_apply AFTER INSERT OR UPDATE OR DELETE ON scheduler_queue_settings
FOR EACH ROW EXECUTE FUNCTION scheduler_apply_queue_settings();

-- How many jobs of a limited queue may start now. What is told to stop counts until its coroutine has ended.
CREATE FUNCTION scheduler_queue_room(of_tenant text, of_queue text) RETURNS integer LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
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

-- In how many seconds it is worth asking for a limited queue: 0 while there is room. Whoever ends a job of a full one asks by
-- itself; the others within a second.
CREATE FUNCTION scheduler_queue_opens_in(of_tenant text, of_queue text) RETURNS double precision LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
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

-- Claim due jobs of limited queues, never ahead of their time; the caller selects the columns of ClaimedJob. Each statement has
-- its own snapshot, so that what is counted under the lock holds what the claim before has started. Of the two kinds of jobs the
-- one whose first is more urgent goes first. What is too late at its first claim expires, and is returned with attempt 0, beyond
-- at_most. With alone = true it takes those that have outlived two workers, and only those.
CREATE FUNCTION scheduler_claim_limited(me text, of_tenant text, queues text[], tasks text[], at_most integer, alone boolean)
RETURNS SETOF scheduled_jobs LANGUAGE plpgsql
SET enable_seqscan = off AS $$
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

-- Start due jobs without a key of one queue, at most so many, which the caller has seen to be free.
CREATE FUNCTION scheduler_start_unkeyed(me text, of_tenant text, of_queue text, since timestamptz, tasks text[],
                                        at_most integer, alone boolean)
RETURNS scheduled_jobs[] LANGUAGE plpgsql
SET enable_seqscan = off AS $$
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

-- Enter so many starts in the present cell of a queue with a rate limit, under the lock of its settings; forget old cells.
CREATE FUNCTION scheduler_count_starts(of_tenant text, of_queue text, more integer) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off AS $$
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
