"""What a worker that has nothing to do asks of the server, with a million jobs in the future.

Transactions a second are the server's own count for the database; the time of a poll is the slowest mean of any
statement on the table of jobs, by ``pg_stat_statements``. That extension is why this scenario has a server of its own.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg

from benchmarks import tasks
from benchmarks.bare import COLUMNS
from benchmarks.bench import Bench, Scenario
from benchmarks.figures import Figure, Goal, alone, compared
from benchmarks.processes import DEFAULTS, workers
from pg_scheduler import JobSpec, Scheduler
from pg_scheduler.embedded import EmbeddedPostgres, find_binaries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.child import Side

    Connection = asyncpg.Connection[asyncpg.Record]

JOBS = 1_000_000
SETTLE_SECONDS = 12.0
"""The server publishes what a session has counted at most 10 s later: the start's share has to be out before."""
WINDOW_SECONDS = 60.0
TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1"
POLL = """
SELECT coalesce(max(mean_exec_time), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname = $1 AND query LIKE '%scheduled_jobs%' AND query NOT LIKE '%pg_stat_statements%'
"""


async def run(bench: Bench) -> list[Figure]:
    """On the release of this run, and on the oldest that is tested, where it is installed."""
    figures = await _run_on(bench, find_binaries())
    if oldest := _oldest_release():
        return figures + await _run_on(bench, oldest)
    bench.say("idle: not measured on PostgreSQL 15, which is not installed here")
    return figures


def _oldest_release() -> Path | None:
    given = os.environ.get("PGSCHEDULER_PG_BIN_15")
    folder = Path(given or "/usr/lib/postgresql/15/bin")
    return folder if (folder / "initdb").exists() else None


async def _run_on(bench: Bench, bin_dir: Path) -> list[Figure]:
    """One long look at each side: a rate of a few a minute has no use for pairs."""
    jobs = bench.scaled(JOBS)
    with EmbeddedPostgres(bin_dir=bin_dir, settings={"shared_preload_libraries": "pg_stat_statements"}) as server:
        own = replace(bench, dsn=server.dsn)
        async with own.database() as dsn, _admin(own) as admin:
            release = str(await admin.fetchval("SHOW server_version")).partition(" ")[0]
            bench.say(f"idle: submitting {jobs:,} jobs to PostgreSQL {release}")
            await _fill(dsn, jobs)
            ours, poll_ms = await _look(own, admin, "ours", dsn)
            bare, _ = await _look(own, admin, "bare", dsn)
    case = f"{jobs:,} future jobs on {release}"
    return [
        compared("idle", case, "transactions/s", [ours], [bare], Goal(of="ours", at_most=0.6)),
        alone("idle", f"{case}, slowest poll", "ms", poll_ms, Goal(of="ours", at_most=2)),
    ]


@asynccontextmanager
async def _admin(bench: Bench) -> AsyncIterator[Connection]:
    """A connection to another database, whose own transactions do not count."""
    connection = await asyncpg.connect(bench.dsn)
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        yield connection
    finally:
        await connection.close()


async def _fill(dsn: str, jobs: int) -> None:
    due_at = datetime.now(UTC) + timedelta(days=1)
    dues = [due_at + timedelta(milliseconds=number) for number in range(jobs)]
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        await Scheduler(pool).schedule_bulk((JobSpec(tasks.noop, due) for due in dues), batch_size=10_000)
        async with pool.acquire() as connection:
            await connection.copy_records_to_table(
                "bare_jobs", records=[("noop", "{}", due) for due in dues], columns=COLUMNS
            )
            await connection.execute("VACUUM ANALYZE scheduled_jobs")
            await connection.execute("VACUUM ANALYZE bare_jobs")


async def _look(bench: Bench, admin: Connection, side: Side, dsn: str) -> tuple[float, float]:
    """Transactions a second and the poll's milliseconds of a worker that rests."""
    database = urlsplit(dsn).path.removeprefix("/")
    window = max(2.0, WINDOW_SECONDS * bench.scale)
    bench.say(f"idle: {side}, for {window:.0f} s")
    async with workers(1, side, dsn, DEFAULTS, bench=bench):
        await asyncio.sleep(SETTLE_SECONDS * min(1.0, bench.scale))
        await admin.execute("SELECT pg_stat_statements_reset()")
        before = await admin.fetchval(TRANSACTIONS, database)
        await asyncio.sleep(window)
        after = await admin.fetchval(TRANSACTIONS, database)
        return (after - before) / window, await admin.fetchval(POLL, database)


SCENARIO = Scenario(name="idle", about="transactions of an idle worker, 1 M jobs in the future", run=run)
