-- name: demand
-- What a tenant's jobs ask of its workers, in one snapshot and one row of JSON. Of each queue and priority the first 20000 jobs
-- by time are counted and no more, by task and by whole seconds until they are due (0: they are): the answer costs the same
-- however long the backlog is. Queues are found by stepping from one to the next in the index of what is due. $2 is how many
-- seconds ahead. Late is what is due, waits for no key, and whose queue is not paused. How long a task takes is the median of
-- what is among the newest 1000 ends. Dead workers are told of only while rows say that they run something.
WITH RECURSIVE plain AS (
    (SELECT j.queue FROM scheduled_jobs j
     WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NULL AND j.tenant = $1
     ORDER BY j.queue LIMIT 1)
    UNION ALL
    SELECT n.queue FROM plain p CROSS JOIN LATERAL (
        SELECT j.queue FROM scheduled_jobs j
        WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NULL AND j.tenant = $1 AND j.queue > p.queue
        ORDER BY j.queue LIMIT 1) n),
keyed AS (
    (SELECT j.queue FROM scheduled_jobs j
     WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NOT NULL AND j.tenant = $1
     ORDER BY j.queue LIMIT 1)
    UNION ALL
    SELECT n.queue FROM keyed p CROSS JOIN LATERAL (
        SELECT j.queue FROM scheduled_jobs j
        WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NOT NULL AND j.tenant = $1 AND j.queue > p.queue
        ORDER BY j.queue LIMIT 1) n),
waiting AS (
    SELECT q.queue, w.task, greatest(0, ceil(extract(epoch FROM w.execution_time - scheduler_now())))::int AS in_seconds,
           w.execution_time AS due_at
    FROM plain q CROSS JOIN unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
        SELECT j.task, greatest(j.execution_time, timestamptz '0001-01-02 00:00+00') AS execution_time FROM scheduled_jobs j
        WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NULL
          AND j.tenant = $1 AND j.queue = q.queue AND j.priority = p.priority
          AND j.execution_time <= scheduler_now() + make_interval(secs => $2)
        ORDER BY j.execution_time, j.id LIMIT 20000) w
    UNION ALL
    SELECT q.queue, w.task, greatest(0, ceil(extract(epoch FROM w.execution_time - scheduler_now())))::int, NULL
    FROM keyed q CROSS JOIN unnest(ARRAY[1, 3, 5, 8]) p(priority) CROSS JOIN LATERAL (
        SELECT j.task, greatest(j.execution_time, timestamptz '0001-01-02 00:00+00') AS execution_time FROM scheduled_jobs j
        WHERE j.status = 'pending' AND NOT j.suspended AND j.concurrency_key IS NOT NULL
          AND j.tenant = $1 AND j.queue = q.queue AND j.priority = p.priority
          AND j.execution_time <= scheduler_now() + make_interval(secs => $2)
        ORDER BY j.execution_time, j.id LIMIT 20000) w),
running AS MATERIALIZED (
    SELECT j.worker_id, j.queue, count(*) AS jobs FROM scheduled_jobs j
    WHERE j.status = 'running' AND j.tenant = $1 GROUP BY j.worker_id, j.queue),
stopping AS MATERIALIZED (
    SELECT j.stopping_worker, count(*) AS jobs FROM scheduled_jobs j
    WHERE j.stopping_worker IS NOT NULL AND j.tenant = $1 GROUP BY j.stopping_worker),
ended AS (
    SELECT f.task, percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM f.finished_at - f.started_at)) AS seconds
    FROM (SELECT j.tenant, j.task, j.status, j.started_at, j.finished_at FROM scheduled_jobs j
          WHERE j.finished_at IS NOT NULL ORDER BY j.finished_at DESC LIMIT 1000) f
    WHERE f.tenant = $1 AND f.status = 'completed' AND f.started_at <= f.finished_at GROUP BY f.task)
