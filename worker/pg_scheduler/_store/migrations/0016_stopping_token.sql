-- min_reader: 1
-- The word that a coroutine has ended is fenced by its token: one that is sent twice, or late, must not free a row whose newer
-- coroutine runs on the same worker. Who does not write it (the previous release, and the functions of 0005 and 0010) leaves an
-- older token, which lets any newer word pass: no worse than without it.
ALTER TABLE scheduled_jobs ADD COLUMN stopping_token bigint;
