"""An engine whose every connection goes through PgBouncer in transaction mode, but for those that may not."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, JobSpec, PollingConfig, Scheduler, VacuumConfig, VacuumPolicy
from pg_scheduler import scheduler as scheduler_module
from pg_scheduler._store.connections import open_pool
from pg_scheduler._store.database import Database
from pg_scheduler._store.keepalive import keep_alive
from pg_scheduler._store.kept import KeptConnection
from pg_scheduler.errors import DatabaseNotReady
from pg_scheduler.periodic import PeriodicJobConfig, PeriodicRegistry
from support.databases import EMPTY
from support.needs import needs
from support.pgbouncer import pgbouncer
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pg_scheduler._store.driver import Pool

pytestmark = needs("pgbouncer")

QUICK = PollingConfig(idle_start_interval=0.1, max_interval=0.2)


def now() -> datetime:
    return datetime.now(UTC)


async def nothing() -> None: ...


@pytest.fixture
async def pooled_dsn(dsn: str, tmp_path: Path, pg: int) -> AsyncIterator[str]:
    """This test's database through a pooler."""
    async with pgbouncer(dsn, tmp_path, release=pg) as pooled:
        yield pooled


@asynccontextmanager
async def pool_through(dsn: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=5, statement_cache_size=0) as pool:
        yield pool


async def _statuses(pool: Pool) -> dict[str, int]:
    rows = await pool.fetch("SELECT status, count(*) AS n FROM scheduled_jobs GROUP BY status")
    return {row["status"]: row["n"] for row in rows}