SELECT scheduler_now() AS at, (
    SELECT coalesce(json_agg(json_build_array(w.queue, w.task, w.in_seconds, w.jobs)), '[]')
    FROM (SELECT queue, task, in_seconds, count(*) AS jobs FROM waiting GROUP BY queue, task, in_seconds) w)::text AS waiting, (
    SELECT coalesce(greatest(0, extract(epoch FROM scheduler_now() - min(w.due_at))), 0)::float8 FROM waiting w WHERE NOT EXISTS (
        SELECT 1 FROM scheduler_queues q
        WHERE q.tenant = $1 AND q.queue = w.queue AND q.paused_at IS NOT NULL)) AS late_seconds, (
    SELECT coalesce(json_agg(json_build_array(r.queue, r.jobs, EXISTS (
        SELECT 1 FROM scheduler_living_workers w WHERE w.id = r.worker_id))), '[]') FROM running r)::text AS running, (
    SELECT coalesce(json_agg(json_build_object(
        'pod_uid', w.pod_uid, 'slots', w.slots, 'started_at', w.started_at,
        'lives', w.state = 'alive' AND w.lease_until > scheduler_now(),
        'busy', coalesce((SELECT sum(r.jobs) FROM running r WHERE r.worker_id = w.id), 0)
              + coalesce((SELECT s.jobs FROM stopping s WHERE s.stopping_worker = w.id), 0),
        'mark_seconds', CASE WHEN w.drain_until > scheduler_now() AND w.drain_until < '9999-01-01 00:00:00+00'
                             THEN extract(epoch FROM w.drain_until - scheduler_now()) END,
        'drained_seconds', CASE WHEN w.drain_until > scheduler_now() AND w.drain_until < '9999-01-01 00:00:00+00'
                                THEN extract(epoch FROM scheduler_now() - w.drain_since) END,
        'queues', w.queues, 'tasks', w.tasks)), '[]')
    FROM scheduler_workers w
    WHERE w.tenant = $1 AND (w.state = 'alive' OR w.id IN (SELECT r.worker_id FROM running r)
                             OR w.id IN (SELECT s.stopping_worker FROM stopping s)))::text AS workers, (
    SELECT coalesce(json_object_agg(e.task, e.seconds), '{}') FROM ended e)::text AS medians,
    ARRAY(SELECT q.queue FROM scheduler_queues q WHERE q.tenant = $1 AND q.paused_at IS NOT NULL) AS paused, (
    SELECT coalesce(json_agg(json_build_array(s.queue, s.concurrency, s.rate_limit::float8 / s.rate_seconds)), '[]')
    FROM scheduler_queue_settings s
    WHERE s.tenant = $1 AND (s.concurrency IS NOT NULL OR s.rate_limit IS NOT NULL))::text AS limits,
    EXISTS (SELECT 1 FROM scheduler_schedules s
            WHERE s.tenant = $1 AND s.enabled AND NOT s.suspended AND s.next_tick_at IS NOT NULL) AS has_schedules,
    (SELECT max(m.version) FROM scheduler_migrations m) AS schema_version;

-- name: schedules_ahead
-- Schedules with a tick that nobody has made a job of yet, due or within $2 seconds: the first thousand. Those of code too: who
-- would tick them may have been scaled away.
SELECT s.*, s.task_data::text AS payload, s.retry_policy::text AS retry_text, s.tags::text AS tags_text,
       s.metadata::text AS metadata_text
FROM scheduler_schedules s
WHERE s.tenant = $1 AND s.enabled AND NOT s.suspended AND s.next_tick_at IS NOT NULL
  AND s.next_tick_at <= scheduler_now() + make_interval(secs => $2)
ORDER BY s.next_tick_at LIMIT 1000;

-- name: drain_pods
-- For a minute these workers claim nothing. Renewed it goes on, and drain_since stays; else it ends by itself, whatever became
-- of who asked. It waits for claims under way, which hold the row: what comes after it sees their jobs.
UPDATE scheduler_workers
SET drain_since = CASE WHEN drain_until > scheduler_now() THEN coalesce(drain_since, scheduler_now()) ELSE scheduler_now() END,
    drain_until = scheduler_now() + interval '60 seconds'
WHERE tenant = $1 AND pod_uid = ANY($2::text[]) AND state = 'alive';

-- name: spare_pods
-- They claim again, at once.
WITH spared AS (
    UPDATE scheduler_workers SET drain_until = NULL, drain_since = NULL
    WHERE tenant = $1 AND pod_uid = ANY($2::text[]) AND drain_until IS NOT NULL
    RETURNING id)
SELECT pg_notify('scheduler_overdue', '') IS NULL, pg_notify('scheduler_wakeup', '') IS NULL
WHERE EXISTS (SELECT 1 FROM spared);

-- name: pool_records
-- What is kept of a tenant's pools.
SELECT name, queues, tasks, strangers::text AS strangers, starts::text AS starts FROM scheduler_pools WHERE tenant = $1;

-- name: keep_pool_record
-- As it is now known.
INSERT INTO scheduler_pools (tenant, name, queues, tasks, strangers, starts)
VALUES ($1, $2, $3::text[], $4::text[], $5::text::json, $6::text::json)
ON CONFLICT (tenant, name) DO UPDATE SET queues = excluded.queues, tasks = excluded.tasks, strangers = excluded.strangers,
    starts = excluded.starts;
