-- min_reader: 1
-- What writes a job's task and arguments, or deletes a job, in functions of its own: a role that may do neither may still be
-- let in here, where the row says whether it may be done.

-- A running attempt is fenced off and told to stop; the row is claimed again when its worker says it has. A new job has
-- token 0: it is judged anew when it is first claimed, and no outcome carries that token. A row of a custom resource stays.
CREATE FUNCTION scheduler_replace_job(
    given_job_id text, given_tenant text, given_queue text, given_task text, given_job_name text, given_task_data text,
    given_execution_time timestamptz, given_priority integer, given_max_retries integer,
    given_misfire_grace_time integer, given_concurrency_key text, given_timeout_seconds double precision,
    given_retry_policy text, given_on_interrupt text, given_max_interruptions integer, given_expires_at timestamptz,
    given_keep_result boolean, given_flush_now boolean, given_tags text, given_metadata text, given_on_full text,
    given_concurrency_limit integer, wake_within_seconds double precision)
    RETURNS TABLE (status text, soon boolean, overdue boolean) LANGUAGE plpgsql ROWS 1 AS $$
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

-- As scheduler_replace_job, for rows that exist. A value that all jobs share in a column without NULL is given once, and
-- nothing in one of NULL alone.
CREATE FUNCTION scheduler_replace_jobs(
    given_job_id text[], given_tenant text[], given_queue text[], given_task text[], given_job_name text[],
    given_task_data text[], given_execution_time timestamptz[], given_priority integer[], given_max_retries integer[],
    given_misfire_grace_time integer[], given_concurrency_key text[], given_timeout_seconds double precision[],
    given_retry_policy text[], given_on_interrupt text[], given_max_interruptions integer[],
    given_expires_at timestamptz[], given_keep_result boolean[], given_flush_now boolean[], given_tags text[],
    given_metadata text[], given_on_full text[], given_concurrency_limit integer[])
    RETURNS TABLE (job_id text, status text) LANGUAGE plpgsql SET enable_seqscan = off AS $$
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

-- Ticks that nobody has started, inserted ahead of time.
CREATE FUNCTION scheduler_take_back_ticks(of_schedule bigint, later_than timestamptz)
    RETURNS TABLE (tick_at timestamptz, previous_tick_at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    DELETE FROM scheduled_jobs j
    WHERE j.schedule_id = of_schedule AND j.tick_at > later_than AND j.status = 'pending' AND j.attempt = 0
    RETURNING j.tick_at, j.previous_tick_at;
END $$;
