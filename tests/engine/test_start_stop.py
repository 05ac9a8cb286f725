"""Every service, and the whole scheduler, started and stopped again and again at any moment of its work.

Invariant: each stop ends within seconds, and nothing is left: no task, no thread (``no_leaks``), no connection (the
database's end refuses one), no living worker, and every borrowed connection is back.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from pg_scheduler import Scheduler, VacuumConfig
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.lease import boot_seconds
from pg_scheduler._wiring.basis import wire_basis
from pg_scheduler._wiring.engine import wire_engine
from pg_scheduler._wiring.identity import new_worker_id, worker_card
from pg_scheduler.tasks import Registry
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import asyncpg

    from pg_scheduler._engine.lifecycle import Service, Services

pytestmark = pytest.mark.newest_postgres

ROUNDS, CYCLES = 5, 30
SCHEDULER_CYCLES = 5
"""Five schedulers at once, five times each: a cycle opens eight connections."""
STOP_SECONDS = 20
CONFIG = EngineConfig(shutdown_seconds=0.5, poll_seconds=3600)  # what ends within 20 s has waited for no poll
SERVICES = [
    "starts",
    "claim loop",
    "second claim",
    "own submissions",
    "ticker",
    "rescuer",
    "suspicion",
    "wakeups",
    "vacuumer",
    "completions",
]


async def a_task() -> None: ...


@asynccontextmanager
async def wired(pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[Services]:
    """The services of a worker that has a lease; nothing runs yet."""
    registry, retention = Registry(), VacuumConfig()
    registry.add(a_task)
    basis = wire_basis(pool, registry, CONFIG, retention, declared=dict, own_worker=lambda: None)
    parts = await wire_engine(
        basis,
        worker_card(CONFIG, schedules=[], environment={}),
        retention,
        new_worker_id=lambda: new_worker_id(8),
        on_stall=lambda error: pytest.fail(str(error)),
    )
    parts.lease.begin("w", boot_seconds())
    try:
        yield parts.lifecycle._services
    finally:
        await parts.close()


def runs_of(services: Services) -> dict[str, Service]:
    return {**services.taking, "completions": services.completions.run}


async def any_moment() -> None:
    """Up to 2 ms: within the first statements as well as between them."""
    await asyncio.sleep(random.choice([0, 0, random.random() * 0.002]))  # noqa: S311  to spread the moments


async def cycle(run: Service, wake: Callable[[], None]) -> None:
    stopping = asyncio.Event()
    running = asyncio.ensure_future(run(stopping))
    await any_moment()
    stopping.set()
    wake()
    await asyncio.wait_for(running, STOP_SECONDS)


async def test_every_service_of_a_worker_is_stopped_here(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async with wired(pool) as services:
        assert set(runs_of(services)) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_stops_at_any_moment(pool: asyncpg.Pool[asyncpg.Record], name: str) -> None:
    tasks_before = asyncio.all_tasks()
    for _ in range(ROUNDS):
        async with wired(pool) as services:
            for _ in range(CYCLES):
                await cycle(runs_of(services)[name], services.wake)
        await until(lambda: asyncio.all_tasks() == tasks_before, timeout=STOP_SECONDS, what=f"{name} has no task left")
    await require_all_given_back(pool)


async def test_a_heartbeat_ends_with_its_thread_at_any_moment(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    for _ in range(CYCLES):
        async with wired(pool) as services:
            await services.heartbeat.start()
            await any_moment()
            await asyncio.wait_for(services.heartbeat.stop(), STOP_SECONDS)
    await require_all_given_back(pool)


async def test_a_scheduler_stops_at_any_moment(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async def one() -> None:
        scheduler = Scheduler(pool, shutdown_timeout=0.5)
        scheduler.register(a_task)
        for _ in range(SCHEDULER_CYCLES):
            await scheduler.start()
            await any_moment()
            await asyncio.wait_for(scheduler.shutdown(), STOP_SECONDS)

    await asyncio.gather(*(one() for _ in range(ROUNDS)))

    await require_all_given_back(pool)


async def require_all_given_back(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    assert pool.get_idle_size() == pool.get_size()
    assert await pool.fetchval("SELECT count(*) FROM scheduler_workers WHERE state = 'alive'") == 0
    own = pool.get_size()
    await until(lambda: _connections(pool, own), timeout=STOP_SECONDS, what="only the pool's own connections are left")


async def _connections(pool: asyncpg.Pool[asyncpg.Record], expected: int) -> bool:
    seen = await pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    )
    return bool(seen <= expected)
