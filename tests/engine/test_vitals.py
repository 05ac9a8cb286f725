"""What a worker says of itself, from its start until after its end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pg_scheduler import Scheduler
from support.waiting import until

if TYPE_CHECKING:
    import asyncpg

    from pg_scheduler._engine.vitals import Vitals

pytestmark = pytest.mark.newest_postgres


async def waits() -> None:
    await asyncio.Event().wait()


def seen(scheduler: Scheduler) -> Vitals:
    vitals = scheduler.vitals()
    assert vitals is not None
    return vitals


async def test_worker_that_was_never_started_has_no_vitals(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    assert Scheduler(pool).vitals() is None


async def test_vitals_of_a_running_worker_are_its_own(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async with Scheduler(pool, tenant="shop", lease_seconds=30, max_concurrent_jobs=3, shutdown_timeout=0) as scheduler:
        await scheduler.schedule(waits, execution_time=datetime.now(UTC))
        await until(lambda: seen(scheduler).started)

        vitals = seen(scheduler)
        assert (vitals.tenant, vitals.slots, vitals.running, vitals.started) == ("shop", 3, 1, 1)
        assert (vitals.dead_part, vitals.is_stopping) == (None, False)
        assert 0 < vitals.lease_seconds <= 30
        assert set(vitals.ended.values()) == {0}


async def test_worker_says_that_it_stops_and_afterwards_what_it_has_handed_back(
    pool: asyncpg.Pool[asyncpg.Record],
) -> None:
    async with Scheduler(pool, shutdown_timeout=0.2) as scheduler:
        await scheduler.schedule(waits, execution_time=datetime.now(UTC))
        await until(lambda: seen(scheduler).started)
        assert not seen(scheduler).is_stopping

        stopping = asyncio.create_task(scheduler.shutdown())
        await until(lambda: seen(scheduler).is_stopping)
        assert seen(scheduler).running == 1
        await stopping

    assert seen(scheduler).dead_part is None
    assert seen(scheduler).running == 0
    assert {word: count for word, count in seen(scheduler).ended.items() if count} == {"handed_back": 1}


async def test_heartbeat_that_ends_by_itself_is_a_dead_part(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async with Scheduler(pool) as scheduler:
        assert scheduler._worker.engine is not None
        heartbeat = scheduler._worker.engine.heartbeat

        heartbeat._in_thread(heartbeat._stop)  # an end without an error, which the lifecycle is not told of

        await until(lambda: seen(scheduler).dead_part == "pg_scheduler heartbeat")


async def test_worker_names_the_part_that_died_first(
    pool: asyncpg.Pool[asyncpg.Record], caplog: pytest.LogCaptureFixture
) -> None:
    async with Scheduler(pool, shutdown_timeout=0) as scheduler:
        await pool.execute("DROP TABLE scheduler_schedules CASCADE; NOTIFY scheduler_schedules")

        dead_part = await until(lambda: seen(scheduler).dead_part)

        (told, *_) = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
        assert told == f"{dead_part} died; this worker stops"
        assert seen(scheduler).is_stopping
