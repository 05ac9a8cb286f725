-- name: lock_schedule
-- The row of a source, held for the decision what to change.
SELECT s.*, s.task_data::text AS payload, s.retry_policy::text AS retry_text, s.tags::text AS tags_text,
       s.metadata::text AS metadata_text
FROM scheduler_schedules s
WHERE tenant = $1 AND source_kind = $2 AND source_cluster = $3 AND source_uid = $4 FOR UPDATE;

-- name: lock_schedules
-- As lock_schedule, of many sources; in one order, so that two writers do not wait for each other in a circle.
SELECT s.*, s.task_data::text AS payload, s.retry_policy::text AS retry_text, s.tags::text AS tags_text,
       s.metadata::text AS metadata_text
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) k(tenant, kind, cluster, uid)
JOIN scheduler_schedules s
  ON s.tenant = k.tenant AND s.source_kind = k.kind AND s.source_cluster = k.cluster AND s.source_uid = k.uid
ORDER BY s.id FOR UPDATE OF s;

-- name: now
-- The transaction's instant: what is decided and what is written share it.
SELECT scheduler_now();

-- name: insert_schedule
-- Nothing comes back when another process made the row first: it is then locked and compared instead.
INSERT INTO scheduler_schedules (
    tenant, source_kind, source_cluster, source_uid, source_name, source_generation, interval_seconds, phase_seconds, cron,
    time_zone, seconds, nonexistent, ambiguous, time_zone_data, jitter_seconds, start_at, end_at, max_runs, missed,
    max_catch_up, starting_deadline_seconds, overlap, suspend_after_failures, anchor_at, last_tick_at, next_tick_at, enabled,
    suspended, suspend_reason, task, job_name, task_data, queue, priority, max_retries, timeout_seconds, retry_policy,
    on_interrupt, tags, metadata, concurrency_key, concurrency_limit, keep_result, successful_history_limit,
    failed_history_limit, deletion,
    suspended_at, suspended_by)
VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9::text[], $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
    $25, $26, $27, $28, $29, $30, $31, $32::text::json, $33, $34, $35, $36, $37::text::json, $38, $39::text::json,
    $40::text::json, $41, $42, $43, $44, $45, $46,
    CASE WHEN $28 THEN scheduler_now() END, CASE WHEN $28 THEN $2 END)
ON CONFLICT (tenant, source_kind, source_cluster, source_uid) DO NOTHING
RETURNING id;

-- name: update_schedule
-- The caller holds the row's lock, has compared generations and taken back the ticks ahead. Whoever writes a retired or
-- halted row brings it back to life. $47 is who has changed the suspension, if that is changed.
UPDATE scheduler_schedules
SET
    source_name = $5, source_generation = $6, interval_seconds = $7, phase_seconds = $8, cron = $9::text[], time_zone = $10,
    seconds = $11, nonexistent = $12, ambiguous = $13, time_zone_data = $14, jitter_seconds = $15, start_at = $16, end_at =
    $17, max_runs = $18, missed = $19, max_catch_up = $20, starting_deadline_seconds = $21, overlap = $22,
    suspend_after_failures = $23, anchor_at = $24, last_tick_at = $25, next_tick_at = $26, enabled = $27, suspended = $28,
    suspend_reason = $29, task = $30, job_name = $31, task_data = $32::text::json, queue = $33, priority = $34, max_retries =
    $35, timeout_seconds = $36, retry_policy = $37::text::json, on_interrupt = $38, tags = $39::text::json, metadata =
    $40::text::json, concurrency_key = $41, concurrency_limit = $42, keep_result = $43, successful_history_limit = $44,
    failed_history_limit = $45, deletion = $46,
    suspended_at = CASE WHEN NOT $28 THEN NULL WHEN suspended THEN suspended_at ELSE scheduler_now() END,
    suspended_by = CASE WHEN NOT $28 THEN NULL WHEN suspended THEN suspended_by ELSE $47 END,
    retired_at = NULL, retired_reason = NULL, halted_at = NULL, halted_reason = NULL
WHERE tenant = $1 AND source_kind = $2 AND source_cluster = $3 AND source_uid = $4;

