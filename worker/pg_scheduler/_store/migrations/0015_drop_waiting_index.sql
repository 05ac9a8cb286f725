-- min_reader: 1
-- Another has taken its place (0014); no release has let a job wait before.

DROP INDEX scheduled_jobs_waiting;
