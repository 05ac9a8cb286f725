"""How fast workers empty a table: shared by the scenarios that ask it.

Invariant: the time is the database's own, from the first claim's ``started_at`` to the last completion's ``finished_at``,
columns that both sides write with their statements' ``now()``. The workers are up and idle when one commit makes the jobs
due, as in a service, so that neither side's start-up counts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from benchmarks import tasks
from benchmarks.bare import copy_in
from benchmarks.processes import workers
from pg_scheduler import ConflictResolution, JobSpec, Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.bench import Bench
    from benchmarks.child import Side
    from benchmarks.processes import Setting, WorkerProcess

TABLES = {"ours": "scheduled_jobs", "bare": "bare_jobs"}
POLL_SECONDS = 0.2
STALLED_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What came of one drain."""

    jobs_per_second: float
    second_starts: int


async def drain(
    bench: Bench, side: Side, setting: Setting, jobs: int, *, processes: int = 1, due_in_seconds: float | None = None
) -> Drained:
    """Drain ``jobs`` no-op jobs, due now, or all in the same instant to come (the time then counts from there)."""
    async with bench.database() as dsn, workers(processes, side, dsn, setting, loop=bench.loop) as working:
        due_at = due_in_seconds and datetime.now(UTC) + timedelta(seconds=due_in_seconds)
        await fill(side, dsn, [due_at] * jobs if due_at else list(_past_instants(jobs)))
        return await watched(side, dsn, jobs, working, since=due_at or None)


async def watched(
    side: Side, dsn: str, jobs: int, working: Sequence[WorkerProcess], *, since: datetime | None = None
) -> Drained:
    """Wait for the end of so many jobs.

    Raises:
        RuntimeError: nothing has moved for a minute.
    """
    await _all_ran(jobs, working)
    connection = await asyncpg.connect(dsn)
    try:
        seconds = await _seconds(connection, TABLES[side], jobs, since)
    finally:
        await connection.close()
    return Drained(jobs_per_second=jobs / seconds, second_starts=sum(worker.ran for worker in working) - jobs)


async def fill(side: Side, dsn: str, dues: Sequence[datetime]) -> None:
    """Submit a no-op job for each due time, in one commit."""
    if side == "bare":
        connection = await asyncpg.connect(dsn)
        await copy_in(connection, dues)
        await connection.close()
        return
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        specs = [JobSpec(tasks.noop, due_at) for due_at in dues]
        await Scheduler(pool, misfire_grace_time=None).schedule_bulk(
            specs, conflict_resolution=ConflictResolution.RAISE, batch_size=10_000
        )


def _past_instants(number: int) -> Iterator[datetime]:
    first = datetime.now(UTC) - timedelta(minutes=1)
    for microseconds in range(number):
        yield first + timedelta(microseconds=microseconds)


async def _all_ran(jobs: int, working: Sequence[WorkerProcess]) -> None:
    """Watched by what the workers say, since asking the table would take time from them."""
    loop = asyncio.get_running_loop()
    ran, moved_at = 0, loop.time()
    while ran < jobs:
        await asyncio.sleep(POLL_SECONDS / 2)
        now = sum(worker.ran for worker in working)
        if now != ran:
            ran, moved_at = now, loop.time()
        elif loop.time() - moved_at > STALLED_SECONDS:
            raise RuntimeError(f"{ran} of {jobs} jobs ran, and then none for {STALLED_SECONDS} s")


async def _seconds(
    connection: asyncpg.Connection[asyncpg.Record], table: str, jobs: int, since: datetime | None
) -> float:
    deadline = asyncio.get_running_loop().time() + STALLED_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        count, first, last = await connection.fetchrow(
            f"SELECT count(*), min(started_at), max(finished_at) FROM {table} WHERE status = 'completed'"  # noqa: S608
        ) or (0, None, None)
        if count == jobs:
            seconds: float = (last - (since or first)).total_seconds()
            return seconds
        await asyncio.sleep(POLL_SECONDS)
    raise RuntimeError(f"all jobs ran, but not all of them completed within {STALLED_SECONDS} s")
