-- name: reschedule_job
-- A claim that holds the row's lock wins: what it took is running when the lock is had. One that waits for its key's slot
-- waits anew from its new time on.
WITH moved AS (
    UPDATE scheduled_jobs SET execution_time = $2, status = 'pending'
    WHERE job_id = $1 AND status IN ('pending', 'waiting') AND source_uid IS NULL
    RETURNING job_id, execution_time <= scheduler_now() + make_interval(secs => $3) AS soon)
SELECT job_id, CASE WHEN soon THEN pg_notify('scheduler_overdue', '') IS NULL END,
       CASE WHEN soon THEN pg_notify('scheduler_wakeup', '') IS NULL END FROM moved;

-- name: has_policies
-- Whether policies say which jobs this user sees; a COPY into such a table is refused.
SELECT row_security_active('scheduled_jobs');
