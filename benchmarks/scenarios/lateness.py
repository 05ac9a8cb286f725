"""Milliseconds from a job's due time to its first line, at a steady rate of jobs that were submitted before.

Beside the bare loop, which sleeps until the next due time and claims, and a bare timer that has no database at all and
only sleeps until each due time: what the event loop itself is late by. Ours and the bare loop run in a process of their
own, the timer in this one, which is idle. "Due" is by the database's clock, to which the worker's is calibrated.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import asyncpg

from benchmarks import tasks
from benchmarks.bare import copy_in
from benchmarks.bench import Bench, Scenario
from benchmarks.draining import TooLate, all_completed, with_lead
from benchmarks.figures import Figure, Goal, alone, percentile_figure
from benchmarks.processes import DEFAULTS, LARGE, workers
from pg_scheduler import JobSpec, Scheduler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.child import Side

SECONDS = 5.0
LEAD_SECONDS = 2.0
RATES = (100, 1000)
P50_MS, P99_MS = (0.5, 1.5) if sys.platform == "linux" else (1.5, 3.0)
GOALS = {50: Goal(of="ours", at_most=P50_MS), 99: Goal(of="ours", at_most=P99_MS)}
LOOKS_AT_THE_CLOCK = 50


async def run(bench: Bench) -> list[Figure]:
    """Both rates."""
    return [figure for rate in RATES for figure in await _run_at(bench, rate)]


async def _run_at(bench: Bench, rate: int) -> list[Figure]:
    jobs = bench.scaled(rate * SECONDS)
    lead = max(0.5, LEAD_SECONDS * min(1.0, bench.scale))
    sides: dict[str, Callable[[], Awaitable[list[float]]]] = {
        "ours": lambda: with_lead(partial(_lateness_of, bench, "ours", rate, jobs), seconds=lead),
        "bare": lambda: with_lead(partial(_lateness_of, bench, "bare", rate, jobs), seconds=lead),
        "timer": lambda: _timer(rate, jobs),
    }
    late: dict[str, list[float]] = {side: [] for side in sides}
    for _ in bench.turns(f"lateness at {rate}/s"):
        for side, measure in sides.items():
            late[side] += await measure()
    ours = late["ours"]
    early = sum(value < 0 for value in ours)
    return [
        *(percentile_figure("lateness", f"{rate}/s", p, ours, late["bare"], goal) for p, goal in GOALS.items()),
        *(percentile_figure("lateness", f"{rate}/s, bare timer", p, ours, late["timer"]) for p in GOALS),
        alone("lateness", f"{rate}/s, early", "jobs", early, Goal(of="ours", at_most=0), samples=len(ours)),
    ]


async def _lateness_of(bench: Bench, side: Side, rate: int, jobs: int, lead_seconds: float) -> list[float]:
    async with bench.database() as dsn:
        setting = DEFAULTS if side == "ours" else LARGE  # the bare loop takes all that is due, or it could not keep up
        async with workers(1, side, dsn, setting, bench=bench, tell="end") as (worker,):
            ahead_seconds = await clock_ahead(dsn)
            now = datetime.now(UTC)
            dues = [now + timedelta(seconds=lead_seconds + number / rate) for number in range(jobs)]
            await submit(side, dsn, dues)
            if datetime.now(UTC) > dues[0]:
                raise TooLate
            await asyncio.sleep((dues[-1] - datetime.now(UTC)).total_seconds())
            await all_completed(side, dsn, jobs, since=None, submitted_from=now)
        return [(start_us - due_us) / 1000 + ahead_seconds * 1000 for due_us, start_us in worker.starts]


async def submit(side: Side, dsn: str, dues: Sequence[datetime], *, tenant: str = "") -> None:
    """A job for each due time, which notes when it begins."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        if side == "ours":
            specs = [JobSpec(tasks.stamp, due_at, args=(_microseconds(due_at),)) for due_at in dues]
            await Scheduler(pool, misfire_grace_time=None, tenant=tenant).schedule_bulk(specs, batch_size=10_000)
        else:
            connection = await asyncpg.connect(dsn)
            await copy_in(connection, dues, task="stamp")
            await connection.close()


async def clock_ahead(dsn: str) -> float:
    """Seconds by which the database's clock is ahead of this machine's; 0 where it can be the same clock."""
    connection = await asyncpg.connect(dsn)
    try:
        least, most = float("-inf"), float("inf")
        for _ in range(LOOKS_AT_THE_CLOCK):
            before = time.time()
            there = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            least, most = max(least, there - time.time()), min(most, there - before)
    finally:
        await connection.close()
    return 0.0 if least <= 0 <= most else (least + most) / 2


async def _timer(rate: int, jobs: int) -> list[float]:
    first = time.time() + 0.1
    late = []
    for number in range(jobs):
        due_at = first + number / rate
        while (wait := due_at - time.time()) > 0:  # noqa: ASYNC110 - the timer is what is measured
            await asyncio.sleep(wait)
        late.append((time.time() - due_at) * 1000)
    return late


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


SCENARIO = Scenario(name="lateness", about="due time to start, at 100 and 1,000 jobs a second", run=run)
