-- name: lock_schedule
-- The row of a source, held for the decision what to change.
SELECT s.*, s.task_data::text AS payload, s.retry_policy::text AS retry_text, s.tags::text AS tags_text,
       s.metadata::text AS metadata_text
FROM scheduler_schedules s
WHERE tenant = $1 AND source_kind = $2 AND source_cluster = $3 AND source_uid = $4 FOR UPDATE;

-- name: now
-- The transaction's instant: what is decided and what is written share it.
SELECT scheduler_now();

-- name: insert_schedule
-- Nothing comes back when another process made the row first: it is then locked and compared instead.
INSERT INTO scheduler_schedules (tenant, source_kind, source_cluster, source_uid, source_name, source_generation,
                                 interval_seconds, cron, time_zone, anchor_at, next_tick_at, enabled, suspended,
                                 task, job_name, task_data, queue, priority, max_retries,
                                 timeout_seconds, retry_policy, on_interrupt, tags, metadata, concurrency_key)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text[], $9, $10, $11, $12, $13, $14, $15, $16::text::json, $17, $18, $19,
        $20, $21::text::json, $22, $23::text::json, $24::text::json, $25)
ON CONFLICT (tenant, source_kind, source_cluster, source_uid) DO NOTHING
RETURNING id;

-- name: update_schedule
-- The caller holds the row's lock and has compared generations. Whoever writes a retired row brings it back to life.
UPDATE scheduler_schedules
SET source_name = $5, source_generation = $6, interval_seconds = $7, cron = $8::text[], time_zone = $9, anchor_at = $10,
    next_tick_at = $11, enabled = $12, suspended = $13, task = $14, job_name = $15, task_data = $16::text::json,
    queue = $17, priority = $18, max_retries = $19, timeout_seconds = $20, retry_policy = $21::text::json,
    on_interrupt = $22, tags = $23::text::json, metadata = $24::text::json, concurrency_key = $25, last_tick_at = $26,
    ticks = ticks - $27, retired_at = NULL, retired_reason = NULL
WHERE tenant = $1 AND source_kind = $2 AND source_cluster = $3 AND source_uid = $4;

-- name: take_back_ticks
-- Ticks inserted ahead of time: their rule, template or leave to run has changed, and the ticker plans them anew.
DELETE FROM scheduled_jobs
WHERE schedule_id = $1 AND tick_at > $2 AND status = 'pending' AND attempt = 0
RETURNING tick_at;

-- name: cancel_ticks
-- What a deleted schedule leaves behind: what waits to start, or to be tried again.
UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now()
WHERE schedule_id = $1 AND status IN ('pending', 'waiting');

-- name: delete_schedule
-- History rows of its jobs stay until retention takes them.
DELETE FROM scheduler_schedules
WHERE tenant = $1 AND source_kind = $2 AND source_cluster = $3 AND source_uid = $4 RETURNING id;

-- name: due_schedules
-- Any healthy worker may tick any schedule; one that code declares ticks only while a living worker declares it.
SELECT s.*, s.task_data::text AS payload, s.retry_policy::text AS retry_text, s.tags::text AS tags_text,
       s.metadata::text AS metadata_text
FROM scheduler_schedules s
WHERE s.tenant = $1 AND s.enabled AND NOT s.suspended
  AND s.next_tick_at <= scheduler_now() + make_interval(secs => $2)
  AND (s.source_kind <> 'code' OR EXISTS (
      SELECT 1 FROM scheduler_living_workers w WHERE w.tenant = s.tenant AND s.source_uid = ANY(w.schedules)))
ORDER BY s.next_tick_at LIMIT $3
FOR UPDATE OF s SKIP LOCKED;

-- name: insert_ticks
-- A tick yields at most one job, whoever else ticks. Sorted ids keep two tickers from waiting for each other in a circle.
INSERT INTO scheduled_jobs (job_id, schedule_id, tick_at, execution_time, tenant, queue, task, job_name, task_data, priority,
                            max_retries, timeout_seconds, retry_policy, on_interrupt, tags, metadata, concurrency_key,
                            source_cluster, source_kind, source_uid, source_name)
SELECT t.job_id, s.id, t.tick_at, t.tick_at, s.tenant, s.queue, s.task, s.job_name, s.task_data, s.priority, s.max_retries,
       s.timeout_seconds, s.retry_policy, s.on_interrupt, s.tags, s.metadata, s.concurrency_key,
       nullif(s.source_cluster, ''), s.source_kind, s.source_uid, s.source_name
FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) t(job_id, schedule_id, tick_at)
JOIN scheduler_schedules s ON s.id = t.schedule_id
ORDER BY t.schedule_id, t.tick_at
ON CONFLICT (schedule_id, tick_at) WHERE schedule_id IS NOT NULL DO NOTHING
RETURNING schedule_id;

-- name: advance_schedules
-- The high-water mark moves in the transaction that inserts the ticks.
UPDATE scheduler_schedules s
SET last_tick_at = coalesce(a.last_tick_at, s.last_tick_at), next_tick_at = a.next_tick_at, ticks = s.ticks + a.ticks
FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::bigint[]) a(id, last_tick_at, next_tick_at, ticks)
WHERE s.id = a.id;

-- name: next_tick
-- Seconds until the tenant's first tick is planned; of the same schedules as due_schedules.
SELECT extract(epoch FROM min(s.next_tick_at) - scheduler_now())::float8 FROM scheduler_schedules s
WHERE s.tenant = $1 AND s.enabled AND NOT s.suspended AND s.next_tick_at IS NOT NULL
  AND (s.source_kind <> 'code' OR EXISTS (
      SELECT 1 FROM scheduler_living_workers w WHERE w.tenant = s.tenant AND s.source_uid = ANY(w.schedules)));

-- name: wake_tickers
-- A schedule has changed: tickers look again. Jobs have a channel of their own, which rings far more often.
SELECT pg_notify('scheduler_schedules', '');
