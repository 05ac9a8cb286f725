"""Clocks that are wrong and that jump, a worker's and the database's (design page 7, F20 and F21)."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest

from faults.conftest import as_if_it_had_beaten_for_a_lease, id_of, submit
from pg_scheduler import JobContext, Scheduler
from store.test_races import every_second
from support.databases import NEWEST
from support.faked_clock import faked_clock
from support.needs import needs
from support.own_server import own_server
from support.sizes import IN_FULL
from support.two_histories import INSTALL
from support.waiting import until
from support.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from faults.conftest import Record
    from support.commands import Running
    from support.faked_clock import FakedClock

pytestmark = pytest.mark.skipif(
    not IN_FULL,
    reason="make chaos runs it: libfaketime now and then stalls a process of several threads for seconds at its start",
)

HOUR, MINUTE, HALF_A_MINUTE, SECOND = (
    timedelta(hours=1),
    timedelta(minutes=1),
    timedelta(seconds=30),
    timedelta(seconds=1),
)
JUMPS = [HALF_A_MINUTE, -HALF_A_MINUTE, HOUR + HALF_A_MINUTE, -HOUR - HALF_A_MINUTE]
LEASE_SECONDS = 6
SLEW_SECONDS = 0.005
"""How far the machine's two clocks may part while a test runs."""


@needs("faketime")
async def test_wrong_and_jumping_clocks_of_workers_start_nothing_early_expire_nothing_and_steal_nothing(
    world: World, start_process: Callable[..., Running], record: Record, tmp_path: Path
) -> None:
    """Of three workers one is an hour ahead, one an hour behind, and the third jumps each time when it has started."""
    with ExitStack() as stack:
        clocks = [
            stack.enter_context(faked_clock(tmp_path / f"clock-{n}", ahead))
            for n, ahead in enumerate([HOUR, -HOUR, timedelta()])
        ]
        workers = [start_process("--lease", "20", **clock.environment) for clock in clocks]
        for worker in workers:
            await id_of(worker)
        epoch = time.time() - time.monotonic()
        await Scheduler(world.pool).upsert_schedule("each second", "fault_tasks:nap", every=SECOND, args=["tick", 0.0])
        now = await world.pool.fetchval("SELECT now()")
        long = [await submit(world, "nap", f"long-{n}", 8.0) for n in range(15)]
        later = [
            await submit(world, "nap", f"later-{n}", 0.0, execution_time=now + n * timedelta(minutes=10))
            for n in range(1, 4)
        ]
        due: dict[str, datetime] = {}

        async def has_been_seen(ahead: timedelta) -> bool:
            """Whether a job has started in a process whose clock was so far off; one more for all to take."""
            name = f"soon-{len(due)}"
            due[name] = datetime.now(UTC) + timedelta(seconds=0.3)
            await submit(world, "nap", name, 0.01, execution_time=due[name], misfire_grace_time=1)
            return ahead.total_seconds() in {round(line["at"] - line["moment"] - epoch) for line in record.events()}

        for ahead in JUMPS:
            clocks[2].put(ahead)
            await until(partial(has_been_seen, ahead))
        await until(lambda: len(without_ticks(record.names("end"))) == len(long) + len(due))

    started_at = {line["name"]: line["moment"] + epoch for line in record.events() if line["event"] == "start"}
    assert [name for name, at in due.items() if started_at[name] + SLEW_SECONDS < at.timestamp()] == []
    assert sorted(without_ticks(record.names("start"))) == sorted([*long, *due])
    await assert_each_tick_ran_once(world)
    assert await states_of(world) == dict.fromkeys([*long, *due], ("completed", 1, 0)) | dict.fromkeys(
        later, ("pending", 0, 0)
    )


def without_ticks(names: Sequence[str]) -> list[str]:
    """The jobs that the test has submitted itself."""
    return [name for name in names if name != "tick"]


async def assert_each_tick_ran_once(world: World) -> None:
    """Each second from the first to the last, on its instant, by the database's clock."""
    rows = await world.pool.fetch(
        "SELECT tick_at, started_at FROM scheduled_jobs WHERE tick_at IS NOT NULL AND started_at IS NOT NULL ORDER BY 1"
    )
    assert rows
    assert [row["tick_at"] for row in rows] == [rows[0]["tick_at"] + n * SECOND for n in range(len(rows))]
    assert all(timedelta() <= row["started_at"] - row["tick_at"] < SECOND for row in rows)


