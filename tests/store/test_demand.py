"""What the operator reads to scale workers, and what it writes to drain them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler import recurrence
from pg_scheduler.control import Control, DesiredSchedule, Source
from pg_scheduler.demand import PoolRecord, QueueLimit, Running, Waiting
from pg_scheduler.job_template import JobTemplate
from pg_scheduler.pool_settings import PoolSettings
from pg_scheduler.recurrence import Policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pg_scheduler.demand import Demand, WorkerLoad
    from support.world import World

SCHEDULE = DesiredSchedule(
    source=Source(cluster="c", kind="PeriodicJob", tenant="", name="n", uid="p1", generation=1),
    rule=recurrence.Interval(10),
    template=JobTemplate(task="tick", queue="q"),
)
BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
async def control(dsn: str) -> AsyncIterator[Control]:
    """The operator's connection to this test's database."""
    async with Control(dsn) as control:
        yield control


async def in_pod(world: World, uid: str) -> str:
    worker = await world.worker()
    await world.pool.execute("UPDATE scheduler_workers SET pod_uid = $2 WHERE id = $1", worker, uid)
    return worker


def load(demand: Demand, uid: str) -> WorkerLoad:
    (worker,) = [worker for worker in demand.workers if worker.pod_uid == uid]
    return worker


async def test_nothing_asks_for_nothing(control: Control) -> None:
    demand = await control.demand("", ahead_seconds=60)

    assert (demand.waiting, demand.running, demand.workers, demand.has_schedules) == ([], [], [], False)
    assert demand.schema_version >= 28


async def test_waiting_jobs_are_told_by_queue_task_and_second(control: Control, world: World) -> None:
    await world.stand_at(BEGIN)
    for seconds in (-5, 0, 7, 7.5, 8, 61):
        await world.pending(execution_time=BEGIN + timedelta(seconds=seconds))
    await world.pending(queue="q", priority=8, concurrency_key="k")
    await world.pending(suspended=True)
    await world.pending(tenant="other")

    demand = await control.demand("", ahead_seconds=60)

    assert sorted((each.queue, each.task, each.in_seconds, each.jobs) for each in demand.waiting) == [
        ("default", "t", 0, 2),
        ("default", "t", 7, 1),
        ("default", "t", 8, 2),
        ("q", "t", 0, 1),
    ]


async def test_lateness_is_that_of_the_oldest_job_that_nothing_makes_wait(control: Control, world: World) -> None:
    await world.stand_at(BEGIN)
    await world.pending(execution_time=BEGIN + timedelta(seconds=5))
    early = await control.demand("")
    for seconds, options in ((-7, {}), (-3, {}), (-60, {"concurrency_key": "k"}), (-70, {"suspended": True})):
        await world.pending(execution_time=BEGIN + timedelta(seconds=seconds), **options)
    await world.pending(execution_time=BEGIN - timedelta(seconds=80), queue="paused")
    await world.pool.execute("INSERT INTO scheduler_queues (tenant, queue, paused_at) VALUES ('', 'paused', now())")

    assert (early.late_seconds, (await control.demand("")).late_seconds) == (0, 7)


async def test_ticks_that_are_no_jobs_yet_are_expected_and_then_due(control: Control, world: World) -> None:
    await world.stand_at(BEGIN)
    await control.upsert_schedule(SCHEDULE)

    assert (await control.demand("", ahead_seconds=9)).waiting == []
    assert (await control.demand("", ahead_seconds=9)).has_schedules
    ahead = (await control.demand("", ahead_seconds=25)).waiting
    await world.stand_at(BEGIN + timedelta(seconds=11))
    due = (await control.demand("", ahead_seconds=0)).waiting
    await world.tick()
    made = (await control.demand("", ahead_seconds=0)).waiting

    assert ahead == [Waiting("q", "tick", 10, 1), Waiting("q", "tick", 20, 1)]
    assert due == [Waiting("q", "tick", 0, 1)]
    assert made == due


async def test_runs_that_must_not_overlap_are_expected_one_at_a_time(control: Control, world: World) -> None:
    await world.stand_at(BEGIN)
    await control.upsert_schedule(replace(SCHEDULE, policy=Policy(overlap="skip")))

    assert (await control.demand("", ahead_seconds=60)).waiting == [Waiting("q", "tick", 10, 1)]


async def test_running_jobs_of_late_workers_are_orphaned(control: Control, world: World) -> None:
    late, living = await in_pod(world, "late"), await in_pod(world, "living")
    for worker in (late, living):
        await world.running(worker)
    await world.pool.execute("UPDATE scheduler_workers SET lease_until = '2020-01-01' WHERE id = $1", late)

    demand = await control.demand("")

    assert sorted(demand.running, key=lambda each: each.on_living_worker) == [
        Running("default", 1, on_living_worker=False),
        Running("default", 1, on_living_worker=True),
    ]
    assert [(load(demand, uid).lives, load(demand, uid).busy) for uid in ("late", "living")] == [(False, 1), (True, 1)]


async def test_worker_is_busy_with_a_cancelled_job_until_it_has_stopped(control: Control, world: World) -> None:
    worker = await in_pod(world, "a")
    job = await world.running(worker)
    assert await world.jobs.cancel(job.job_id)

    assert load(await control.demand(""), "a").busy == 1


async def test_dead_workers_are_told_of_only_while_they_hold_jobs(control: Control, world: World) -> None:
    await in_pod(world, "idle")
    await world.running(await in_pod(world, "busy"))
    await world.bury()

    assert [worker.pod_uid for worker in (await control.demand("")).workers] == ["busy"]


async def test_median_of_a_task_is_of_completed_jobs(control: Control, world: World) -> None:
    await world.pool.execute(
        "INSERT INTO scheduled_jobs"
        " (job_id, task, job_name, task_data, execution_time, status, started_at, finished_at)"
        " SELECT 'm' || n, 't', 't', '{}', now(), CASE n WHEN 4 THEN 'failed' ELSE 'completed' END, now(),"
        " now() + make_interval(secs => 10 ^ n) FROM generate_series(0, 4) n"
    )

    assert (await control.demand("")).median_seconds == {"t": pytest.approx(55.0)}


async def test_paused_queues_are_told(control: Control, world: World) -> None:
    await world.pool.execute("INSERT INTO scheduler_queues (tenant, queue, paused_at) VALUES ('', 'q', now())")

    assert (await control.demand("")).paused == ["q"]


async def test_limits_of_queues_are_told(control: Control, world: World) -> None:
    await world.pool.execute("INSERT INTO scheduler_pool_settings VALUES ('', 'p', 'c', 'u', 1, now())")
    await world.pool.execute(
        "INSERT INTO scheduler_queue_settings (tenant, queue, pool, concurrency, rate_limit, rate_seconds)"
        " VALUES ('', 'both', 'p', 5, 3, 60), ('', 'none', 'p', NULL, NULL, NULL)"
    )

    assert (await control.demand("")).limits == [QueueLimit("both", 5, 0.05)]


async def test_drained_worker_claims_nothing_for_a_minute(control: Control, world: World) -> None:
    await world.stand_at(BEGIN)
    worker = await in_pod(world, "a")
    await world.pool.execute("UPDATE scheduler_workers SET lease_until = 'infinity'")
    await world.pending()

    await control.drain("other", ["a"])
    assert load(await control.demand(""), "a").mark_seconds is None
    await control.drain("", ["a"])

    marked = load(await control.demand(""), "a")
    assert (marked.mark_seconds, marked.drained_seconds) == (60, 0)
    assert await world.claim(worker) == []
    await world.stand_at(BEGIN + timedelta(seconds=61))
    assert load(await control.demand(""), "a").mark_seconds is None
    assert len(await world.claim(worker)) == 1


async def test_renewed_mark_remembers_since_when_and_a_new_one_does_not(control: Control, world: World) -> None:
    await world.stand_at(BEGIN)
    await in_pod(world, "a")
    await control.drain("", ["a"])
    await world.stand_at(BEGIN + timedelta(seconds=40))
    await control.drain("", ["a"])
    renewed = load(await control.demand(""), "a")
    await world.stand_at(BEGIN + timedelta(seconds=200))
    await control.drain("", ["a"])
    anew = load(await control.demand(""), "a")

    assert (renewed.mark_seconds, renewed.drained_seconds) == (60, 40)
    assert (anew.mark_seconds, anew.drained_seconds) == (60, 0)


async def test_maintenance_outlasts_marks(control: Control, world: World) -> None:
    worker = await in_pod(world, "a")
    await world.pending()
    await world.pool.execute("SELECT scheduler_set_maintenance(true, 'somebody')")

    assert load(await control.demand(""), "a").mark_seconds is None
    await control.drain("", ["a"])
    await control.spare("", ["a"])

    assert await world.claim(worker) == []
    await world.pool.execute("SELECT scheduler_set_maintenance(false, 'somebody')")
    assert len(await world.claim(worker)) == 1


async def test_spared_worker_claims_at_once(control: Control, world: World) -> None:
    worker = await in_pod(world, "a")
    await world.pending()
    await control.drain("", ["a"])

    await control.spare("", ["a"])

    assert load(await control.demand(""), "a").mark_seconds is None
    assert len(await world.claim(worker)) == 1


async def test_record_of_a_pool_comes_back_as_it_was_kept(control: Control) -> None:
    record = PoolRecord(
        queues=["q"], tasks=["a", "b"], strangers={"q/typo": BEGIN}, start_seconds={"u2": 3.5, "u1": 2.0}
    )

    assert await control.pool_records("x") == {}
    await control.keep_pool_record("x", "p", PoolRecord())
    await control.keep_pool_record("x", "p", record)
    await control.keep_pool_record("y", "p", PoolRecord())

    assert await control.pool_records("x") == {"p": record}
    assert list((await control.pool_records("x"))["p"].start_seconds) == ["u2", "u1"]


async def test_record_goes_with_its_pool(control: Control) -> None:
    pool = replace(SCHEDULE.source, kind="WorkerPool", name="p")
    await control.set_pool(pool, made_at=BEGIN, settings=PoolSettings())
    await control.keep_pool_record("", "p", PoolRecord())
    await control.keep_pool_record("", "other", PoolRecord())

    await control.delete_pool("", "p", cluster="elsewhere")
    assert set(await control.pool_records("")) == {"other", "p"}
    await control.delete_pool("", "p", cluster="c", uid=pool.uid)

    assert set(await control.pool_records("")) == {"other"}
