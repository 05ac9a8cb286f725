"""The sweep's brakes; what it withdraws is in ``test_reconciler``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pg_scheduler.control import Control, DesiredJob
from pg_scheduler.job_template import JobTemplate
from pg_scheduler_operator.errors import SweepHeld
from pg_scheduler_operator.gateway.scheduler import Rows
from pg_scheduler_operator.metrics import SWEEP_AGE, SWEEP_HELD_ROWS, Metrics
from pg_scheduler_operator.reconciler import Sweeper
from pg_scheduler_operator.reconciler.sweep import is_suspicious
from pg_scheduler_operator.resources import Kind
from pg_scheduler_operator.status import Reason
from support.operator_world import CLUSTER, FakeCluster, scheduled_job, source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg


class World:
    """Rows and objects to compare."""

    def __init__(self, control: Control, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.operations = control.operations
        self.control = control
        self.pool = pool
        self.cluster = FakeCluster()
        self.metrics = Metrics()
        self.rows = Rows(control, cluster=CLUSTER)
        self.sweeper = Sweeper(self.cluster, self.rows, self.metrics)

    async def fill(self, *, there: int, gone: int, cluster: str = CLUSTER, namespace: str = "billing") -> None:
        """Rows with an object, and rows without one."""
        for number in range(there + gone):
            name = f"{cluster}-{namespace}-{number}"
            uid = f"{name}-lost"
            if number < there:
                key = self.cluster.apply(Kind.SCHEDULED_JOB, name, scheduled_job(), namespace=namespace)
                uid = self.cluster.objects[key]["metadata"]["uid"]
            owner = replace(source(), cluster=cluster, tenant=namespace, name=name, uid=uid)
            await self.control.upsert_job(DesiredJob(source=owner, job_id=f"sj-{uid}", template=JobTemplate(task="t")))

    async def cancelled(self) -> int:
        count: int = await self.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'cancelled'")
        return count


@pytest.fixture
async def world(dsn: str, pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[World]:
    async with Control(dsn) as control:
        await control.operations.claim_cluster(CLUSTER, "one")
        yield World(control, pool)


@pytest.mark.parametrize(
    ("gone", "of", "held"),
    [
        (0, 0, False),
        (10, 10, False),
        (11, 11, True),
        (11, 54, True),
        (11, 55, False),
        (200, 1000, False),
        (201, 1000, True),
    ],
)
def test_more_than_ten_and_more_than_a_fifth_is_suspicious(gone: int, of: int, held: bool) -> None:
    assert is_suspicious(gone, of) == held


async def test_sweep_that_would_withdraw_many_withdraws_nothing_and_tells_people(world: World) -> None:
    await world.fill(there=3, gone=11)

    with pytest.raises(SweepHeld, match="11 of 14 objects"):
        await world.sweeper.run_once()

    assert await world.cancelled() == 0
    assert world.metrics.values(SWEEP_HELD_ROWS) == {(): 11}
    assert not world.metrics.values(SWEEP_AGE)
    ((reason, note),) = world.cluster.warnings
    assert reason is Reason.SWEEP_HELD
    assert "pgscheduler sweep --confirm" in note
    (held,) = await world.operations.held_sweeps()
    assert (held.cluster, held.rows, held.of) == (CLUSTER, 11, 14)


async def test_sweep_goes_on_once_people_have_agreed_and_is_held_again_the_next_time(world: World) -> None:
    await world.fill(there=3, gone=11)
    with pytest.raises(SweepHeld):
        await world.sweeper.run_once()

    await world.operations.confirm_sweeps(CLUSTER)
    assert await world.sweeper.run_once() == 11

    assert await world.cancelled() == 11
    assert await world.operations.held_sweeps() == []
    assert world.metrics.values(SWEEP_HELD_ROWS) == {(): 0}
    assert world.metrics.values(SWEEP_AGE)
    world.cluster.objects.clear()
    await world.fill(there=0, gone=12, namespace="more")
    with pytest.raises(SweepHeld):
        await world.sweeper.run_once()


async def test_hold_ends_by_itself_when_the_objects_are_back(world: World) -> None:
    await world.fill(there=14, gone=0)
    objects = dict(world.cluster.objects)
    world.cluster.objects.clear()
    with pytest.raises(SweepHeld):
        await world.sweeper.run_once()
    world.cluster.objects.update(objects)

    assert await world.sweeper.run_once() == 0

    assert await world.operations.held_sweeps() == []
    assert await world.cancelled() == 0


async def test_rows_of_other_clusters_and_namespaces_neither_count_nor_go(world: World) -> None:
    await world.fill(there=0, gone=12, cluster="other")
    await world.fill(there=0, gone=12, namespace="elsewhere")
    await world.fill(there=1, gone=2)

    assert await world.sweeper.run_once() == 2

    assert await world.cancelled() == 2


async def test_folder_has_no_brake(world: World) -> None:
    await world.fill(there=0, gone=12)

    assert await Sweeper(world.cluster, world.rows, world.metrics, may_hold=False).run_once() == 12


async def test_rows_of_objects_that_were_let_go_do_not_hold_it(world: World) -> None:
    await world.fill(there=3, gone=30)
    for row in await world.rows.open_sources():
        if row.uid.endswith("-lost"):
            world.sweeper.let_go(row.uid)

    assert await world.sweeper.run_once() == 30

    await world.fill(there=3, gone=11, namespace="other")
    with pytest.raises(SweepHeld, match="11 of 17 objects"):
        await world.sweeper.run_once()
