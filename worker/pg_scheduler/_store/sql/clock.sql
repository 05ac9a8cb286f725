-- name: clock_function
-- Where the one function is that says what time it is: in the schema that the search path leads to.
SELECT format('%I.scheduler_now()', n.nspname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid = to_regprocedure('scheduler_now()');

-- name: workers_beside
-- Who lives besides $1. Time is what is about to jump, so it is the heartbeat's backend that tells, wherever a lease ends; a
-- start that reads NULL belongs to another role. Behind a pooler there is nothing but the lease.
SELECT w.id FROM scheduler_workers w
WHERE w.state = 'alive' AND w.id <> ALL($1::text[])
  AND CASE WHEN w.backend_watched THEN EXISTS (
          SELECT 1 FROM pg_stat_get_activity(w.backend_pid) a
          WHERE a.backend_start IS NULL OR a.backend_start = w.backend_started_at)
      ELSE w.lease_until > scheduler_now() END
ORDER BY w.id;

-- name: bury_workers
-- Of those that are left nobody lives: what they hold is for whoever comes next.
UPDATE scheduler_workers SET state = 'dead' WHERE state = 'alive' AND id <> ALL($1::text[]);

-- name: forget_service
-- Since when a queue is served is told in another time than the one that comes: in that one nobody has served it yet.
UPDATE scheduler_queues SET served_since = NULL, served_until = NULL WHERE served_until IS NOT NULL;

-- name: statuses
-- What has become of these jobs; of none whose row is gone.
SELECT job_id, status FROM scheduled_jobs WHERE job_id = ANY($1::text[]);
