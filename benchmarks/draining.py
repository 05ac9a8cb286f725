"""How fast workers empty a table: shared by the scenarios that ask it.

Invariant: the time is the database's own, from the first claim's ``started_at`` to the last completion's
``finished_at``, columns that both sides write with their statements' ``now()``. The workers are up and idle when one
commit makes the jobs due, as in a service, so that neither side's start-up counts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from benchmarks import tasks
from benchmarks.bare import copy_in
from benchmarks.processes import workers
from pg_scheduler import ConflictResolution, JobSpec, Scheduler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from benchmarks.bench import Bench
    from benchmarks.child import Side
    from benchmarks.processes import Setting, WorkerProcess

T = TypeVar("T")

TOOK = {
    "ours": """
SELECT count(*), extract(epoch FROM max(finished_at) - coalesce($1, min(started_at)))::float8 AS seconds
FROM scheduled_jobs WHERE finished_at > $2 AND status = 'completed'
""",
    "bare": """
SELECT count(*), extract(epoch FROM max(finished_at) - coalesce($1, min(started_at)))::float8 AS seconds
FROM bare_jobs WHERE finished_at > $2 AND status = 'completed'
""",
}
POLL_SECONDS = 0.2
STALLED_SECONDS = 60


class TooLate(Exception):
    """The jobs were due before all of them were there: begin again with more time ahead."""


async def with_lead(measure: Callable[[float], Awaitable[T]], *, seconds: float) -> T:
    """Measure with so much time between submission and due time, twice as much while that is too little."""
    while True:
        try:
            return await measure(seconds)
        except TooLate:
            seconds *= 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What came of one drain."""

    jobs_per_second: float
    second_starts: int


async def drain(
    bench: Bench, side: Side, setting: Setting, jobs: int, *, processes: int = 1, due_in_seconds: float | None = None
) -> Drained:
    """Drain ``jobs`` no-op jobs, due now, or all in the same instant to come (the time then counts from there).

    Raises:
        TooLate: they were due before all of them were there.
    """
    async with bench.database() as dsn:
        return await drain_in(dsn, bench, side, setting, jobs, processes=processes, due_in_seconds=due_in_seconds)


async def drain_in(
    dsn: str,
    bench: Bench,
    side: Side,
    setting: Setting,
    jobs: int,
    *,
    processes: int = 1,
    due_in_seconds: float | None = None,
) -> Drained:
    """The same in a database that may hold other rows; none of them pending."""
    async with workers(processes, side, dsn, setting, bench=bench) as working:
        now = datetime.now(UTC)
        due_at = None if due_in_seconds is None else now + timedelta(seconds=due_in_seconds)
        await fill(side, dsn, [due_at] * jobs if due_at else list(past_instants(jobs)))
        if due_at and datetime.now(UTC) > due_at:
            raise TooLate
        return await all_ended(side, dsn, jobs, working, since=due_at, submitted_from=now)


async def all_ended(
    side: Side,
    dsn: str,
    jobs: int,
    working: Sequence[WorkerProcess],
    *,
    since: datetime | None,
    submitted_from: datetime,
) -> Drained:
    """Wait for the end of so many jobs, submitted since ``submitted_from``; timed from ``since`` or the first claim.

    Raises:
        RuntimeError: nothing has moved for a minute.
    """
    await all_ran(jobs, working)
    seconds = await all_completed(side, dsn, jobs, since=since, submitted_from=submitted_from)
    return Drained(jobs_per_second=jobs / seconds, second_starts=sum(worker.ran for worker in working) - jobs)


async def fill(side: Side, dsn: str, dues: Sequence[datetime], *, tenant: str = "") -> None:
    """Submit a no-op job for each due time, in one commit."""
    if side == "bare":
        connection = await asyncpg.connect(dsn)
        await copy_in(connection, dues)
        await connection.close()
        return
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        specs = [JobSpec(tasks.noop, due_at) for due_at in dues]
        await Scheduler(pool, misfire_grace_time=None, tenant=tenant).schedule_bulk(
            specs, conflict_resolution=ConflictResolution.RAISE, batch_size=10_000
        )


def past_instants(number: int) -> Iterator[datetime]:
    """So many, a minute ago."""
    first = datetime.now(UTC) - timedelta(minutes=1)
    for microseconds in range(number):
        yield first + timedelta(microseconds=microseconds)


async def all_ran(jobs: int, working: Sequence[WorkerProcess]) -> None:
    """Watched by what the workers say, since asking the table would take time from them.

    Raises:
        RuntimeError: nothing has moved for a minute.
    """
    loop = asyncio.get_running_loop()
    ran, moved_at = 0, loop.time()
    while ran < jobs:
        await asyncio.sleep(POLL_SECONDS / 2)
        now = sum(worker.ran for worker in working)
        if now != ran:
            ran, moved_at = now, loop.time()
        elif loop.time() - moved_at > STALLED_SECONDS:
            raise RuntimeError(f"{ran} of {jobs} jobs ran, and then none for {STALLED_SECONDS} s")


async def all_completed(side: Side, dsn: str, jobs: int, *, since: datetime | None, submitted_from: datetime) -> float:
    """Wait until so many jobs are completed; the seconds from ``since``, or from the first claim, to the last of them.

    Raises:
        RuntimeError: not within a minute.
    """
    deadline = asyncio.get_running_loop().time() + STALLED_SECONDS
    connection = await asyncpg.connect(dsn)
    try:
        while asyncio.get_running_loop().time() < deadline:
            row = await connection.fetchrow(TOOK[side], since, submitted_from)
            if row is not None and row["count"] == jobs:
                return float(row["seconds"])
            await asyncio.sleep(POLL_SECONDS)
    finally:
        await connection.close()
    raise RuntimeError(f"{jobs} jobs were not all completed within {STALLED_SECONDS} s")
