-- name: list_jobs
-- A page, by the id, which no update changes: what is made meanwhile shifts nothing. Ids that were made here rise with time,
-- so that the newest come first. Planned for its values, a filter that is not given is gone, and one for ids or running jobs
-- goes by its index.
SELECT j.* FROM (
    SELECT job_id, status, task, job_name, queue, priority, execution_time, created_at, started_at, finished_at,
           expires_at, worker_id, attempt, retry_count, max_retries, interruptions, suspended, concurrency_key,
           timeout_seconds, schedule, tick_at, error, tags::text AS tags, metadata::text AS metadata, tenant, schedule_id
    FROM scheduler_jobs_overview) j
WHERE j.tenant = $1 AND ($2::text IS NULL OR j.job_id < $2)
  AND ($3::text[] = '{}' OR j.status = ANY($3))
  AND ($4::text[] IS NULL OR j.job_id = ANY($4))
  AND ($5::text IS NULL OR j.task = $5)
  AND ($6::text IS NULL OR j.queue = $6)
  AND ($7::text[] = '{}' OR j.tags::jsonb ?& $7)
  AND ($8::text IS NULL OR j.schedule = $8)
  AND ($9::timestamptz IS NULL OR j.created_at >= $9)
  AND ($10::timestamptz IS NULL OR j.created_at < $10)
  AND ($11::timestamptz IS NULL OR j.execution_time >= $11)
  AND ($12::timestamptz IS NULL OR j.execution_time < $12)
ORDER BY j.job_id DESC LIMIT $13;
