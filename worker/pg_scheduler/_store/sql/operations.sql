-- name: answer
-- Whether the server answers.
SELECT 1;

-- name: maintenance
-- Since when nobody claims, by whom and why; how many workers live and how many jobs still run.
SELECT m.since, m.set_by, m.reason, (SELECT count(*) FROM scheduler_living_workers) AS workers,
       (SELECT count(*) FROM scheduled_jobs WHERE status = 'running') AS running
FROM (SELECT 1) one LEFT JOIN scheduler_maintenance m ON true;

-- name: set_maintenance
-- Whether that was a change.
SELECT scheduler_set_maintenance($1, $2, $3);

-- name: skip_tokens
-- After a restore the sequence stands where it stood: what the lost time has handed out must never fit again. A million
-- million is more than a database hands out in a year, and the type has room for nine million restores.
SELECT setval('scheduler_token', nextval('scheduler_token') + 1000000000000);

-- name: claim_cluster
-- The name is ours, unless the operator of another cluster was seen under it within a minute.
INSERT INTO scheduler_clusters AS c (cluster, identity, seen_at) VALUES ($1, $2, scheduler_now())
ON CONFLICT (cluster) DO UPDATE SET identity = excluded.identity, seen_at = excluded.seen_at
WHERE c.identity = excluded.identity OR c.seen_at < scheduler_now() - interval '1 minute'
RETURNING cluster;

-- name: other_clusters
-- Clusters of which this database holds rows; a table of a few.
SELECT cluster FROM scheduler_clusters WHERE cluster <> $1 ORDER BY cluster;

-- name: hold_sweep
-- Whether people have agreed to as many.
UPDATE scheduler_clusters SET held_at = coalesce(held_at, scheduler_now()), held_rows = $2, held_of = $3
WHERE cluster = $1
RETURNING coalesce(confirmed_rows >= $2, false);

-- name: release_sweep
-- Nothing is held any more.
UPDATE scheduler_clusters SET held_at = NULL, held_rows = NULL, held_of = NULL, confirmed_rows = NULL
WHERE cluster = $1 AND held_at IS NOT NULL;

-- name: held_sweeps
-- By cluster.
SELECT cluster, held_at, held_rows, held_of, confirmed_rows IS NOT NULL AND confirmed_rows >= held_rows AS is_confirmed
FROM scheduler_clusters
WHERE held_at IS NOT NULL ORDER BY cluster;

-- name: confirm_sweeps
-- To as many as were held when people looked, and no more.
UPDATE scheduler_clusters SET confirmed_rows = held_rows
WHERE held_at IS NOT NULL AND ($1::text IS NULL OR cluster = $1);

-- name: take_over_schedules
-- After a restore: rows of objects that have the name of one that is there now, under another uid or a later generation.
UPDATE scheduler_schedules s
SET source_uid = o.uid, source_generation = least(s.source_generation, o.generation - 1)
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) o(kind, tenant, name, uid, generation)
WHERE s.source_cluster = $1 AND s.source_kind = o.kind AND s.tenant = o.tenant AND s.source_name = o.name
  AND (s.source_uid <> o.uid AND NOT EXISTS (
           SELECT FROM scheduler_schedules n
           WHERE n.tenant = o.tenant AND n.source_kind = o.kind AND n.source_cluster = $1 AND n.source_uid = o.uid)
       OR s.source_uid = o.uid AND s.source_generation > o.generation)
RETURNING s.source_name;

-- name: take_over_jobs
-- As take_over_schedules; of several rows of one name the newest. One whose id is made of the uid is called after the new
-- one: attempts and results follow by their keys, slots here. An object whose row is there keeps it.
WITH found AS MATERIALIZED (
    SELECT DISTINCT ON (o.kind, o.tenant, o.name) j.id, j.job_id, o.uid, o.generation,
           CASE WHEN j.job_id = 'sj-' || j.source_uid THEN 'sj-' || o.uid ELSE j.job_id END AS new_id
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) o(kind, tenant, name, uid, generation)
    JOIN scheduled_jobs j ON j.source_cluster = $1 AND j.source_kind = o.kind AND j.tenant = o.tenant
                         AND j.source_name = o.name
    WHERE o.kind = 'ScheduledJob'
      AND (j.source_uid = o.uid AND j.source_generation > o.generation
           OR j.source_uid <> o.uid AND NOT EXISTS (SELECT FROM scheduled_jobs n WHERE n.job_id = 'sj-' || o.uid))
    ORDER BY o.kind, o.tenant, o.name, j.id DESC),
slots AS (UPDATE scheduler_slots s SET job_id = f.new_id FROM found f WHERE s.job_id = f.job_id)
UPDATE scheduled_jobs j
SET job_id = f.new_id, source_uid = f.uid, source_generation = least(j.source_generation, f.generation - 1)
FROM found f WHERE j.id = f.id
RETURNING j.source_name;
