from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from pg_scheduler.control import Control, DesiredJob
from pg_scheduler.job_template import JobTemplate
from pg_scheduler_operator import presence
from pg_scheduler_operator.errors import NameTaken
from pg_scheduler_operator.metrics import LOOP_AGE, Metrics
from pg_scheduler_operator.presence import Presence
from pg_scheduler_operator.reconciler import Loop
from pg_scheduler_operator.resources import Kind
from pg_scheduler_operator.settings import Settings
from support.operator_world import CLUSTER, FakeCluster, scheduled_job, source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pg_scheduler_operator.gateway.kube import KubeResources


@pytest.fixture
async def control(dsn: str) -> AsyncIterator[Control]:
    async with Control(dsn) as control:
        yield control


def settings(**given: Any) -> Settings:
    return Settings.model_validate({"dsn": "postgresql://db/app", **given})


def at(control: Control, cluster: FakeCluster, metrics: Metrics | None = None, **given: Any) -> Presence:
    resources = cast("KubeResources", cluster)
    return Presence(control.operations, resources, settings(**given), metrics or Metrics())


async def test_start_refuses_a_name_that_a_living_operator_of_another_cluster_has(control: Control) -> None:
    await at(control, FakeCluster(identity="one")).begin()
    await at(control, FakeCluster(identity="one")).begin()

    with pytest.raises(NameTaken, match="the operator of another cluster serves the rows of default"):
        await at(control, FakeCluster(identity="two")).begin()


async def test_name_has_to_be_given_where_another_clusters_rows_are(control: Control) -> None:
    await at(control, FakeCluster(identity="one"), cluster_name="a").begin()

    with pytest.raises(NameTaken, match=r"holds rows of a.*set \$PGSCHEDULER_CLUSTER_NAME"):
        await at(control, FakeCluster(identity="two")).begin()
    await at(control, FakeCluster(identity="two"), cluster_name="default").begin()


async def test_operator_whose_name_another_one_has_taken_ends(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "SAY_SECONDS", 0)
    metrics = Metrics()
    mine = at(control, FakeCluster(identity="one"), metrics)
    await mine.begin()
    running = asyncio.create_task(mine.run())
    await control.operations._store._db.fetch("UPDATE scheduler_clusters SET identity = 'two'")

    with pytest.raises(NameTaken):
        await running

    assert metrics.values(LOOP_AGE).keys() == {(Loop.PRESENCE,)}


async def test_rows_are_taken_over_by_name_when_asked_for(control: Control) -> None:
    cluster = FakeCluster()
    cluster.apply(Kind.SCHEDULED_JOB, "x", scheduled_job())
    await control.upsert_job(DesiredJob(source=source(), job_id="sj-u1", template=JobTemplate(task="t")))

    await at(control, cluster).begin()
    assert await control.job("sj-uid-1") is None
    await at(control, cluster, adopt_by_name=True).begin()

    state = await control.job("sj-uid-1")
    assert state is not None
    assert state.source is not None
    assert (state.source.uid, state.source.cluster) == ("uid-1", CLUSTER)
