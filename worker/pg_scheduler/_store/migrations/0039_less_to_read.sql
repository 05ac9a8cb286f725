-- min_reader: 1
-- What decides whether a job can run and how it ends, in one CHECK. PostgreSQL reads the text of every CHECK anew for each
-- statement that writes a job: ten of them were a fifth of what an insert of one job costs the server, and a seventh of its
-- claim and of its end. Values that only shape a run (timeout_seconds, max_interruptions, on_full, concurrency_limit,
-- source_deletion, the length of job_id) are checked where they come in: by the library and by scheduler_enqueue.
ALTER TABLE scheduled_jobs
    DROP CONSTRAINT scheduled_jobs_status_fits_its_end,
    DROP CONSTRAINT scheduled_jobs_status_has_what_it_needs,
    DROP CONSTRAINT scheduled_jobs_priority_is_known,
    DROP CONSTRAINT scheduled_jobs_due_before_9999,
    DROP CONSTRAINT scheduled_jobs_words_are_known,
    DROP CONSTRAINT scheduled_jobs_job_id_fits_an_index,
    DROP CONSTRAINT scheduled_jobs_timeout_is_positive,
    DROP CONSTRAINT scheduled_jobs_max_interruptions_is_positive,
    DROP CONSTRAINT scheduled_jobs_concurrency_limit_fits,
    DROP CONSTRAINT scheduled_jobs_source_deletion_is_known,
    ADD CONSTRAINT scheduled_jobs_can_run CHECK (
        priority = ANY ('{1,3,5,8}'::integer[]) AND execution_time < '9999-01-01 00:00:00+00'::timestamptz
        AND on_interrupt = ANY ('{retry,fail}'::text[])
        AND CASE status WHEN 'running' THEN worker_id IS NOT NULL WHEN 'waiting' THEN concurrency_key IS NOT NULL ELSE true END
        AND CASE WHEN finished_at IS NULL THEN status = ANY ('{pending,running,waiting}'::text[])
                 ELSE status = ANY ('{completed,failed,cancelled,expired}'::text[]) END) NOT VALID;

-- The same condition as in 0010, read anew by each statement too: a list in one constant.
CREATE OR REPLACE TRIGGER scheduler_leaves_slot AFTER UPDATE ON scheduled_jobs FOR EACH ROW
WHEN ((OLD.stopping_worker IS NOT NULL OR OLD.concurrency_key IS NOT NULL AND OLD.status = ANY ('{running,pending}'::text[]))
      AND NEW.stopping_worker IS NULL AND NEW.status <> ALL ('{running,waiting}'::text[]))
EXECUTE FUNCTION scheduler_leave_slot();