async def test_submission_claim_completion_and_shutdown_work_through_a_pooler(
    pooled_dsn: str, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []

    async def note(n: int) -> None:
        ran.append(n)
        await asyncio.sleep(0)

    async with pool_through(pooled_dsn) as pooled:
        with caplog.at_level(logging.WARNING):
            async with Scheduler(pooled, polling_config=QUICK, shutdown_timeout=1) as scheduler:
                for n in range(10):
                    await scheduler.schedule(note, execution_time=now(), args=(n,))
                for conflict in ConflictResolution:
                    specs = [JobSpec(note, now(), (n,), job_id=f"{conflict.value}-{n}") for n in range(150)]
                    await scheduler.schedule_bulk(specs, conflict_resolution=conflict)
                await until(lambda: len(ran) == 460)
                await until(lambda: _all_completed(pool, 460))
                assert await scheduler.cancel_job("nosuch") is False
        warned = [record.message for record in caplog.records if record.name.startswith("pg_scheduler")]

    assert len(warned) == 1
    assert "direct_dsn" in warned[0]
    assert await pool.fetchval("SELECT count(*) FROM scheduler_workers WHERE state = 'alive'") == 0


async def _all_completed(pool: Pool, count: int) -> bool:
    return await _statuses(pool) == {"completed": count}


async def test_a_job_of_another_process_is_found_at_the_pace_of_the_polling_config(pooled_dsn: str, pool: Pool) -> None:
    ran: asyncio.Queue[float] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def note() -> None:
        ran.put_nowait(loop.time())

    async with pool_through(pooled_dsn) as pooled:
        worker = Scheduler(pooled, polling_config=QUICK)
        worker.register(note)
        async with worker:
            for _ in range(3):
                submitted_at = loop.time()
                await Scheduler(pool).schedule(note, execution_time=now())
                assert await asyncio.wait_for(ran.get(), PATIENCE) - submitted_at < 4  # the slow poll is 5 s


async def test_with_a_direct_address_a_worker_behind_a_pooler_is_woken(
    dsn: str, pooled_dsn: str, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    ran = asyncio.Event()

    async def note() -> None:
        ran.set()

    slow = PollingConfig(min_interval=60, max_interval=60, idle_start_interval=60)
    async with pool_through(pooled_dsn) as pooled:
        worker = Scheduler(pooled, polling_config=slow, direct_dsn=dsn)
        worker.register(note)
        with caplog.at_level(logging.WARNING):
            async with worker:
                await Scheduler(pool).schedule(note, execution_time=now())
                await asyncio.wait_for(ran.wait(), PATIENCE)
    assert [record for record in caplog.records if record.name.startswith("pg_scheduler")] == []


async def test_migrations_go_by_the_direct_address(new_database: Callable[..., str], pg: int, tmp_path: Path) -> None:
    direct = new_database(template=EMPTY)
    async with pgbouncer(direct, tmp_path, release=pg) as by_pooler, pool_through(by_pooler) as pooled:
        with pytest.raises(DatabaseNotReady, match="no such database"):
            await Scheduler(pooled, direct_dsn=direct.replace("/test_", "/nosuch_")).initialize_db()
        await Scheduler(pooled, direct_dsn=direct).initialize_db()
        assert await pooled.fetchval("SELECT to_regclass('scheduled_jobs') IS NOT NULL")


async def test_a_database_is_migrated_through_a_pooler_as_well(
    new_database: Callable[..., str], pg: int, tmp_path: Path
) -> None:
    direct = new_database(template=EMPTY)
    async with pgbouncer(direct, tmp_path, release=pg) as by_pooler, pool_through(by_pooler) as pooled:
        await asyncio.gather(*(Scheduler(pooled).initialize_db() for _ in range(3)))
        assert await pooled.fetchval("SELECT count(*) > 0 FROM scheduler_migrations")
        assert await pooled.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_periodic_jobs_retention_and_two_workers_share_a_pooler(
    pooled_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = PeriodicRegistry()
    monkeypatch.setattr(scheduler_module, "periodic_registry", registry)
    ran: list[Any] = []

    async def tick() -> None:
        ran.append("tick")

    async def note(n: int) -> None:
        ran.append(n)

    registry.add(PeriodicJobConfig(tick, interval=timedelta(seconds=1)))
    retention = VacuumConfig(completed=VacuumPolicy.immediate())
    async with pool_through(pooled_dsn) as pooled:
        schedulers = [Scheduler(pooled, polling_config=QUICK, vacuum_config=retention) for _ in range(2)]
        for scheduler in schedulers:
            scheduler.register(note)
            await scheduler.start()
        for n in range(100):
            await schedulers[n % 2].schedule(note, execution_time=now(), args=(n,))
        await until(lambda: ran.count("tick") >= 2 and len(ran) - ran.count("tick") == 100)
        assert sorted(n for n in ran if n != "tick") == list(range(100))
        await asyncio.gather(*(scheduler.shutdown() for scheduler in schedulers))
        assert (await schedulers[0].run_vacuum())["completed"] > 0


async def test_a_job_that_does_not_end_is_handed_back_through_a_pooler(pooled_dsn: str, pool: Pool) -> None:
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with pool_through(pooled_dsn) as pooled:
        scheduler = Scheduler(pooled, polling_config=QUICK, shutdown_timeout=0.1)
        await scheduler.start()
        await scheduler.schedule(wait, execution_time=now(), job_id="long")
        await asyncio.wait_for(begun.wait(), PATIENCE)
        await scheduler.shutdown()

    row = await pool.fetchrow("SELECT status, attempt FROM scheduled_jobs WHERE job_id = 'long'")
    assert row is not None
    assert tuple(row) == ("pending", 0)


async def test_a_pooler_is_told_from_the_server_itself_and_its_sessions_get_no_keepalives(
    dsn: str, pooled_dsn: str
) -> None:
    told: list[bool] = []
    for way in (dsn, pooled_dsn):
        connection = await asyncpg.connect(way, statement_cache_size=0)
        told.append(await keep_alive(connection))
        await connection.close()
    assert told == [True, False]


async def test_a_kept_connection_plans_its_own_way_and_leaves_nothing_of_it_in_a_poolers_sessions(
    dsn: str, pooled_dsn: str
) -> None:
    scans: list[str] = []
    for way in (dsn, pooled_dsn):
        kept = KeptConnection(partial(asyncpg.connect, way, statement_cache_size=0), place="")
        scans.append(await kept.fetchval("SHOW enable_seqscan"))
        await kept.close()
    assert scans == ["off", "on"]


async def test_the_engines_own_connections_cache_nothing_that_a_pooler_would_lose(
    dsn: str, pooled_dsn: str, pool: Pool
) -> None:
    by_default = await open_pool(pooled_dsn, size=4, eager=True)
    direct = await open_pool(dsn, size=1, eager=True)
    async with Scheduler(pool, dsn=pooled_dsn, polling_config=QUICK) as scheduler:
        for _ in range(20):
            await scheduler.schedule(nothing, execution_time=now())
            await Scheduler(by_default).schedule(nothing, execution_time=now())
        await until(lambda: _all_completed(pool, 40))

    async with direct.acquire() as connection:
        for _ in range(2):
            await connection.fetchval("SELECT 'cached'")
        assert await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%cached%'")
    await by_default.close()
    await direct.close()


async def test_a_pool_that_caches_statements_behind_a_pooler_is_told_what_to_change(pooled_dsn: str) -> None:
    async with asyncpg.create_pool(pooled_dsn, min_size=4, max_size=4) as careless:
        database = Database(careless, place="here")

        async def use() -> None:
            for n in range(20):
                await database.fetchval(f"SELECT {n % 3}, pg_sleep(0.001)")

        with pytest.raises(DatabaseNotReady, match="statement_cache_size=0"):
            await asyncio.gather(*(use() for _ in range(4)))