-- name: take_back_ticks
-- Ticks inserted ahead of time: their rule, template or leave to run has changed, and the ticker plans them anew.
SELECT tick_at, previous_tick_at FROM scheduler_take_back_ticks($1, $2);

-- name: forget_ticks
-- What was taken back has never been planned.
UPDATE scheduler_schedules SET ticks = ticks - $2, runs = runs - $2, last_run_tick_at = $3 WHERE id = $1;

-- name: cancel_ticks
-- What a deleted schedule leaves behind: what waits to start, or to be tried again.
UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now()
WHERE schedule_id = $1 AND status IN ('pending', 'waiting');

-- name: stop_ticks
-- What runs is asked to stop, as cancel_job does it.
UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now(), stopping_worker = worker_id,
       stop_asked_at = scheduler_now(), stopping_token = token
WHERE schedule_id = $1 AND status = 'running';

-- name: delete_schedule
-- History rows of its jobs stay until retention takes them.
DELETE FROM scheduler_schedules
WHERE tenant = $1 AND source_kind = $2 AND source_cluster = $3 AND source_uid = $4 RETURNING id, deletion;

-- name: due_schedules
-- Any healthy worker may tick any schedule; one that code declares ticks only while a living worker declares it. What newer
-- zone data has planned is left to a worker that has it, for a minute. Nothing while there is maintenance.
SELECT s.*, s.task_data::text AS payload, s.retry_policy::text AS retry_text, s.tags::text AS tags_text,
       s.metadata::text AS metadata_text
FROM scheduler_schedules s
WHERE s.tenant = $1 AND s.enabled AND NOT s.suspended
  AND s.next_tick_at <= scheduler_now() + make_interval(secs => $2)
  AND NOT EXISTS (SELECT FROM scheduler_maintenance WHERE is_on)
  AND (s.time_zone_data IS NULL OR s.time_zone_data COLLATE "C" <= $4
       OR s.next_tick_at < scheduler_now() - interval '1 minute')
  AND (s.source_kind <> 'code' OR EXISTS (
      SELECT 1 FROM scheduler_living_workers w WHERE w.tenant = s.tenant AND s.source_uid = ANY(w.schedules)))
ORDER BY s.next_tick_at LIMIT $3
FOR NO KEY UPDATE OF s SKIP LOCKED;

-- name: insert_ticks
-- A tick yields at most one job, whoever else ticks. Sorted ids keep two tickers from waiting for each other in a circle.
-- Unless its runs may overlap, a tick's job holds the key of its schedule, whose limit is 1.
INSERT INTO scheduled_jobs (job_id, schedule_id, tick_at, previous_tick_at, execution_time, tenant, queue, task, job_name,
                            task_data, priority, max_retries, misfire_grace_time, timeout_seconds, retry_policy,
                            on_interrupt, tags, metadata, concurrency_key, on_full, concurrency_limit, keep_result,
                            source_cluster, source_kind, source_uid, source_name)
SELECT t.job_id, s.id, t.tick_at, t.previous_at, t.due_at, s.tenant, s.queue, s.task, s.job_name, s.task_data, s.priority,
       s.max_retries, s.starting_deadline_seconds, s.timeout_seconds, s.retry_policy, s.on_interrupt, s.tags, s.metadata,
       CASE s.overlap WHEN 'allow' THEN s.concurrency_key ELSE 'schedule:' || s.id END,
       CASE s.overlap WHEN 'allow' THEN 'wait' ELSE s.overlap END,
       CASE WHEN s.overlap = 'allow' AND s.concurrency_key IS NOT NULL THEN s.concurrency_limit END, s.keep_result,
       nullif(s.source_cluster, ''), s.source_kind, s.source_uid, s.source_name
