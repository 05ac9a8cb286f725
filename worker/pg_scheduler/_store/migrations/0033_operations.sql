-- min_reader: 1
-- What an operator on call needs: which cluster's rows somebody serves, sweeps that are held, and maintenance.

CREATE TABLE scheduler_clusters (
    cluster        text PRIMARY KEY,
    identity       text NOT NULL,
    seen_at        timestamptz NOT NULL,
    held_at        timestamptz,
    held_rows      bigint,
    held_of        bigint,
    confirmed_rows bigint,
    CONSTRAINT scheduler_clusters_cluster_fits_an_index CHECK (octet_length(cluster) BETWEEN 1 AND 200),
    CONSTRAINT scheduler_clusters_identity_fits CHECK (octet_length(identity) BETWEEN 1 AND 200),
    CONSTRAINT scheduler_clusters_hold_is_whole CHECK (
        CASE WHEN held_at IS NULL THEN held_rows IS NULL AND held_of IS NULL AND confirmed_rows IS NULL
             ELSE held_rows BETWEEN 1 AND held_of END)
);

-- Whose rows are here already; a folder of manifests is nobody's rival.
INSERT INTO scheduler_clusters (cluster, identity, seen_at)
SELECT source_cluster, 'unknown', timestamptz 'epoch' FROM (
    SELECT source_cluster FROM scheduler_schedules WHERE source_kind = 'PeriodicJob'
    UNION
    SELECT source_cluster FROM scheduled_jobs WHERE source_uid IS NOT NULL AND finished_at IS NULL) rows
WHERE source_cluster <> '' AND source_cluster NOT LIKE 'folder:%';

CREATE TABLE scheduler_maintenance (
    is_on  boolean PRIMARY KEY DEFAULT true,
    since  timestamptz NOT NULL DEFAULT scheduler_now(),
    set_by text NOT NULL,
    reason text NOT NULL,
    CONSTRAINT scheduler_maintenance_is_one_row CHECK (is_on)
);

-- Every claim looks at its worker's drain_until anyway, and those of released workers do too: so maintenance drains every
-- worker until 9999, and a claim costs what it did. A worker that registers meanwhile, and a mark that somebody else sets or
-- clears, meet the trigger; the lock sees to it that none slips through between the row's commit and the marks.
CREATE FUNCTION scheduler_keep_drained() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('scheduler_maintenance', 208));
    IF EXISTS (SELECT FROM scheduler_maintenance) THEN
        NEW.drain_until := '9999-01-01 00:00:00+00';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER scheduler_workers_keep_drained BEFORE INSERT OR UPDATE OF drain_until ON scheduler_workers
FOR EACH ROW EXECUTE FUNCTION scheduler_keep_drained();

CREATE FUNCTION scheduler_set_maintenance(turn_on boolean, who text, why text DEFAULT '') RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    was_on boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('scheduler_maintenance', 208));
    was_on := EXISTS (SELECT FROM scheduler_maintenance);
    IF turn_on THEN
        INSERT INTO scheduler_maintenance (set_by, reason) VALUES (who, why)
        ON CONFLICT (is_on) DO UPDATE SET set_by = excluded.set_by, reason = excluded.reason;
    ELSE
        DELETE FROM scheduler_maintenance;
    END IF;
    UPDATE scheduler_workers SET drain_until = CASE WHEN turn_on THEN timestamptz '9999-01-01 00:00:00+00' END
    WHERE state <> 'dead' AND (turn_on OR drain_until = '9999-01-01 00:00:00+00');
    PERFORM pg_notify('scheduler_overdue', ''), pg_notify('scheduler_wakeup', ''), pg_notify('scheduler_schedules', '');
    RETURN was_on <> turn_on;
END $$;
