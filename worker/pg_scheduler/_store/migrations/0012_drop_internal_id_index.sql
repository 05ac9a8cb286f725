-- min_reader: 1
-- after: 0.1
-- Claims and sweeps go by ctid, outcomes by token, listings by job_id: what the index of the internal id still did was to be
-- written twice for each job and to be searched for duplicates each time, 5 µs of the 30 that a job costs the server.
-- Releases up to 0.1 look rows up by it.

ALTER TABLE scheduled_jobs DROP CONSTRAINT scheduled_jobs_id_key;
