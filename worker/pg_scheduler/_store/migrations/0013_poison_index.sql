-- min_reader: 1
-- transaction: none
-- Jobs that have outlived two workers wait for one that holds nothing. Few or none, so that it costs nothing to keep.
CREATE INDEX CONCURRENTLY IF NOT EXISTS scheduled_jobs_poison ON scheduled_jobs (tenant, queue, priority, execution_time, id)
    WHERE status = 'pending' AND interruptions >= 2;
