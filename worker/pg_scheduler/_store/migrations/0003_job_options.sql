-- min_reader: 1
-- What a single job may ask for beyond its time. All of it is empty for most jobs, and NULL costs a row nothing.

ALTER TABLE scheduled_jobs
    ADD COLUMN retry_policy      json,
    ADD COLUMN on_interrupt      text    NOT NULL DEFAULT 'retry',
    ADD COLUMN max_interruptions integer,
    ADD COLUMN expires_at        timestamptz,
    ADD COLUMN keep_result       boolean NOT NULL DEFAULT false,
    ADD COLUMN flush_now         boolean NOT NULL DEFAULT false,
    ADD COLUMN tags              json,
    ADD COLUMN metadata          json,
    ADD CONSTRAINT scheduled_jobs_on_interrupt_is_known CHECK (on_interrupt IN ('retry', 'fail')) NOT VALID,
    ADD CONSTRAINT scheduled_jobs_timeout_is_positive CHECK (timeout_seconds > 0) NOT VALID,
    ADD CONSTRAINT scheduled_jobs_max_interruptions_is_positive CHECK (max_interruptions >= 0) NOT VALID;
