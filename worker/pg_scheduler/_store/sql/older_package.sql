-- name: older_sessions
-- Sessions whose last statement is one of the older package's: it names a column that is gone. A session of another role
-- shows its statement only to those who may see it. Nor is this question meant, which workers that start together ask.
SELECT pid, coalesce(host(client_addr), 'a socket') AS address
FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND query ILIKE '%scheduled_jobs%' AND (query ILIKE '%last_heartbeat%' OR query ILIKE '%lease_until%')
  AND query NOT LIKE '%scheduler\_%' AND query NOT LIKE '%pg_stat_activity%'
ORDER BY pid;

-- name: jobs_waiting_by_name
-- Pending jobs that name their task by a name which is not clear; asked at start, and only where there is such a name.
SELECT task, count(*) AS jobs FROM scheduled_jobs
WHERE tenant = $1 AND status = 'pending' AND task = ANY($2::text[]) GROUP BY task ORDER BY task;
