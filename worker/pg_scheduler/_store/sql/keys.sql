-- name: hold_keys
-- Who holds each key from now on. Sorted, so that two batches never wait for each other in a circle.
SELECT k.job_id, scheduler_hold_key($1, k.key, k.job_id, k.within) AS holder
FROM (SELECT * FROM unnest($2::text[], $3::text[], $4::interval[]) u(key, job_id, within) ORDER BY u.key, u.job_id) k;

-- name: forget_keys
-- Keys that count no more: their time has passed, or their job has ended. At most $1 of them. Compared by the job seen in
-- the snapshot: the recheck after a row lock does not look again at the anti-join, and would take a key that has a new job.
WITH seen AS MATERIALIZED (
    SELECT k.tenant, k.key, k.job_id FROM scheduler_keys k
    WHERE k.expires_at <= scheduler_now() OR k.expires_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM scheduled_jobs j WHERE j.job_id = k.job_id AND j.finished_at IS NULL)
    LIMIT $1),
mine AS MATERIALIZED (
    SELECT k.tenant, k.key FROM scheduler_keys k
    JOIN seen s ON k.tenant = s.tenant AND k.key = s.key AND k.job_id = s.job_id
    FOR UPDATE OF k SKIP LOCKED)
DELETE FROM scheduler_keys k USING mine m WHERE k.tenant = m.tenant AND k.key = m.key RETURNING k.key;
