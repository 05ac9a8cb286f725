"""Workers that are killed: at each statement of a job's own transaction, and again and again over many jobs."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from engine.test_transactions import BOUNDARIES
from faults import fault_tasks
from faults.conftest import APP, id_of, submit
from pg_scheduler import JobSpec, Scheduler
from support.sizes import sized
from support.statement_proxy import StatementProxy
from support.two_histories import INSTALL, Histories, history_of
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.conftest import MakeScheduler
    from faults.conftest import Record
    from support.commands import Running
    from support.proxy import Wire
    from support.statement_proxy import Moment
    from support.world import World

KILLS: dict[str, tuple[str, Moment]] = {
    **{f"before {name}": (statement, "before") for name, statement in BOUNDARIES.items()},
    "after COMMIT": (BOUNDARIES["COMMIT"], "after"),
}
"""To a server whose client is gone, after one statement and before the next are the same moment."""
ALL_STARTED = "SELECT count(*) = $1 FROM scheduler_workers"

COUNT = sized(5, 50)
"""How many workers are killed (F1)."""
JOBS_EACH = sized(1000, 2000)
LEASE_SECONDS = 3
RECLAIM_SECONDS = 5.0
"""A lease, a sweep (a quarter of it) and a poll: with one healthy survivor."""


logger = logging.getLogger("chaos")


async def test_a_worker_killed_at_any_statement_of_a_transaction_leaves_exactly_one_effect(
    world: World, dsn: str, started: MakeScheduler, start_process: Callable[..., Running], record: Record
) -> None:
    """All at once, each victim with a queue of its own and a proxy before its pool; its engine connects directly."""
    await world.pool.execute("CREATE TABLE effects (what text)")
    async with AsyncExitStack() as stack:
        proxies = {name: await stack.enter_async_context(StatementProxy.to(dsn)) for name in KILLS}
        victims = {
            name: start_process(program=(str(APP), proxy.dsn, "2", name, dsn)) for name, proxy in proxies.items()
        }
        await until(lambda: world.pool.fetchval(ALL_STARTED, len(KILLS)))
        for name, (statement, moment) in KILLS.items():
            proxies[name].arm(statement, moment, killer(victims[name]))
            await submit(world, "charge", name, queue=name)
        for name, proxy in proxies.items():
            await asyncio.wait_for(proxy.struck.wait(), PATIENCE)
            assert victims[name].wait() == -9
    assert sorted(record.names("start")) == sorted(KILLS)

    survivor = await started(lease_seconds=2, queues=tuple(KILLS))
    survivor._registry.add(fault_tasks.charge, "fault_tasks:charge")

    async def outcomes() -> bool:
        rows = await world.pool.fetch("SELECT * FROM scheduled_jobs WHERE job_name = 'charge'")
        # Only a commit that took place needs no second attempt.
        assert {row["job_id"]: (row["status"], row["attempt"], row["interruptions"]) for row in rows} == {
            name: ("completed", 1, 0) if name == "after COMMIT" else ("completed", 2, 1) for name in KILLS
        }
        return True

    await until(outcomes)
    effects = await world.pool.fetch("SELECT what FROM effects")
    children = await world.pool.fetch(
        "SELECT task_data->'args'->>0 AS of FROM scheduled_jobs WHERE job_name = 'follow'"
    )
    assert sorted(row["what"] for row in effects) == sorted(KILLS)
    assert sorted(row["of"] for row in children) == sorted(KILLS)


def killer(victim: Running) -> Callable[[Wire], None]:
    """End the process, then its connection, as the kernel does."""

    def kill(wire: Wire) -> None:
        victim.process.kill()
        victim.process.wait()
        wire.cut()

    return kill


@pytest.mark.timeout(60 + 20 * COUNT)
async def test_workers_killed_again_and_again_lose_no_job_and_end_none_twice(
    world: World, start_process: Callable[..., Running], record: Record
) -> None:
    """Each victim dies with jobs in its hands, and in the middle of whatever it then does; one worker survives."""
    draw = random.Random(1)  # noqa: S311  a seed that a failure repeats
    await world.pool.execute(INSTALL)
    submitter = Scheduler(world.pool)
    acknowledged: list[str] = []
    killed_at: dict[str, float] = {}

    survivor, victim = (start_process("--lease", str(LEASE_SECONDS)) for _ in range(2))
    await id_of(survivor)
    for _ in range(COUNT):
        name = await id_of(victim)
        successor = start_process("--lease", str(LEASE_SECONDS))
        acknowledged += filter(None, await submitter.schedule_bulk(some_work(draw, len(acknowledged))))
        await until(partial(holds, world, name, draw.randint(1, 20)))
        victim.process.kill()
        killed_at[name] = time.time()
        victim = successor

    await until(partial(none_is_open, world))
    histories = Histories(acknowledged=acknowledged, changes=await history_of(world.pool), events=record.events())
    reclaims = histories.reclaims(killed_at)
    logger.info(
        "%d jobs, %d kills, %d claimed again, the slowest after %.2f s, broken: %s",
        len(acknowledged), COUNT, len(reclaims), max(reclaims, default=0), histories.broken(),
    )  # fmt: skip
    assert histories.broken() == {}
    assert max(reclaims) <= RECLAIM_SECONDS


def some_work(draw: random.Random, first: int) -> list[JobSpec]:
    """Jobs that take a moment, due at moments of the next two seconds: workers keep up, and claim ahead."""
    now = datetime.now(UTC)
    return [
        JobSpec(
            fault_tasks.work,
            now + timedelta(seconds=draw.uniform(0, 2)),
            args=(f"job-{n}", draw.uniform(0, 0.04)),
            job_id=f"job-{n}",
        )
        for n in range(first, first + JOBS_EACH)
    ]


async def holds(world: World, worker_id: str, count: int) -> bool:
    held = "SELECT count(*) >= $2 FROM scheduled_jobs WHERE status = 'running' AND worker_id = $1"
    return bool(await world.pool.fetchval(held, worker_id, count))


async def none_is_open(world: World) -> bool:
    left = await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE finished_at IS NULL")
    assert left == 0, f"{left} left"
    return True
