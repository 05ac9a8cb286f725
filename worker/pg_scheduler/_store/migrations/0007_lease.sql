-- min_reader: 1
-- Suspicion and poison jobs.

-- Whether the heartbeat's backend tells of its process: it is the client's own (no pooler between), and each beat writes it
-- anew. The previous release writes it once, so that its rows are never suspected.
ALTER TABLE scheduler_workers ADD COLUMN backend_watched boolean NOT NULL DEFAULT false;

-- Jobs that have outlived two workers wait for one that holds nothing. Few or none, so that it costs nothing to keep.
CREATE INDEX scheduled_jobs_poison ON scheduled_jobs (tenant, queue, priority, execution_time, id)
    WHERE status = 'pending' AND interruptions >= 2;
