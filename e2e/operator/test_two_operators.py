"""Two operators serve the same objects at once, as after a lost lease: the database lets neither harm the other."""

from __future__ import annotations

from itertools import count, cycle
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from cluster.api_proxy import Fault
from support import crowds
from support.agreement import JOB_KINDS, stand_as_wanted
from support.objects import FAR_AWAY, periodic_job, scheduled_job
from support.sizes import sized

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.api_proxy import ApiProxy
    from cluster.cluster import Cluster, Manifest
    from cluster.progress import Progress
    from support.programs import StartProgram
    from support.tenants import Tenant

_SECONDS = sized(4, full=60)
_OBJECTS = 8
_RECORD_GENERATIONS = """
CREATE TABLE generations (id bigint GENERATED ALWAYS AS IDENTITY, uid text, generation bigint);
CREATE FUNCTION record_generation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO generations (uid, generation) VALUES (NEW.source_uid, NEW.source_generation);
    RETURN NULL;
END $$;
CREATE TRIGGER record_generation AFTER INSERT OR UPDATE ON scheduler_schedules
    FOR EACH ROW EXECUTE FUNCTION record_generation();
CREATE TRIGGER record_generation AFTER INSERT OR UPDATE ON scheduled_jobs
    FOR EACH ROW WHEN (NEW.source_kind = 'ScheduledJob') EXECUTE FUNCTION record_generation();
"""
_FALLS_BACK = """
SELECT uid FROM (SELECT uid, generation < lag(generation) OVER (PARTITION BY uid ORDER BY id) AS falls FROM generations)
    AS steps WHERE falls
"""
_ROWS_OF_ONE_OBJECT = """
SELECT max(n) FROM (
    SELECT count(*) AS n FROM scheduled_jobs WHERE source_kind = 'ScheduledJob' GROUP BY source_uid
    UNION ALL SELECT count(*) FROM scheduler_schedules GROUP BY source_uid) AS rows
"""


@pytest.fixture
def slow_proxy(cluster: Cluster) -> Iterator[ApiProxy]:
    """Whoever reads through it acts on what was true a while ago."""
    with cluster.api_proxy() as proxy, proxy.failing(Fault.LATE):
        yield proxy


@pytest.mark.timeout(_SECONDS + 120)
def test_two_operators_agree_and_no_generation_goes_back(
    tenant: Tenant, start_operator: StartProgram, start_worker: StartProgram, slow_proxy: ApiProxy, progress: Progress
) -> None:
    start_operator()
    start_operator(server=slow_proxy.url)
    tenant.database.execute(_RECORD_GENERATIONS)
    start_worker()
    names = [f"edited-{number}" for number in range(_OBJECTS)]
    crowds.create(tenant, (one for name in names for one in (scheduled_job(name, runAt=FAR_AWAY), _yearly(name))))
    tenant.apply(periodic_job("steady"))

    edits = _edit_all(tenant, names, until=monotonic() + _SECONDS)
    tenant.wait("all as wanted", lambda: stand_as_wanted(tenant), timeout_seconds=60)
    tenant.patch("pjob/steady", suspend=True)
    tenant.wait("the last run", lambda: all(row["finished_at"] for row in tenant.rows("steady")))

    progress.say(f"two operators for {_SECONDS} s, {edits} edits of each of {2 * _OBJECTS} objects")
    assert tenant.database.fetch(_FALLS_BACK) == []
    assert [row["max"] for row in tenant.database.fetch(_ROWS_OF_ONE_OBJECT)] == [1]
    ticks = [row["tick_at"] for row in tenant.rows("steady")]
    assert len(ticks) == len({*ticks})
    assert len(tenant.ledger.runs("steady")) == len([one for one in tenant.rows("steady") if one["attempt"]])


def _yearly(name: str) -> Manifest:
    return periodic_job(name, schedule={"cron": ["0 0 1 1 *"]})


def _edit_all(tenant: Tenant, names: list[str], *, until: float) -> int:
    """Suspend and resume them until then; how often."""
    for rounds, suspend in zip(count(), cycle([True, False])):
        if monotonic() > until:
            return rounds
        crowds.patch(tenant, {(kind, name): {"suspend": suspend} for kind in JOB_KINDS for name in names})
    raise AssertionError