async def states_of(world: World) -> dict[str, tuple[str, int, int]]:
    rows = await world.pool.fetch(
        "SELECT job_id, status, attempt, interruptions FROM scheduled_jobs WHERE tick_at IS NULL"
    )
    return {row["job_id"]: (row["status"], row["attempt"], row["interruptions"]) for row in rows}


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[FakedClock]:
    """The clock of a server of the test's own."""
    with faked_clock(tmp_path / "clock", timedelta()) as clock:
        yield clock


@pytest.fixture
async def own_world(clock: FakedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """The stores over that server, and a history of its jobs."""
    with ExitStack() as stack:
        with monkeypatch.context() as patch:
            for name, value in (clock.environment | {"FAKETIME_NO_CACHE": "1"}).items():
                patch.setenv(name, value)
            server = stack.enter_context(own_server(tmp_path / "data", release=NEWEST))
        pool = await asyncpg.create_pool(server.dsn, min_size=1, max_size=10)
        await Scheduler(pool).initialize_db()
        await pool.execute(INSTALL)
        yield World.over(pool)
        pool.terminate()


@needs("faketime")
async def test_a_database_clock_that_steps_ends_no_job_twice_and_repeats_no_tick(
    clock: FakedClock, own_world: World
) -> None:
    """Back by a minute, leases last longer; forward by two, everybody is taken for dead once."""
    pool = own_world.pool
    starts: list[tuple[str, int]] = []
    ticks: list[datetime] = []
    may_end = asyncio.Event()

    async def wait(name: str, ctx: JobContext) -> None:
        starts.append((name, ctx.attempt))
        await may_end.wait()

    async def tick(ctx: JobContext) -> None:
        ticks.append(ctx.scheduled_at)

    def new_worker() -> Scheduler:
        scheduler = Scheduler(pool, 15, lease_seconds=LEASE_SECONDS, shutdown_timeout=0.2)
        scheduler.register(wait)
        scheduler._registry.add(tick, "t")
        return scheduler

    async with new_worker() as sweeper, new_worker() as other:
        for worker in (sweeper, other):
            as_if_it_had_beaten_for_a_lease(worker)
        await own_world.schedules.upsert(every_second("a"))
        jobs = [
            await other.schedule(wait, execution_time=datetime.now(UTC), args=(f"job-{n}",), job_id=f"job-{n}")
            for n in range(20)
        ]
        await until(lambda: len(starts) == len(jobs) and ticks)

        for step in (-MINUTE, MINUTE):
            stepped_at = await pool.fetchval("SELECT now()")
            clock.put(step)
            assert sweeper._worker.engine is not None
            await sweeper._worker.engine.rescuer.run_once()  # the worst moment: nobody has beaten since
            await until(partial(all_have_beaten, pool, stepped_at, step))
            if step < timedelta():
                states = await states_of(own_world)
                assert {states[job_id] for job_id in jobs} == {("running", 1, 0)}
        stepped_at = await pool.fetchval("SELECT now()")
        await until(lambda: max(ticks) > stepped_at)
        may_end.set()
        await until(lambda: all_completed(pool, jobs))

    # All leases were over at one blow: one rescue, of whom had not beaten before it.
    assert set(starts) <= {(job_id, attempt) for job_id in jobs for attempt in (1, 2)}
    assert len(set(starts)) == len(starts)
    ends = await pool.fetch("SELECT job_id FROM status_history WHERE became = 'completed'")
    assert len({row["job_id"] for row in ends}) == len(ends)
    made = await pool.fetch("SELECT tick_at FROM scheduled_jobs WHERE schedule_id IS NOT NULL ORDER BY id")
    assert [row["tick_at"] for row in made] == sorted({row["tick_at"] for row in made})


async def all_have_beaten(pool: asyncpg.Pool[asyncpg.Record], stepped_at: datetime, step: timedelta) -> bool:
    """Whether both workers hold a lease that was given by the clock as it is now."""
    leases = await pool.fetch(
        "SELECT lease_until - make_interval(secs => $1) AS beaten_at FROM scheduler_workers WHERE state = 'alive'",
        LEASE_SECONDS,
    )
    late = stepped_at + step / 2
    return len(leases) == 2 and all((row["beaten_at"] > late) == (step > timedelta()) for row in leases)


async def all_completed(pool: asyncpg.Pool[asyncpg.Record], jobs: list[str]) -> bool:
    left = "SELECT count(*) FROM scheduled_jobs WHERE job_id = ANY($1) AND status <> 'completed'"
    return bool(await pool.fetchval(left, jobs) == 0)
