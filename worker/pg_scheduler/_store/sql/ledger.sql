-- name: limit_ledger
-- First in the transaction of ledger_totals: figures are not worth a server that works on them for long.
SELECT set_config('statement_timeout', $1, true);

-- name: ledger_totals
-- Sums over the tenant's schedules; a row of zeros where there is none.
SELECT coalesce(sum(l.planned), 0)::bigint AS planned, coalesce(sum(l.open), 0)::bigint AS open,
       coalesce(sum(l.ran), 0)::bigint AS ran, coalesce(sum(l.failed), 0)::bigint AS failed,
       coalesce(sum(l.coalesced), 0)::bigint AS coalesced, coalesce(sum(l.skipped_overlap), 0)::bigint AS skipped_overlap,
       coalesce(sum(l.skipped_suspended), 0)::bigint AS skipped_suspended, coalesce(sum(l.missed), 0)::bigint AS missed,
       coalesce(sum(l.cancelled), 0)::bigint AS cancelled, coalesce(sum(l.unrecorded), 0)::bigint AS unrecorded,
       coalesce(sum(l.unaccounted), 0)::bigint AS unaccounted
FROM scheduler_ledger l WHERE l.tenant = $1;
