-- name: claim_keyed_jobs
-- As claim_jobs, for jobs with a concurrency key; the function is in migration 0019 and says how. $6 claims what
-- claim_poison_job would, of these jobs; $7 is how many seconds ahead. Limited queues are left to claim_limited_jobs. Columns in
-- the order of ClaimedJob's fields.
SELECT j.id, j.job_id, j.token, j.worker_id, j.task, j.task_data::text, j.queue, j.priority,
       greatest(j.execution_time, timestamptz '0001-01-02 00:00+00'), j.attempt, j.retry_count, j.max_retries,
       CASE WHEN j.tick_at BETWEEN '0001-01-02' AND '9999-01-01' THEN j.tick_at END, j.previous_tick_at, j.concurrency_key,
       j.timeout_seconds,
       j.retry_policy::text, j.on_interrupt, j.keep_result, j.flush_now
FROM scheduler_claim_keyed($1, $2, ARRAY(
    SELECT u.queue FROM unnest($3::text[]) WITH ORDINALITY u(queue, place)
    WHERE NOT EXISTS (SELECT FROM scheduler_queues s WHERE s.tenant = $2 AND s.queue = u.queue AND s.limited)
    ORDER BY u.place), $4::text[], $5, $6, $7) j;

-- name: set_limits
-- What a batch says of its keys' limits, in the batch's own transaction.
SELECT scheduler_set_limits($1::text[], $2::text[], $3::int[]);

-- name: promote_waiting
-- A promotion that was lost lasts one sweep. Slots without a holder are there only if somebody has truncated the jobs or
-- changed their ids; the next sweep promotes into them.
WITH stray AS (
    DELETE FROM scheduler_slots s WHERE NOT EXISTS (
        SELECT FROM scheduled_jobs j
        WHERE j.job_id = s.job_id AND (j.status = 'running' OR j.stopping_worker IS NOT NULL)))
SELECT coalesce(sum(scheduler_promote(k.tenant, k.concurrency_key)), 0)::bigint
FROM (SELECT DISTINCT tenant, concurrency_key FROM scheduled_jobs WHERE status = 'waiting') k;
