"""A server that restarts, is full, is crowded or impatient: one of the test's own."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pg_scheduler import Scheduler
from pg_scheduler.errors import DatabaseBusy, StorageFull
from support.needs import needs
from support.own_server import crash, own_server
from support.waiting import SLACK, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pg_scheduler._store.driver import Pool
    from support.world import World


def now() -> datetime:
    return datetime.now(UTC)


async def _completed(pool: Pool, count: int) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'completed'") == count)


async def test_claims_go_on_two_seconds_after_a_server_that_crashed_accepts_again(pg: int, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    ran: list[int] = []

    async def note(n: int) -> None:
        ran.append(n)

    with own_server(tmp_path / "data", release=pg) as server:
        async with asyncpg.create_pool(server.dsn, min_size=0) as pool, Scheduler(pool, lease_seconds=6) as worker:
            worker.register(note)
            for n in range(5):
                await asyncio.to_thread(crash, server)
                await asyncio.to_thread(server.start)
                accepted_at = loop.time()
                async with asyncpg.create_pool(server.dsn, min_size=1) as elsewhere:
                    await Scheduler(elsewhere).schedule(note, execution_time=now(), args=(n,))
                await until(partial(ran.__contains__, n))
                assert loop.time() - accepted_at < 2 * SLACK
            await until(lambda: _completed(pool, 5))
    assert ran == [0, 1, 2, 3, 4]


async def test_statements_that_wait_for_a_lock_too_long_are_repeated(dsn: str, world: World, pool: Pool) -> None:
    ran: list[int] = []

    async def note(n: int) -> None:
        ran.append(n)

    await pool.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 400', current_database()); END $$"
    )
    async with asyncpg.create_pool(dsn, min_size=1) as hurried:
        scheduler = Scheduler(hurried, lease_seconds=6)
        async with scheduler:
            locker = await asyncpg.connect(dsn)
            for n in range(2):
                async with locker.transaction():
                    await locker.execute("LOCK TABLE scheduled_jobs IN SHARE MODE")
                    submission = asyncio.create_task(scheduler.schedule(note, execution_time=now(), args=(n,)))
                    first = await until(partial(_waiting_since, world))
                    assert first is not None
                    await until(partial(_waits_again, world, first))  # the first try was undone
                await submission
            await until(lambda: _completed(world.pool, 2))

            async with locker.transaction():
                await locker.execute("LOCK TABLE scheduled_jobs IN SHARE MODE")
                with pytest.raises(DatabaseBusy, match="took too long; nothing was written") as caught:
                    await scheduler.schedule(note, execution_time=now(), args=(9,))
            await locker.close()

    assert caught.value.sqlstate == "57014"
    assert sorted(ran) == [0, 1]
    rows = await world.pool.fetch("SELECT attempt, interruptions FROM scheduled_jobs")
    assert {tuple(row) for row in rows} == {(1, 0)}


async def _waiting_since(world: World) -> datetime | None:
    waits = (
        "SELECT query_start FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query LIKE '%INSERT INTO scheduled_jobs%'"
    )
    since: datetime | None = await world.pool.fetchval(waits)
    return since


async def _waits_again(world: World, first: datetime) -> bool:
    return (await _waiting_since(world) or first) > first


async def test_a_server_without_a_free_connection_costs_patience_and_no_worker(
    pg: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []

    async def note(n: int) -> None:
        ran.append(n)

    with own_server(tmp_path / "data", release=pg) as server:
        async with asyncpg.create_pool(server.dsn, min_size=1) as pool:
            await Scheduler(pool).initialize_db()
            await pool.execute(
                "CREATE ROLE app LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO app;"
                " GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app"
            )
            by_app = server.dsn.replace("postgres@", "app@")
            async with Scheduler(pool, lease_seconds=6, dsn=by_app, direct_dsn=server.dsn) as scheduler:
                await scheduler.schedule(note, execution_time=now(), args=(1,))
                await until(lambda: _completed(pool, 1))
                await pool.execute("ALTER ROLE app CONNECTION LIMIT 0")
                await pool.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
                # by somebody else: a submission of the worker's own process needs none of its connections
                await Scheduler(pool).schedule(note, execution_time=now(), args=(2,))
                await until(lambda: _tells_of_the_crowd(caplog))
                assert ran == [1]
                await pool.execute("ALTER ROLE app CONNECTION LIMIT -1")

                await until(lambda: _completed(pool, 2))
    assert ran == [1, 2]
    assert len(caplog.records) < 30  # one line a service, and one a second of the heartbeat


def _tells_of_the_crowd(caplog: pytest.LogCaptureFixture) -> bool:
    return any("heartbeat" in line and "no connection left" in line for line in caplog.text.splitlines())


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "--lazy", folder], check=True)


@needs("small-disk")
async def test_a_full_disk_is_told_by_type_and_work_goes_on_once_there_is_space(pg: int, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    ran: list[int] = []

    async def note(n: int) -> None:
        ran.append(n)

    small = {"wal_level": "minimal", "max_wal_senders": "0", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    with (
        small_disk(tmp_path / "disk", 120) as disk,
        own_server(disk / "data", release=pg, **small, shared_buffers="8MB") as server,
    ):
        async with (
            asyncpg.create_pool(server.dsn, min_size=1) as pool,
            Scheduler(pool, lease_seconds=3) as scheduler,
        ):
            await scheduler.schedule(note, execution_time=now(), args=(1,))
            await until(lambda: _completed(pool, 1))
            ballast = disk / "ballast"
            _fill_disk(ballast)
            with pytest.raises(StorageFull) as caught:
                await _schedule_without_end(scheduler, note)
            beats = await pool.fetchval("SELECT max(lease_until) FROM scheduler_workers")
            later = "SELECT max(lease_until) > $1 FROM scheduler_workers"
            await until(lambda: pool.fetchval(later, beats))
            ballast.unlink()
            freed_at = loop.time()
            await until(lambda: _accepted(scheduler, note))
            await until(lambda: -1 in ran)
            assert loop.time() - freed_at < 10 * SLACK

    assert (caught.value.code, caught.value.sqlstate) == ("PGS-021", "53100")
    assert "nothing was written" in caught.value.what


async def _schedule_without_end(scheduler: Scheduler, task: object) -> None:
    while True:
        await scheduler.schedule(
            task,  # type: ignore[arg-type]  # the task of the test
            execution_time=now() + timedelta(days=1),
            args=("x" * 5000,),
        )


async def _accepted(scheduler: Scheduler, task: object) -> bool:
    with suppress(StorageFull):
        await scheduler.schedule(task, execution_time=now(), args=(-1,))  # type: ignore[arg-type]
        return True
    return False


def _fill_disk(ballast: Path) -> None:
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
