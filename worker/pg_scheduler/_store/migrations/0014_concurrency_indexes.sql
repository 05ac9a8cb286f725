-- min_reader: 1
-- transaction: none

-- Jobs that have started and will again: they count as open for what skips and replaces.
CREATE INDEX CONCURRENTLY IF NOT EXISTS scheduled_jobs_keyed_retries ON scheduled_jobs (tenant, concurrency_key)
    WHERE concurrency_key IS NOT NULL AND status = 'pending' AND attempt > 0;

-- In the order in which they are promoted. It takes the place of one without that order.
CREATE INDEX CONCURRENTLY IF NOT EXISTS scheduled_jobs_waiting_in_order ON scheduled_jobs
    (tenant, concurrency_key, priority, execution_time, id) WHERE status = 'waiting';
