-- min_reader: 1
-- Suspicion.

-- Whether the heartbeat's backend tells of its process: it is the client's own (no pooler between), and each beat writes it
-- anew. The previous release writes it once, so that its rows are never suspected.
ALTER TABLE scheduler_workers ADD COLUMN backend_watched boolean NOT NULL DEFAULT false;
