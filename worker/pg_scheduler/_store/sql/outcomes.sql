-- name: complete_job_with_result
-- The result in the statement that completes the job: there is no moment in which one is there without the other.
WITH ended AS (
    UPDATE scheduled_jobs SET status = 'completed', finished_at = scheduler_now(), error_message = NULL
    WHERE id = $1 AND token = $2 AND worker_id = $3 AND status = 'running'
    RETURNING job_id, token),
kept AS (
    INSERT INTO scheduler_results AS r (job_id, token, result, refused)
    SELECT job_id, token, $4::text::json, $5 FROM ended
    ON CONFLICT (job_id) DO UPDATE SET token = excluded.token, result = excluded.result, refused = excluded.refused,
        progress = CASE WHEN r.token = excluded.token THEN r.progress END,
        note = CASE WHEN r.token = excluded.token THEN r.note END, stored_at = excluded.stored_at
    RETURNING token)
SELECT token, pg_notify('scheduler_results', '') IS NULL FROM kept;

-- name: snooze_job
-- Back to the queue by the job's own wish, $4 seconds from now; no retry is charged, the attempt has been one.
UPDATE scheduled_jobs SET status = 'pending', execution_time = scheduler_now() + make_interval(secs => $4)
WHERE id = $1 AND token = $2 AND worker_id = $3 AND status = 'running'
RETURNING token;

-- name: cancel_running_job
-- Ended by the job's own wish: nobody else has to be told.
UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now(), error_message = $4
WHERE id = $1 AND token = $2 AND worker_id = $3 AND status = 'running'
RETURNING token;

-- name: limit_idling
-- First in a job's transaction: a worker that is frozen inside keeps its locks no longer than $1 milliseconds. A lower
-- limit of the session stays. Returns both limits in seconds; PostgreSQL before 17 has no second one.
SELECT extract(epoch FROM set_config('idle_in_transaction_session_timeout', least(
           nullif(extract(epoch FROM current_setting('idle_in_transaction_session_timeout')::interval) * 1000, 0)::int,
           $1::int)::text || 'ms', true)::interval)::float8 AS idle_seconds,
       nullif(extract(epoch FROM current_setting('transaction_timeout', true)::interval), 0)::float8 AS total_seconds;

-- name: complete_in_transaction
-- Last in a job's transaction. The row stays locked until the commit, so that whoever asks meanwhile waits for the answer.
UPDATE scheduled_jobs SET status = 'completed', finished_at = scheduler_now(), error_message = NULL
WHERE id = $1 AND token = $2 AND worker_id = $3 AND status = 'running'
RETURNING token;

-- name: was_completed
-- Whether a commit whose answer was lost took place. FOR UPDATE waits for the transaction that may still be under way.
SELECT status = 'completed' AND token = $2 AND worker_id = $3 AS ours FROM scheduled_jobs WHERE job_id = $1 FOR UPDATE;

-- name: set_progress
-- Only under the token that runs.
INSERT INTO scheduler_results AS r (job_id, token, progress, note)
SELECT job_id, token, $4, $5 FROM scheduled_jobs WHERE id = $1 AND token = $2 AND worker_id = $3 AND status = 'running'
ON CONFLICT (job_id) DO UPDATE SET token = excluded.token, progress = excluded.progress, note = excluded.note,
    result = NULL, refused = NULL, stored_at = excluded.stored_at
RETURNING token;

-- name: result_of
-- The end of a job with what it left: its result under the last token, and the record of its last failed attempt.
SELECT j.status, r.result::text AS result, r.refused, a.error_type, a.message, a.traceback, a.attempt, j.error_message
FROM scheduled_jobs j
LEFT JOIN scheduler_results r ON r.job_id = j.job_id AND r.token = j.token
LEFT JOIN LATERAL (
    SELECT error_type, message, traceback, attempt FROM scheduler_attempts
    WHERE job_id = j.job_id AND token = j.token) a ON true
WHERE j.job_id = $1;
