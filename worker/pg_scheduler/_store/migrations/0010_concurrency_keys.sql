-- min_reader: 1
-- Concurrency keys: of the jobs that share a key, at most its limit hold a slot, over the whole fleet.
--
-- Who waits for whom, so that nothing waits in a circle: a claim waits for nobody (it locks jobs and slots with SKIP LOCKED and
-- keys by trying). What ends a job waits only for claims, when it deletes its slot. What promotes takes waiting rows with SKIP
-- LOCKED.

ALTER TABLE scheduled_jobs
    ADD COLUMN on_full           text NOT NULL DEFAULT 'wait',
    ADD COLUMN concurrency_limit integer,
    ADD CONSTRAINT scheduled_jobs_on_full_is_known CHECK (on_full IN ('wait', 'skip', 'replace')) NOT VALID,
    ADD CONSTRAINT scheduled_jobs_concurrency_limit_is_positive CHECK (concurrency_limit BETWEEN 1 AND 10000) NOT VALID,
    ADD CONSTRAINT scheduled_jobs_concurrency_limit_has_a_key
        CHECK (concurrency_limit IS NULL OR concurrency_key IS NOT NULL) NOT VALID,
    ADD CONSTRAINT scheduled_jobs_waiting_has_a_key CHECK (status <> 'waiting' OR concurrency_key IS NOT NULL) NOT VALID;

ALTER TABLE scheduler_schedules ADD COLUMN concurrency_key text;

-- Limits above 1. A key without a row has the limit 1, so that keys without end, such as order numbers, leave nothing behind.
CREATE TABLE scheduler_concurrency_limits (
    tenant text    NOT NULL,
    key    text    NOT NULL,
    limit_ integer NOT NULL CHECK (limit_ BETWEEN 2 AND 10000),
    PRIMARY KEY (tenant, key)
);

