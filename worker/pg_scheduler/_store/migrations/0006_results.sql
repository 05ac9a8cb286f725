-- min_reader: 1
-- What a job gives beside its outcome: its progress while it runs, and its result. One row at most, and only for jobs that
-- ask for it. The token says which start of the job it belongs to: a row of an earlier start is as good as none.

CREATE TABLE scheduler_results (
    job_id    text        NOT NULL PRIMARY KEY REFERENCES scheduled_jobs (job_id) ON DELETE CASCADE ON UPDATE CASCADE,
    token     bigint      NOT NULL,
    progress  double precision CHECK (progress BETWEEN 0 AND 1),
    note      text,
    result    json,
    refused   text,
    stored_at timestamptz NOT NULL DEFAULT scheduler_now(),
    CONSTRAINT scheduler_results_kept_or_refused CHECK (result IS NULL OR refused IS NULL)
);
