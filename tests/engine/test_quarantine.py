"""A job that has outlived two workers runs alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._engine import quarantine
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.quarantine import Quarantine
from pg_scheduler._engine.slots import Slots
from pg_scheduler.tasks import Registry
from support.waiting import until
from support.world import LONG_AGO

if TYPE_CHECKING:
    from engine.conftest import MakeScheduler
    from support.world import World

pytestmark = pytest.mark.newest_postgres


def now() -> datetime:
    return datetime.now(UTC)


async def test_a_poison_job_waits_for_an_idle_worker_and_nothing_starts_beside_it(
    world: World, started: MakeScheduler
) -> None:
    gates = {name: asyncio.Event() for name in ("before", "alone", "after")}
    seen: list[str] = []

    async def work(name: str) -> None:
        seen.append(name)
        await gates[name].wait()

    async def run_as_poison() -> None:
        await work("alone")

    scheduler = await started(work, run_as_poison)
    await scheduler.schedule(work, execution_time=now(), args=("before",))
    await until(lambda: seen == ["before"])
    poison = await scheduler.schedule(run_as_poison, execution_time=datetime(9998, 1, 1, tzinfo=UTC))
    await world.pool.execute(
        "UPDATE scheduled_jobs SET interruptions = 2, execution_time = now() WHERE job_id = $1", poison
    )
    await world.jobs.wake_workers()
    after_wake = await scheduler.schedule(work, execution_time=now(), args=("before",))
    await until(lambda: seen == ["before"] * 2)  # the loop has looked, and the worker is not idle

    gates["before"].set()
    await until(lambda: seen[2:] == ["alone"])
    await scheduler.schedule(work, execution_time=now(), args=("after",))
    scheduler._worker.engine.lifecycle._services.wake()  # type: ignore[union-attr]
    assert scheduler.active_jobs == {poison}
    assert (await world.jobs.look_ahead("", ["default"], list(scheduler.task_map))).due_in is not None
    gates["alone"].set()
    await until(lambda: seen[3:] == ["after"])
    gates["after"].set()

    async def all_ended() -> bool:
        rows = [await world.row(job_id) for job_id in (poison, after_wake)]
        return [(row["attempt"], row["status"]) for row in rows] == [(1, "completed")] * 2

    await until(all_ended)


class Busy:
    """A worker that holds one job, and its quarantine on a clock to set."""

    def __init__(self, world: World, worker_id: str) -> None:
        self.now = 0.0
        self.slots = Slots(2, on_release=lambda: None)
        self.lease = Lease(30)
        self.lease.worker_id = worker_id
        registry = Registry()
        registry.add(_task, "t")
        self.quarantine = Quarantine(
            world.jobs, self.slots, registry,
            lease=self.lease, ghosts=Ghosts(), config=EngineConfig(), clock=lambda: self.now,
        )  # fmt: skip
        self.slots.hold(_held())

    async def pass_at(self, seconds: float) -> ClaimedJob | None:
        self.now = seconds
        return await self.quarantine.run_once()


async def _task() -> None: ...


def _held() -> ClaimedJob:
    return ClaimedJob(1, "j", 1, "w", "t", "{}", "default", 5, LONG_AGO, 1, 0, 0)


async def test_a_worker_that_is_never_idle_makes_room_for_a_part_of_its_time(world: World) -> None:
    busy = Busy(world, await world.worker())
    poison = await world.pending()
    await world.pool.execute("UPDATE scheduled_jobs SET interruptions = 2")
    closed = {}
    for at in (0.0, 59.0, 61.0, 120.0, 122.0, 360.0, 362.0):
        assert await busy.pass_at(at) is None
        closed[at] = busy.quarantine.is_closed

    assert closed == {0: False, 59: False, 61: True, 120: True, 122: False, 360: False, 362: True}
    busy.slots.release(1)
    job = await busy.pass_at(363.0)
    assert job is not None
    assert job.job_id == poison
    busy.slots.hold(job)
    assert busy.quarantine.is_closed
    busy.slots.release(job.token)
    assert not busy.quarantine.is_closed


async def test_no_worker_makes_room_while_no_poison_job_waits(world: World) -> None:
    busy = Busy(world, await world.worker())

    for at in range(0, 600, 10):
        assert await busy.pass_at(at) is None
        assert not busy.quarantine.is_closed


async def test_an_idle_worker_asks_for_a_poison_job_once_it_was_seen(world: World) -> None:
    busy = Busy(world, await world.worker())
    busy.slots.release(1)
    assert await busy.pass_at(0.0) is None
    await world.pending()
    await world.pool.execute("UPDATE scheduled_jobs SET interruptions = 2")

    assert await busy.pass_at(5.0) is None
    busy.quarantine.expect()
    assert await busy.pass_at(5.0) is not None
    assert quarantine.ROOM_SECONDS <= quarantine.BUSY_SECONDS
