-- name: pause_queue
-- Nothing of it is claimed from the commit on; what runs goes on. Pausing again changes who and why, not since when.
INSERT INTO scheduler_queues AS q (tenant, queue, paused_at, paused_by, reason) VALUES ($1, $2, scheduler_now(), $3, $4)
ON CONFLICT (tenant, queue) DO UPDATE SET paused_at = coalesce(q.paused_at, excluded.paused_at),
    paused_by = excluded.paused_by, reason = excluded.reason;

-- name: resume_queue
-- Whether it was paused, and which pool holds it back, if one does: then it stays so. Idle workers look at once.
WITH held AS (
    SELECT pool FROM scheduler_queue_settings WHERE tenant = $1 AND queue = $2 AND paused),
resumed AS (
    UPDATE scheduler_queues SET paused_at = NULL, paused_by = NULL, reason = NULL
    WHERE tenant = $1 AND queue = $2 AND paused_at IS NOT NULL AND NOT EXISTS (SELECT FROM held)
    RETURNING queue)
SELECT (SELECT pool FROM held) AS held_by, NULL AS overdue, NULL AS woken WHERE EXISTS (SELECT FROM held)
UNION ALL
SELECT NULL, pg_notify('scheduler_overdue', '') IS NULL, pg_notify('scheduler_wakeup', '') IS NULL FROM resumed;

-- name: list_queues
-- By name.
SELECT queue, paused_at, paused_by, reason, served_since, served_until FROM scheduler_queues
WHERE tenant = $1 ORDER BY queue;

-- name: serve_queues
-- After each beat: these queues are served as long as the lease lasts, and since now if nobody served them any more. Most
-- beats of many workers only read. Sorted, so that two workers never wait for each other in a circle.
INSERT INTO scheduler_queues AS q (tenant, queue, served_since, served_until)
SELECT w.tenant, u.queue, scheduler_now(), w.lease_until
FROM scheduler_workers w CROSS JOIN LATERAL (SELECT DISTINCT unnest(w.queues) AS queue) u
WHERE w.id = $1 AND w.state = 'alive' AND w.lease_until > scheduler_now()
  AND (w.drain_until IS NULL OR w.drain_until < scheduler_now())
  AND NOT EXISTS (SELECT 1 FROM scheduler_queues s WHERE s.tenant = w.tenant AND s.queue = u.queue
                  AND s.served_until > w.lease_until - (w.lease_until - scheduler_now()) / 6)
ORDER BY u.queue
ON CONFLICT (tenant, queue) DO UPDATE SET served_until = greatest(q.served_until, excluded.served_until),
    served_since = CASE WHEN q.served_until >= scheduler_now() THEN q.served_since ELSE excluded.served_since END;
