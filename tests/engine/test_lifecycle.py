"""Start, stop, death and outage of a worker."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine import jobs
from engine.test_connections import CancelledAt
from pg_scheduler import Scheduler
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.rescuer import Rescued, Rescuer
from pg_scheduler.errors import SchemaMismatch
from support.beats import beating_until
from support.paths import ROOT
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from engine.conftest import MakeScheduler
    from support.world import World

pytestmark = pytest.mark.newest_postgres


def now() -> datetime:
    return datetime.now(UTC)


async def test_start_and_shutdown_may_be_repeated(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler = Scheduler(pool)
    seen = [scheduler.is_running]
    await scheduler.shutdown()
    for _ in range(2):
        for act in (scheduler.start, scheduler.start, scheduler.shutdown, scheduler.shutdown):
            await act()
            seen.append(scheduler.is_running)

    assert seen == [False, *[True, True, False, False] * 2]


async def test_two_starts_and_a_stop_at_once_leave_one_engine_or_none(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler = Scheduler(pool)

    await asyncio.gather(scheduler.start(), scheduler.start())
    alive = await pool.fetchval("SELECT count(*) FROM scheduler_workers WHERE state = 'alive'")
    await asyncio.gather(scheduler.shutdown(), scheduler.start(), scheduler.shutdown())
    await scheduler.shutdown()

    assert alive == 1
    assert not scheduler.is_running


async def test_a_start_that_is_given_up_at_any_wait_leaves_nothing(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler = Scheduler(pool)
    n, reached = 0, True
    while reached:
        n += 1
        start = CancelledAt(scheduler.start(), n)

        async def run(start: CancelledAt = start) -> None:
            await start

        (outcome,) = await asyncio.gather(asyncio.create_task(run()), return_exceptions=True)
        reached = start.reached
        assert isinstance(outcome, asyncio.CancelledError) == reached
        assert scheduler.is_running != reached
        await until(lambda: pool.get_idle_size() == pool.get_size())
    await scheduler.shutdown()

    assert n > 10
    assert await pool.fetchval("SELECT count(*) FROM scheduler_workers WHERE state = 'alive'") == 0


async def test_a_claim_whose_reply_was_lost_is_handed_back(world: World, started: MakeScheduler) -> None:
    async def note() -> None: ...

    scheduler = await started(note)
    (task,) = [key for key in scheduler.task_map if key.endswith("note")]
    await world.pool.execute(
        "INSERT INTO scheduled_jobs"
        " (job_id, task, job_name, task_data, execution_time, status, worker_id, token, attempt)"
        " VALUES ('ghost', $1, 'note', '{}', now(), 'running', $2, nextval('scheduler_token'), 1)",
        task,
        scheduler.worker_id,
    )

    async def completed() -> bool:
        return await world.statuses("ghost") == ["completed"]

    await beating_until(scheduler, completed)
    row = await world.row("ghost")
    assert (row["attempt"], row["interruptions"]) == (1, 0)


@pytest.mark.parametrize("_round", range(10))
async def test_start_and_stop_under_load_leave_nothing(pool: asyncpg.Pool[asyncpg.Record], _round: int) -> None:
    async def note() -> None: ...

    scheduler = Scheduler(pool, shutdown_timeout=0.5)
    for _ in range(3):
        await scheduler.start()
        for _ in range(20):
            await scheduler.schedule(note, execution_time=now())
        await scheduler.shutdown()

    counts = await pool.fetchrow(
        "SELECT count(*) FILTER (WHERE status = 'running') AS running,"
        " count(*) FILTER (WHERE status = 'failed') AS failed, count(*) AS all FROM scheduled_jobs"
    )
    assert counts is not None
    assert (counts["running"], counts["failed"], counts["all"]) == (0, 0, 60)
    assert await pool.fetchval("SELECT count(*) FROM scheduler_workers WHERE state = 'alive'") == 0


@pytest.mark.usefixtures("unpolled")
async def test_an_idle_shutdown_waits_for_nothing(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler = Scheduler(pool, lease_seconds=3600, shutdown_timeout=600)
    await scheduler.start()

    await asyncio.wait_for(scheduler.shutdown(), PATIENCE)


async def test_the_callers_pool_stays_open_with_every_connection(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async with Scheduler(pool):
        pass

    assert not pool.is_closing()
    assert pool.get_idle_size() == pool.get_size()


async def test_shutdown_hands_back_what_does_not_end(world: World, started: MakeScheduler) -> None:
    scheduler = await started(jobs.hang, shutdown_timeout=0.1)
    job_id = await scheduler.schedule(jobs.hang, execution_time=now())
    await until(lambda: scheduler.active_jobs == {job_id})

    await scheduler.shutdown()

    row = await world.row(job_id)
    assert (row["status"], row["attempt"], row["worker_id"]) == ("pending", 0, None)


async def test_without_auto_migrate_a_missing_schema_is_an_error(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await pool.execute("DROP TABLE scheduler_migrations, scheduler_attempts, scheduled_jobs CASCADE")
    scheduler = Scheduler(pool, auto_migrate=False)

    with pytest.raises(SchemaMismatch, match="pgscheduler migrate"):
        await scheduler.start()

    assert not scheduler.is_running


async def test_a_part_that_dies_stops_the_scheduler_loudly(
    started: MakeScheduler, pool: asyncpg.Pool[asyncpg.Record], caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = await started()
    await pool.execute("DROP TABLE scheduler_attempts, scheduled_jobs CASCADE")
    await pool.execute("SELECT pg_notify('scheduler_wakeup', '')")

    with caplog.at_level(logging.CRITICAL), pytest.raises(SchemaMismatch):
        await asyncio.wait_for(scheduler.wait_failed(), PATIENCE)

    assert "died" in caplog.text


@asynccontextmanager
async def worker_process(dsn: str, lease_seconds: float) -> AsyncIterator[asyncio.subprocess.Process]:
    script = Path(jobs.__file__)
    environment = {"PYTHONPATH": os.pathsep.join((str(ROOT / "worker"), str(ROOT / "tests")))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), dsn, str(lease_seconds), env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_job_of_a_killed_worker_is_finished_by_another(
    world: World, started: MakeScheduler, dsn: str, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    lease_seconds = 2.0
    async with worker_process(dsn, lease_seconds) as victim:
        await Scheduler(pool).schedule_job("__main__:hang", now(), {}, job_id="doomed")
        await until(lambda: _holder(world, "doomed"))
        stale = await world.row("doomed")
        victim.send_signal(signal.SIGKILL)
        await victim.wait()

        finished = asyncio.Event()

        async def finish() -> None:
            finished.set()

        survivor = await started(lease_seconds=lease_seconds)
        survivor._registry.add(finish, "__main__:hang")
        await asyncio.wait_for(finished.wait(), PATIENCE)

    async def completed() -> bool:
        return str((await world.row("doomed"))["status"]) == "completed"

    await until(completed)
    row = await world.row("doomed")
    assert row["token"] > stale["token"]
    assert (row["attempt"], row["interruptions"], row["worker_id"]) == (2, 1, survivor.worker_id)


async def _holder(world: World, job_id: str) -> str | None:
    row = await world.row(job_id)
    return row["worker_id"] if row["status"] == "running" else None


async def test_a_worker_that_was_buried_stops_what_it_ran_and_goes_on_under_a_new_id(
    world: World, started: MakeScheduler
) -> None:
    lease_seconds = 1.5
    ended = asyncio.Event()

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    scheduler = await started(linger, lease_seconds=lease_seconds)
    first_id = scheduler.worker_id
    job_id = await scheduler.schedule(linger, execution_time=now())
    await until(lambda: job_id in scheduler.active_jobs)

    await world.pool.execute("UPDATE scheduler_workers SET state = 'dead'")

    await asyncio.wait_for(ended.wait(), PATIENCE)
    await until(lambda: scheduler.worker_id != first_id)


async def test_an_outage_costs_no_job_and_no_second_run(world: World, started: MakeScheduler) -> None:
    starts: list[int] = []
    gate = asyncio.Event()

    async def wait(n: int) -> None:
        starts.append(n)
        await gate.wait()

    scheduler = await started()
    ids = [await scheduler.schedule(wait, execution_time=now(), args=(n,)) for n in range(5)]
    await until(lambda: len(starts) == 5)

    for _ in range(3):
        await world.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        gate.set()

    async def all_completed() -> bool:
        rows = await world.pool.fetch("SELECT status FROM scheduled_jobs WHERE job_id = ANY($1)", ids)
        return {row["status"] for row in rows} == {"completed"}

    await until(all_completed)
    assert sorted(starts) == [0, 1, 2, 3, 4]
    assert await scheduler.schedule(wait, execution_time=now(), args=(9,))
    await until(lambda: 9 in starts)


async def test_a_sweeper_waits_until_its_own_lease_has_held_for_one_lease(world: World) -> None:
    clock = [0.0]
    lease = Lease(30, clock=lambda: clock[0])
    rescuer = Rescuer(world.workers, world.jobs, own_lease=lease, config=EngineConfig())
    worker = await world.worker(lease_seconds=1)
    await world.running(worker)
    await world.advance(timedelta(seconds=2))
    lease.begin("me", 0.0)

    assert await rescuer.run_once() == Rescued()
    clock[0] = 31.0
    lease.miss()
    lease.acknowledge(31.0)
    assert await rescuer.run_once() == Rescued()
    clock[0] = 61.0
    lease.acknowledge(51.0)
    assert await rescuer.run_once() == Rescued(dead_workers=1, requeued=1)
    assert await rescuer.run_once() == Rescued()


def test_a_lease_that_ran_out_unnoticed_is_a_gap_too() -> None:
    """A frozen process misses no beat that it knows of; when the host slept, everybody looks dead at its waking."""
    clock = [0.0]
    lease = Lease(30, clock=lambda: clock[0])
    lease.begin("me", 0.0)
    lease.acknowledge(25.0)
    seen = []
    for clock[0] in (31.0, 100.0):
        seen.append(lease.held_for_one_full_lease)
    lease.acknowledge(100.0)
    for clock[0] in (101.0, 129.0):
        seen.append(lease.held_for_one_full_lease)
    lease.acknowledge(129.0)
    clock[0] = 130.0
    seen.append(lease.held_for_one_full_lease)

    assert seen == [True, False, False, False, True]


def test_a_lease_is_not_believed_longer_than_the_database_believes_it() -> None:
    clock = [10.0]
    lease = Lease(30, clock=lambda: clock[0])
    seen = [lease.is_valid]
    lease.begin("me", 10.0)
    for clock[0] in (10.0, 39.9, 40.0):
        seen.append(lease.is_valid)
    lease.acknowledge(39.0)
    seen.append(lease.is_valid)

    assert seen == [False, True, True, False, True]


async def test_schedulers_of_two_tenants_leave_each_other_alone(
    world: World, started: MakeScheduler, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    seen: list[Any] = []

    async def note(who: str) -> None:
        seen.append(who)

    a = await started(note, tenant="a")
    await Scheduler(pool, tenant="b").schedule(note, execution_time=now(), args=("b",), job_id="b")
    await a.schedule(note, execution_time=now(), args=("a",))

    await until(lambda: seen == ["a"])
    assert (await world.row("b"))["status"] == "pending"
