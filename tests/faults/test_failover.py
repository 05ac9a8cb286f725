"""A primary lost, and its standby promoted in its place behind one address (design page 7, F12 and F13)."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, Scheduler
from pg_scheduler.errors import PgSchedulerError
from support.databases import NEWEST, bin_dir_of
from support.own_server import crash, own_server
from support.proxy import Proxy
from support.sizes import sized
from support.waiting import SLACK, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pg_scheduler.embedded import EmbeddedPostgres

ROUNDS = sized(2, 20)
IGNORE = ConflictResolution.IGNORE
REPLICATION = "local replication all trust"


async def standby_of(primary: EmbeddedPostgres, data: Path, stack: ExitStack) -> EmbeddedPostgres:
    """A server that follows the other."""
    options = parse_qs(urlsplit(primary.dsn).query)
    address = ["-h", options["host"][0], "-p", options["port"][0], "-U", "postgres"]
    command = [str(bin_dir_of(NEWEST) / "pg_basebackup"), *address, "-D", str(data), "-R", "-c", "fast", "--no-sync"]
    await asyncio.to_thread(subprocess.run, command, check=True)
    return stack.enter_context(own_server(data, release=NEWEST, hba=[REPLICATION]))


async def make_synchronous(primary: EmbeddedPostgres) -> None:
    """Let each commit wait for the standby."""
    connection = await asyncpg.connect(primary.dsn)
    await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await connection.execute("SELECT pg_reload_conf()")

    async def is_synchronous() -> bool:
        return bool(await connection.fetchval("SELECT bool_or(sync_state = 'sync') FROM pg_stat_replication"))

    await until(is_synchronous)
    await connection.close()


async def promote(standby: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(standby.dsn)
    await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
    await connection.execute("SELECT pg_reload_conf()")
    assert await connection.fetchval("SELECT pg_promote()")
    await connection.close()


def _has_more_than(numbers: list[int], count: int) -> bool:
    return len(numbers) > count


async def _is_refused(pool: asyncpg.Pool[asyncpg.Record]) -> bool:
    try:
        await pool.execute("DELETE FROM scheduled_jobs WHERE false")
    except asyncpg.ReadOnlySQLTransactionError:
        return True
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pass
    return False


@pytest.mark.timeout(60 + 30 * ROUNDS)
async def test_a_failover_to_a_synchronous_standby_loses_no_acknowledged_job(tmp_path: Path) -> None:
    ran: list[int] = []
    acknowledged: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    async def submit(scheduler: Scheduler, ended: asyncio.Event) -> None:
        number = len(acknowledged)
        while not ended.is_set():
            number += 1
            try:
                await scheduler.schedule(note, execution_time=datetime.now(UTC), args=(number,))
            except PgSchedulerError:
                await asyncio.sleep(0.01)  # what became of this one is unknown
            else:
                acknowledged.append(number)

    with ExitStack() as stack:
        primary = stack.enter_context(own_server(tmp_path / "0", release=NEWEST, hba=[REPLICATION]))
        async with (
            Proxy.to(primary.dsn) as proxy,
            asyncpg.create_pool(proxy.dsn, min_size=1, max_size=4) as pool,
            Scheduler(pool, dsn=proxy.dsn) as scheduler,
        ):
            name = scheduler.worker_id
            for n in range(1, ROUNDS + 1):
                standby = await standby_of(primary, tmp_path / str(n), stack)
                await make_synchronous(primary)
                ended = asyncio.Event()
                submitting = asyncio.create_task(submit(scheduler, ended))
                await until(partial(_has_more_than, acknowledged, len(acknowledged) + 50))

                await asyncio.to_thread(crash, primary)
                proxy.lead_to(standby.dsn)  # where nothing can be written yet
                await until(lambda: _is_refused(pool))
                await promote(standby)

                back_at = asyncio.get_running_loop().time()
                await until(partial(_has_more_than, acknowledged, len(acknowledged)))
                ended.set()
                await submitting
                await until(partial(ran.__contains__, acknowledged[-1]))
                assert asyncio.get_running_loop().time() - back_at < 3 * SLACK
                primary = standby
            await until(lambda: set(acknowledged) <= set(ran), what="all that was acknowledged runs")
            assert scheduler.worker_id == name


async def test_a_failover_to_a_standby_that_lags_loses_what_it_lacks_and_ends_the_rest_once(tmp_path: Path) -> None:
    starts: list[str] = []
    may_end, new_may_end = asyncio.Event(), asyncio.Event()

    async def wait(name: str) -> None:
        starts.append(name)
        await (new_may_end if name.startswith("new") else may_end).wait()

    async def submit(scheduler: Scheduler, prefix: str) -> list[str]:
        names = [f"{prefix}-{number}" for number in range(5)]
        for name in names:
            await scheduler.schedule(wait, execution_time=datetime.now(UTC), args=(name,), job_id=name)
        await until(lambda: set(names) <= set(starts))
        return names

    with ExitStack() as stack:
        primary = stack.enter_context(own_server(tmp_path / "0", release=NEWEST, hba=[REPLICATION]))
        async with (
            Proxy.to(primary.dsn) as proxy,
            asyncpg.create_pool(proxy.dsn, min_size=1, max_size=4) as pool,
            Scheduler(pool, dsn=proxy.dsn, shutdown_timeout=0.2) as scheduler,
        ):
            standby = await standby_of(primary, tmp_path / "1", stack)
            kept = await submit(scheduler, "kept")
            await until(partial(_runs_at, standby, len(kept)))
            await _cut_off(standby)
            lost = await submit(scheduler, "lost")
            name = scheduler.worker_id

            await asyncio.to_thread(crash, primary)
            proxy.lead_to(standby.dsn)
            await promote(standby)
            await until(lambda: _can_submit(scheduler))
            new = await submit(scheduler, "new")
            may_end.set()
            await until(lambda: scheduler.active_jobs == set(new))

            async def ended() -> dict[str, tuple[str, int]]:
                rows = await pool.fetch("SELECT job_id, status, attempt FROM scheduled_jobs WHERE job_id <> 'probe'")
                return {row["job_id"]: (row["status"], row["attempt"]) for row in rows}

            expected = dict.fromkeys(kept, ("completed", 1)) | dict.fromkeys(new, ("running", 1))
            await until(partial(_equals, ended, expected))
            new_may_end.set()
            await until(partial(_equals, ended, dict.fromkeys(kept + new, ("completed", 1))))
            assert sorted(starts) == sorted([*kept, *lost, *new])
            assert scheduler.worker_id == name


async def _runs_at(standby: EmbeddedPostgres, count: int) -> bool:
    connection = await asyncpg.connect(standby.dsn)
    running = await connection.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'running'")
    await connection.close()
    return bool(running == count)


async def _cut_off(standby: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(standby.dsn)
    await connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
    await connection.execute("SELECT pg_reload_conf()")

    async def receives_nothing() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM pg_stat_wal_receiver")

    await until(receives_nothing)
    await connection.close()


async def _can_submit(scheduler: Scheduler) -> bool:
    try:
        await scheduler.schedule_job("of nobody", datetime.now(UTC), {}, job_id="probe", conflict_resolution=IGNORE)
    except PgSchedulerError:
        return False
    return True


async def _equals(read: Callable[[], Awaitable[object]], expected: object) -> bool:
    assert await read() == expected
    return True
