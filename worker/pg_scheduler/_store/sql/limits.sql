-- name: set_tenant_limits
-- A cluster's limits in the place of those that it has stored; a tenant that another cluster has limited stays that one's. The
-- trigger of the table looks after each such statement whether submissions are to be looked at.
WITH gone AS (
    DELETE FROM scheduler_tenant_limits WHERE source_cluster = $1 AND tenant <> ALL($2::text[]))
INSERT INTO scheduler_tenant_limits AS l (source_cluster, tenant, max_pending, rate_limit, rate_seconds, min_interval_seconds)
SELECT $1, u.* FROM unnest($2::text[], $3::int[], $4::int[], $5::int[], $6::int[]) u(tenant, pending, jobs, seconds, gap)
ORDER BY u.tenant
ON CONFLICT (tenant) DO UPDATE SET max_pending = excluded.max_pending, rate_limit = excluded.rate_limit,
    rate_seconds = excluded.rate_seconds, min_interval_seconds = excluded.min_interval_seconds
WHERE l.source_cluster = excluded.source_cluster AND l IS DISTINCT FROM excluded;

-- name: limits_of_others
-- Which of these tenants another cluster has limited.
SELECT tenant, source_cluster FROM scheduler_tenant_limits WHERE tenant = ANY($2::text[]) AND source_cluster <> $1
ORDER BY tenant;

-- name: shortest_intervals
-- How close the ticks of schedules of these tenants may be, where that is limited.
SELECT t.tenant, l.min_interval_seconds
FROM unnest($1::text[]) t(tenant) CROSS JOIN LATERAL (
    SELECT o.min_interval_seconds FROM scheduler_tenant_limits o
    WHERE o.tenant IN (t.tenant, '*') ORDER BY o.tenant = '*' LIMIT 1) l
WHERE l.min_interval_seconds IS NOT NULL;
