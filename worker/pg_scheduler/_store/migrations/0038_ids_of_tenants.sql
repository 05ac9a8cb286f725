-- min_reader: 1
-- An id made of a namespace's idempotency key is that namespace's: nobody takes the key of another, whatever login he has.
ALTER TABLE scheduled_jobs
    ADD CONSTRAINT scheduled_jobs_key_is_of_its_tenant
        CHECK (NOT starts_with(job_id, 'key:') OR starts_with(job_id, 'key:' || tenant || '/')) NOT VALID;
