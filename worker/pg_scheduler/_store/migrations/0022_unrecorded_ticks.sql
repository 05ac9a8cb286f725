-- min_reader: 1
-- after: 0.2
-- Releases up to 0.2 delete the job of a tick without telling the ledger: what is missing of the sum once none of them lives
-- is told in one row a schedule.

INSERT INTO scheduler_occurrences (schedule_id, outcome, first_tick_at, last_tick_at, ticks, reason)
SELECT s.id, 'unrecorded', s.created_at, greatest(s.created_at, s.last_tick_at), l.unaccounted, 'before there was a ledger'
FROM scheduler_ledger l JOIN scheduler_schedules s ON s.id = l.schedule_id
WHERE l.unaccounted > 0;
