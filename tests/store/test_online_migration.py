"""A database is migrated while workers of the released wheel run jobs in it (design page 7, F23)."""

from __future__ import annotations

import asyncio
import sys
import time
import zipfile
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pg_scheduler._store import migrator
from pg_scheduler._store.migration_files import migrations
from support.databases import EMPTY
from support.paths import ROOT
from support.waiting import PATIENCE, SLACK, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RELEASES = (ROOT / "tests" / "fixtures" / "releases").glob("*/*.whl")
LOCKED_SECONDS_MAX = 2.0

WORKER = """
import asyncio, sys
from datetime import UTC, datetime
import asyncpg
from pg_scheduler import Scheduler

runs = []

async def note(n):
    runs.append(n)

async def stop_asked():
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

async def main(dsn):
    async with asyncpg.create_pool(dsn, min_size=1) as pool, Scheduler(pool) as scheduler:
        stopping, n = asyncio.create_task(stop_asked()), 0
        while not stopping.done():
            await scheduler.schedule(note, execution_time=datetime.now(UTC), args=(n,))
            n += 1
            if n == 50:
                print("up", flush=True)
            await asyncio.sleep(0.002)
        async with asyncio.timeout(60):
            open_jobs = "SELECT 1 FROM scheduled_jobs WHERE status <> 'completed' LIMIT 1"
            while len(runs) < n or await pool.fetchval(open_jobs):
                await asyncio.sleep(0.05)
        assert sorted(runs) == list(range(n)), "each once"
    print("all of them ran once")

asyncio.run(main(sys.argv[1]))
"""


class LockWatch:
    """How long, at most, one transaction held or waited for a lock on ``scheduled_jobs`` that keeps everybody out."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._since: dict[str, float] = {}
        self.longest = 0.0
        self.turns: set[str] = set()

    async def run(self) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            while True:
                await self._look(connection)
                await asyncio.sleep(0.01)
        finally:
            await connection.close()

    async def _look(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        rows = await connection.fetch(
            "SELECT virtualtransaction FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " WHERE c.relname = 'scheduled_jobs' AND l.mode = 'AccessExclusiveLock'"
        )
        now = time.monotonic()
        self._since = {row[0]: self._since.get(row[0], now) for row in rows}
        self.turns |= self._since.keys()
        self.longest = max([self.longest, *(now - since for since in self._since.values())])


def _has_something_to_migrate(wheel: Path) -> bool:
    """Whether the release has fewer migrations than the tree."""
    with zipfile.ZipFile(wheel) as archive:
        released = [name for name in archive.namelist() if fnmatch(name, "pg_scheduler/_store/migrations/*.sql")]
    return len(released) < len(migrations())


@pytest.mark.parametrize(
    "wheel", sorted(filter(_has_something_to_migrate, RELEASES)), ids=lambda wheel: wheel.parent.name
)
async def test_migrating_under_the_released_worker_loses_no_job_and_locks_nobody_out(
    wheel: Path, new_database: Callable[..., str], tmp_path: Path
) -> None:
    dsn = new_database(template=EMPTY)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "released")
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, dsn,
        env={"PYTHONPATH": str(tmp_path / "released")},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert worker.stdout is not None
    assert await asyncio.wait_for(worker.stdout.readline(), PATIENCE) == b"up\n"
    watch = LockWatch(dsn)
    watching = asyncio.create_task(watch.run())

    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        # As long as this reader stays, the migration waits for its lock, and everybody behind it.
        async with pool.acquire() as reader:
            async with reader.transaction():
                await reader.execute("SELECT FROM scheduled_jobs LIMIT 1")
                migrating = asyncio.create_task(migrator.migrate_place_of(pool))
                await until(lambda: len(watch.turns) > 1, what="it gives up its place and tries again")
            applied = await migrating
        assert applied
        done = await pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'completed'")
        more = "SELECT count(*) > $1 FROM scheduled_jobs WHERE status = 'completed'"
        await until(lambda: pool.fetchval(more, done), what="the released worker goes on")

    out, err = await asyncio.wait_for(worker.communicate(b""), PATIENCE)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)

    assert out.decode() == "all of them ran once\n", err.decode()
    assert watch.longest <= LOCKED_SECONDS_MAX + 0.5 * SLACK  # for the machine to look
