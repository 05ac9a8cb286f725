-- name: register_worker
-- A new row for each start of a process and each incarnation, so that an old name never lives again.
INSERT INTO scheduler_workers (id, tenant, queues, tasks, schedules, slots, lease_until, pod, pod_uid, version,
                               pod_namespace, node, pool, backend_pid, backend_started_at, backend_watched)
SELECT $1, $2, $3::text[], $4::text[], $5::text[], $6, scheduler_now() + make_interval(secs => $7), $8, $9, $10,
       $12, $13, $14, pg_backend_pid(), backend_start, pg_backend_pid() = $11
FROM pg_stat_get_activity(pg_backend_pid())
RETURNING pg_postmaster_start_time();

-- name: beat
-- Late renewal is allowed until a sweep has marked us dead; the reply lists what the database thinks we hold. The backend is
-- written each time, since the connection may be new: the newest that stands, so that a beat which comes late over one that was
-- given up names none that is about to go. $4 is whom the client takes ours for: a pooler gives another number.
UPDATE scheduler_workers w
SET lease_until = scheduler_now() + make_interval(secs => $2), tasks = $3::text[],
    (backend_pid, backend_started_at, backend_watched) = (
        SELECT pg_backend_pid(), a.backend_start, pg_backend_pid() = $4 FROM pg_stat_get_activity(pg_backend_pid()) a
        UNION ALL
        SELECT w.backend_pid, w.backend_started_at, w.backend_watched FROM pg_stat_get_activity(w.backend_pid) a
        WHERE a.backend_start = w.backend_started_at
        ORDER BY 2 DESC LIMIT 1)
WHERE id = $1 AND state <> 'dead'
RETURNING (SELECT coalesce(array_agg(token), '{}') FROM scheduled_jobs WHERE worker_id = $1 AND status = 'running'),
          pg_postmaster_start_time();

-- name: held_tokens
-- What the database thinks we hold, between two beats: what is missing was cancelled, replaced or rescued.
SELECT token FROM scheduled_jobs WHERE worker_id = $1 AND status = 'running';

-- name: mark_dead
-- SKIP LOCKED, or one worker frozen inside a transaction would stop every sweep. $1 is when the server started that the
-- sweeper's own beats have reached: after a restart everyone looks dead, and the sweeper may not know of it yet.
UPDATE scheduler_workers SET state = 'dead'
WHERE id IN (SELECT id FROM scheduler_workers WHERE state <> 'dead' AND lease_until < scheduler_now()
             AND ($1::timestamptz IS NULL OR pg_postmaster_start_time() = $1)
             FOR UPDATE SKIP LOCKED)
RETURNING id;

-- name: retire_worker
-- An orderly end: nobody waits for this lease to run out.
UPDATE scheduler_workers SET state = 'dead', lease_until = scheduler_now() WHERE id = $1;

-- name: forget_dead_workers
-- Rows of the dead are kept for a day, for people who ask what happened.
DELETE FROM scheduler_workers w
WHERE w.state = 'dead' AND w.lease_until < scheduler_now() - interval '1 day'
  AND NOT EXISTS (SELECT 1 FROM scheduled_jobs j WHERE j.worker_id = w.id AND j.status = 'running');

-- name: sweep_needs
-- What a sweep would find: one question where nothing is wrong. Of the same rows as mark_dead, requeue_orphans,
-- forget_stopping, promote_waiting and forget_dead_workers.
SELECT EXISTS (SELECT 1 FROM scheduler_workers WHERE state <> 'dead' AND lease_until < scheduler_now()) AS late,
       EXISTS (SELECT 1 FROM scheduled_jobs j WHERE j.status = 'running' AND NOT EXISTS (
           SELECT 1 FROM scheduler_workers w WHERE w.id = j.worker_id AND w.state <> 'dead')) AS orphans,
       EXISTS (SELECT 1 FROM scheduled_jobs WHERE stopping_worker IS NOT NULL) AS stopping,
       EXISTS (SELECT 1 FROM scheduled_jobs WHERE status = 'waiting') AS waiting,
       EXISTS (SELECT 1 FROM scheduler_workers
               WHERE state = 'dead' AND lease_until < scheduler_now() - interval '1 day') AS buried;
