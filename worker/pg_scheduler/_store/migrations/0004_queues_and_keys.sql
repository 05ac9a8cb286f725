-- min_reader: 1
-- Queues: who holds them back, and since when a living worker has served them. Keys: what is not to be submitted twice.

CREATE TABLE scheduler_queues (
    tenant       text NOT NULL,
    queue        text NOT NULL,
    paused_at    timestamptz,
    paused_by    text,
    reason       text,
    served_since timestamptz,
    served_until timestamptz,
    PRIMARY KEY (tenant, queue)
) WITH (fillfactor = 50);

-- A key outlives its job where it has an expires_at; without one it counts while the job is open.
CREATE TABLE scheduler_keys (
    tenant     text NOT NULL,
    key        text NOT NULL CONSTRAINT scheduler_keys_key_fits_an_index CHECK (octet_length(key) BETWEEN 1 AND 200),
    job_id     text NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX scheduler_keys_expired ON scheduler_keys (expires_at);

-- Whether a job that never started is too late to start: past its own end, or nobody served its queue from its time to the
-- end of its grace. At submission "served since" is now. NULL counts as no.
CREATE FUNCTION scheduler_is_late(execution_time timestamptz, misfire_grace_time integer, expires_at timestamptz,
                                  served_since timestamptz)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
RETURN expires_at <= scheduler_now() OR served_since > execution_time + make_interval(secs => misfire_grace_time);

-- The job that holds a key from now on: $3, or the one that had it. Each statement of a function sees what was committed
-- before it, so whoever waited for the row's lock looks at the holder's job as it is, not as it was when the call began.
CREATE FUNCTION scheduler_hold_key(for_tenant text, wanted text, new_job_id text, within interval)
RETURNS text LANGUAGE plpgsql AS $$
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
