-- min_reader: 1
-- stand-in: replaced at the merge of the keyed branch
CREATE FUNCTION scheduler_tick_outcome(status text, error_message text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN status IN ('pending', 'running', 'waiting') THEN 'open' WHEN status IN ('completed', 'failed') THEN 'ran'
            WHEN status = 'expired' THEN 'missed' WHEN error_message LIKE 'skipped: %' THEN 'skipped_overlap' ELSE 'cancelled' END;
ALTER TABLE scheduled_jobs DROP CONSTRAINT scheduled_jobs_words_are_known,
  ADD CONSTRAINT scheduled_jobs_words_are_known CHECK (
        on_interrupt = ANY ('{retry,fail}'::text[]) AND on_full = ANY ('{wait,skip,replace,queue}'::text[])) NOT VALID;