FROM unnest($1::text[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
     t(job_id, schedule_id, tick_at, due_at, previous_at)
JOIN scheduler_schedules s ON s.id = t.schedule_id
ORDER BY t.schedule_id, t.tick_at
ON CONFLICT (schedule_id, tick_at) WHERE schedule_id IS NOT NULL DO NOTHING
RETURNING schedule_id,
    CASE WHEN concurrency_limit IS NOT NULL THEN
        scheduler_set_limits(ARRAY[tenant], ARRAY[concurrency_key], ARRAY[concurrency_limit]) IS NULL END;

-- name: record_passed
-- Ticks that had no run of their own, in ranges.
INSERT INTO scheduler_occurrences (schedule_id, outcome, first_tick_at, last_tick_at, ticks, reason)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::text[]);

-- name: advance_schedules
-- The high-water mark moves in the transaction that inserts the ticks. What is planned is what has a new job or has passed.
UPDATE scheduler_schedules s
SET last_tick_at = coalesce(a.last_tick_at, s.last_tick_at), last_run_tick_at = coalesce(a.last_run_tick_at, s.last_run_tick_at),
    next_tick_at = a.next_tick_at, runs = s.runs + a.made, ticks = s.ticks + a.made + a.passed,
    time_zone_data = CASE WHEN s.cron IS NOT NULL THEN $7 END
FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::bigint[])
     a(id, last_tick_at, last_run_tick_at, next_tick_at, made, passed)
WHERE s.id = a.id;

-- name: count_passed
-- The ticks that a change of the rule has left behind are planned too.
UPDATE scheduler_schedules SET ticks = ticks + $2 WHERE id = $1;

-- name: failing_schedules
-- Those whose last runs since the anchor have all failed, as many as they allow; of the given ids, or of the tenant.
SELECT s.*, s.task_data::text AS payload, s.retry_policy::text AS retry_text, s.tags::text AS tags_text,
       s.metadata::text AS metadata_text
FROM scheduler_schedules s
WHERE s.tenant = $1 AND s.suspend_after_failures IS NOT NULL AND s.halted_at IS NULL AND s.enabled AND NOT s.suspended
  AND ($2::bigint[] IS NULL OR s.id = ANY($2))
  AND s.suspend_after_failures = (
      SELECT count(*) FILTER (WHERE r.status = 'failed') FROM (
          SELECT j.status FROM scheduled_jobs j
          WHERE j.schedule_id = s.id AND j.tick_at > s.anchor_at AND j.status IN ('completed', 'failed')
          ORDER BY j.tick_at DESC LIMIT s.suspend_after_failures) r)
FOR NO KEY UPDATE OF s SKIP LOCKED;

-- name: halt_schedule
-- It ticks no more until somebody resumes or changes it. Without a next tick a worker of an older release leaves it alone too.
UPDATE scheduler_schedules SET halted_at = scheduler_now(), halted_reason = $2, last_tick_at = $3, next_tick_at = NULL
WHERE id = $1;

-- name: schedules_of_older_zones
-- Cron schedules whose next tick older zone data has planned, or a release that did not say.
SELECT s.*, s.task_data::text AS payload, s.retry_policy::text AS retry_text, s.tags::text AS tags_text,
       s.metadata::text AS metadata_text
FROM scheduler_schedules s
WHERE s.tenant = $1 AND s.cron IS NOT NULL AND (s.time_zone_data IS NULL OR s.time_zone_data COLLATE "C" < $2)
ORDER BY s.id LIMIT $3 FOR NO KEY UPDATE;

-- name: move_grid
-- By other zone data the next tick lies elsewhere.
UPDATE scheduler_schedules SET last_tick_at = $2, next_tick_at = $3 WHERE id = $1;

-- name: stamp_zones
-- Which data has planned them.
UPDATE scheduler_schedules SET time_zone_data = $2 WHERE id = ANY($1::bigint[]);

-- name: next_tick
-- Seconds until the tenant's first tick is planned; of the same schedules as due_schedules.
SELECT extract(epoch FROM min(CASE WHEN s.time_zone_data COLLATE "C" > $2 THEN s.next_tick_at + interval '1 minute'
                                   ELSE s.next_tick_at END) - scheduler_now())::float8 FROM scheduler_schedules s
WHERE s.tenant = $1 AND s.enabled AND NOT s.suspended AND s.next_tick_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM scheduler_maintenance WHERE is_on)
  AND (s.source_kind <> 'code' OR EXISTS (
      SELECT 1 FROM scheduler_living_workers w WHERE w.tenant = s.tenant AND s.source_uid = ANY(w.schedules)));

-- name: wake_tickers
-- A schedule has changed: tickers look again. Jobs have a channel of their own, which rings far more often.
SELECT pg_notify('scheduler_schedules', '');