-- A slot is held from the claim until the job has left `running` and no coroutine of it is being stopped.
CREATE TABLE scheduler_slots (
    tenant text    NOT NULL,
    key    text    NOT NULL,
    slot   integer NOT NULL CHECK (slot BETWEEN 1 AND 10000),
    job_id text    NOT NULL UNIQUE,
    PRIMARY KEY (tenant, key, slot)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

-- The functions below forbid scans of whole tables: the slots are few rows among many dead ones, and a plan that was made while
-- there were none would read all of them for each job. They look limits up in place: PostgreSQL inlines no
-- function that holds a subquery.

-- As many of the key's waiting jobs as it has free slots go back to the queue, first those that would have run first.
-- Promoting too many does no harm: who finds the key full waits again. Workers are woken, since the one whose slot this was
-- has looked for work before the row said so.
CREATE FUNCTION scheduler_promote(of_tenant text, of_key text) RETURNS integer LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    free     integer;
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
    UPDATE scheduled_jobs SET status = 'pending' WHERE job_id = ANY(ARRAY(
        SELECT j.job_id FROM scheduled_jobs j
        WHERE j.tenant = of_tenant AND j.concurrency_key = of_key AND j.status = 'waiting'
        ORDER BY j.priority, j.execution_time, j.id LIMIT free FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS promoted = ROW_COUNT;
    IF promoted > 0 THEN
        PERFORM pg_notify('scheduler_wakeup', '');
    END IF;
    RETURN promoted;
END $$;

-- The newest submission sets the limit of a key; several at once in the order of their keys. A limit that stands already is
-- not locked: submissions in long transactions do not wait for each other.
CREATE FUNCTION scheduler_set_limits(tenants text[], keys text[], limits integer[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off AS $$
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

-- Called for a row that has left its slot, or its place in the queue. The delete waits for a claim that is about to park jobs
-- of the key (it holds the slots FOR KEY SHARE); the next statement then sees them.
CREATE FUNCTION scheduler_leave_slot() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off AS $$
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

-- One trigger for every statement that ends, hands back, rescues, stops or changes a job, this release's and others'. Two null
-- tests are what a job without a key pays. A row that stays `pending` may have been put off: somebody else may run instead.
CREATE TRIGGER scheduler_leaves_slot AFTER UPDATE ON scheduled_jobs FOR EACH ROW
WHEN ((OLD.stopping_worker IS NOT NULL OR OLD.concurrency_key IS NOT NULL AND OLD.status IN ('running', 'pending'))
      AND NEW.stopping_worker IS NULL AND NEW.status NOT IN ('running', 'waiting'))
EXECUTE FUNCTION scheduler_leave_slot();

CREATE TRIGGER scheduler_deleted_leaves_slot AFTER DELETE ON scheduled_jobs FOR EACH ROW
WHEN (OLD.stopping_worker IS NOT NULL OR OLD.concurrency_key IS NOT NULL AND OLD.status IN ('running', 'pending'))
EXECUTE FUNCTION scheduler_leave_slot();

-- What jobs with on_full = 'replace' ask for. Of those that wait the newest stay, at most as many as the limit. Each displaces
-- one other: first the oldest that is to be retried, then the oldest that runs, unless enough slots are being vacated. A slot
-- is free only when the worker has reported the end of the coroutine, is dead, or has been silent for 30 s.
CREATE FUNCTION scheduler_make_room(of_tenant text, of_key text) RETURNS void LANGUAGE plpgsql
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
           stopping_worker = worker_id, stop_asked_at = scheduler_now()
    WHERE job_id = ANY(ARRAY(
        SELECT j.job_id FROM scheduled_jobs j JOIN scheduler_slots s ON s.job_id = j.job_id
        WHERE s.tenant = of_tenant AND s.key = of_key AND j.status = 'running'
        ORDER BY j.token LIMIT greatest(least(surplus, asking - vacating) - gone, 0) FOR UPDATE OF j SKIP LOCKED));
END $$;

-- Claim due jobs that have a key; the caller selects the columns of ClaimedJob. Each statement has its own snapshot, which is
-- what makes the order below right. Never waits (see the head of this file):
--   1. due jobs, locked, more than are asked for: those of full keys leave the queue, or they would hide the others. While
--      none of them can run, more are looked at. What is too late at its first claim expires, and is returned with attempt
--      0. What has outlived two workers is claimed alone, and only by who says so;
--   2. their keys, locked by trying: one claim at a time gives out the slots of a key, so that no insert meets another's. At
--      most 64, since such a lock takes room in the server's shared memory. Who fails leaves the jobs for the next poll;
--   3. free slots to the first jobs of each key: what replaces, or it would stop at once what is started here; what has
--      started before; the others. Only a slot that this snapshot sees as absent is taken: one that is being
--      deleted is still there, and waiting for its deleter could be waiting in a circle;
--   4. what has lost is parked if the key is full for certain: all its slots locked against deletion. One that is just being
--      deleted is skipped, and its key not full; one that we hold is deleted after our commit, and its deleter then sees who
--      waits. A job that has started once waits whatever its on_full says.
CREATE FUNCTION scheduler_claim_keyed(me text, of_tenant text, queues text[], tasks text[], at_most integer,
                                      alone boolean DEFAULT false)
RETURNS SETOF scheduled_jobs LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    due     text[];
    late    text[];
    seen    integer;
    keys    text[];
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
        EXIT WHEN seen = 0;

        SELECT array_agg(k.key) INTO keys FROM (
            SELECT j.concurrency_key AS key FROM scheduled_jobs j WHERE j.job_id = ANY(due)
            GROUP BY j.concurrency_key ORDER BY min(j.priority), min(j.execution_time) LIMIT 64) k
        WHERE pg_try_advisory_xact_lock(hashtextextended(of_tenant || '/' || k.key, 208));
        CONTINUE WHEN keys IS NULL;

        UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now(),
               error_message = 'replaced: a newer job of its concurrency key took its place'
        WHERE job_id = ANY(ARRAY(
            SELECT r.job_id FROM (
                SELECT j.job_id, j.concurrency_key AS key,
                       row_number() OVER (PARTITION BY j.concurrency_key ORDER BY j.execution_time DESC, j.id DESC) AS place
                FROM scheduled_jobs j
                WHERE j.job_id = ANY(due) AND j.concurrency_key = ANY(keys) AND j.on_full = 'replace' AND j.attempt = 0) r
            WHERE r.place > coalesce((SELECT l.limit_ FROM scheduler_concurrency_limits l
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
                   j.on_full = 'skip' AND j.attempt = 0 AS gives_way,
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
            ORDER BY a.priority, a.execution_time, a.id LIMIT at_most),
        taken AS (
            INSERT INTO scheduler_slots (tenant, key, slot, job_id) SELECT of_tenant, w.key, w.slot, w.job_id FROM wins w
            ON CONFLICT DO NOTHING RETURNING job_id)
        SELECT array_agg(t.job_id) INTO won FROM taken t;

        RETURN QUERY
        UPDATE scheduled_jobs j
        SET status = 'running', worker_id = me, attempt = j.attempt + 1, token = nextval('scheduler_token'),
            started_at = scheduler_now()
        WHERE j.job_id = ANY(won)
        RETURNING j.*;

        WITH held AS MATERIALIZED (
            SELECT s.key FROM scheduler_slots s WHERE s.tenant = of_tenant AND s.key = ANY(keys) FOR KEY SHARE SKIP LOCKED)
        SELECT array_agg(c.key) FILTER (WHERE c.held >= c.limit_),
               array_agg(c.key) FILTER (WHERE c.held + c.retrying >= c.limit_)
        INTO full_, closed
        FROM (
            SELECT k.key, count(h.key) AS held,
                   coalesce((SELECT l.limit_ FROM scheduler_concurrency_limits l
                             WHERE l.tenant = of_tenant AND l.key = k.key), 1) AS limit_,
                   (SELECT count(*) FROM scheduled_jobs j WHERE j.tenant = of_tenant AND j.concurrency_key = k.key
                      AND j.status = 'pending' AND j.attempt > 0 AND j.job_id <> ALL(due)) AS retrying
            FROM unnest(keys) k(key) LEFT JOIN held h USING (key)
            GROUP BY k.key) c;
        UPDATE scheduled_jobs j
        SET status = 'cancelled', finished_at = scheduler_now(), error_message = 'skipped: its concurrency key was full'
        WHERE j.job_id = ANY(due) AND j.status = 'pending' AND j.on_full = 'skip' AND j.attempt = 0
          AND j.concurrency_key = ANY(closed);
        UPDATE scheduled_jobs j SET status = 'waiting'
        WHERE j.job_id = ANY(due) AND j.status = 'pending' AND j.concurrency_key = ANY(full_);
        FOR key_ IN
            SELECT DISTINCT j.concurrency_key FROM scheduled_jobs j
            WHERE j.job_id = ANY(due) AND j.on_full = 'replace' AND j.status IN ('running', 'waiting')
              AND j.concurrency_key = ANY(keys)
        LOOP
            PERFORM scheduler_make_room(of_tenant, key_);
        END LOOP;

        EXIT WHEN won IS NOT NULL OR seen < take;
    END LOOP;
END $$;
