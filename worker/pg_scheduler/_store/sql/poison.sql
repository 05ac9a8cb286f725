-- name: claim_poison_job
-- One due job that has outlived two workers, for a worker that holds nothing; as claim_jobs in all else, and with the same
-- columns. Its index holds few rows or none. Those with a concurrency key need a slot: claim_keyed_jobs takes them; those of a
-- limited queue need room: claim_limited_jobs does.
WITH me AS MATERIALIZED (
    SELECT id FROM scheduler_workers
    WHERE id = $1 AND state = 'alive' AND lease_until > scheduler_now()
      AND (drain_until IS NULL OR drain_until < scheduler_now())
    FOR SHARE),
due AS MATERIALIZED (
    SELECT j.ctid FROM scheduled_jobs j
    WHERE EXISTS (SELECT 1 FROM me) AND j.status = 'pending' AND j.interruptions >= 2 AND NOT j.suspended
      AND j.concurrency_key IS NULL AND j.stopping_worker IS NULL
      AND j.tenant = $2 AND j.queue = ANY($3::text[]) AND j.task = ANY($4::text[])
      AND j.execution_time <= scheduler_now()
      AND NOT EXISTS (SELECT 1 FROM scheduler_queues s
                      WHERE s.tenant = $2 AND s.queue = j.queue AND (s.paused_at IS NOT NULL OR s.limited))
    ORDER BY j.priority, j.execution_time, j.id LIMIT 1 FOR UPDATE SKIP LOCKED)
UPDATE scheduled_jobs j
SET status = 'running', worker_id = $1, attempt = attempt + 1, token = nextval('scheduler_token'),
    started_at = scheduler_now()
WHERE j.ctid = ANY(ARRAY(SELECT ctid FROM due))
RETURNING j.id, j.job_id, j.token, j.worker_id, j.task, j.task_data::text, j.queue, j.priority,
          j.execution_time, j.attempt, j.retry_count, j.max_retries, j.tick_at, j.previous_tick_at, j.concurrency_key,
          j.timeout_seconds, j.retry_policy::text, j.on_interrupt, j.keep_result, j.flush_now;

-- name: must_make_room
-- Whether a job waits for a worker that holds nothing, and of the living workers that could run it this one is to become so:
-- the first by name, so that the others go on.
SELECT EXISTS (
    SELECT 1 FROM scheduled_jobs j
    WHERE j.status = 'pending' AND j.interruptions >= 2 AND NOT j.suspended
      AND j.stopping_worker IS NULL
      AND j.tenant = $2 AND j.queue = ANY($3::text[]) AND j.task = ANY($4::text[])
      AND j.execution_time <= scheduler_now()
      AND NOT EXISTS (SELECT 1 FROM scheduler_queues s
                      WHERE s.tenant = $2 AND s.queue = j.queue
                        AND (s.paused_at IS NOT NULL OR s.limited AND scheduler_queue_room($2, s.queue) = 0))
      AND $1 = (SELECT min(w.id) FROM scheduler_living_workers w
                WHERE w.tenant = j.tenant AND j.queue = ANY(w.queues) AND j.task = ANY(w.tasks)));
