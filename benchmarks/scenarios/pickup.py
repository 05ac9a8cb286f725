"""Milliseconds from before ``schedule()`` of a job due now to its first line, on an idle worker.

Beside a bare LISTEN loop: INSERT and NOTIFY in one statement, a claim when it rings. Each job is sent after a pause of
random length once the one before has begun, so that neither side is met in a rhythm of its own. The worker is another
process, or the submitting process itself, where the library may ring its own worker without the server; the bare loop
is in the same place each time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

from benchmarks import tasks
from benchmarks.bare import INSERT_AND_NOTIFY
from benchmarks.bench import Bench, Scenario
from benchmarks.child import bare_worker, our_worker
from benchmarks.figures import Figure, Goal, percentile_figure
from benchmarks.processes import DEFAULTS, workers
from pg_scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.child import Side

JOBS_OF_A_PAIR = 120
"""At five pairs 600 on each side."""
PAUSE_SECONDS = (0.002, 0.02)
WARM_UP = 5
PATIENCE_SECONDS = 30

Submit = Callable[[], Awaitable[object]]
Begun = Callable[[], Awaitable[int]]


async def run(bench: Bench) -> list[Figure]:
    """Submitted elsewhere, and in the worker's own process."""
    jobs = bench.scaled(JOBS_OF_A_PAIR, least=10)
    figures: list[Figure] = []
    for case, goals in (
        ("from another process", {50: Goal(at_most=1.1), 99: Goal(at_most=1.4)}),
        ("in the same process", {50: Goal(at_most=0.95)}),
    ):
        ours: list[float] = []
        bare: list[float] = []
        place = _elsewhere if case == "from another process" else _here
        for _ in bench.turns(f"pickup, {case}"):
            ours += await _measured(place(bench, "ours"), jobs)
            bare += await _measured(place(bench, "bare"), jobs)
        figures += [percentile_figure("pickup", case, percent, ours, bare, goals.get(percent)) for percent in (50, 99)]
    return figures


async def _measured(place: AbstractAsyncContextManager[tuple[Submit, Begun]], jobs: int) -> list[float]:
    async with place as (submit, begun):
        took = []
        for _ in range(WARM_UP + jobs):
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311 - no secret
            sent_us = time.time_ns() // 1000
            await submit()
            took.append((await asyncio.wait_for(begun(), PATIENCE_SECONDS) - sent_us) / 1000)
        return took[WARM_UP:]


@asynccontextmanager
async def _elsewhere(bench: Bench, side: Side) -> AsyncIterator[tuple[Submit, Begun]]:
    async with (
        bench.database() as dsn,
        workers(1, side, dsn, DEFAULTS, bench=bench, tell="each") as (worker,),
        asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool,
    ):
        submit = _our_submit(Scheduler(pool)) if side == "ours" else _bare_submit(pool)

        async def begun() -> int:
            return (await worker.started.get())[1]

        yield submit, begun


@asynccontextmanager
async def _here(bench: Bench, side: Side) -> AsyncIterator[tuple[Submit, Begun]]:
    starts: asyncio.Queue[int] = asyncio.Queue()

    def hand_over() -> None:
        for _, start_us in tasks.TALLY.take_starts():
            starts.put_nowait(start_us)

    tasks.TALLY.on_start = hand_over
    try:
        async with bench.database() as dsn:
            if side == "ours":
                async with our_worker(dsn, slots=DEFAULTS.slots, batch=DEFAULTS.batch) as scheduler:
                    yield _our_submit(scheduler), starts.get
            else:
                async with bare_worker(dsn, batch=DEFAULTS.batch), asyncpg.create_pool(dsn, min_size=1) as pool:
                    yield _bare_submit(pool), starts.get
    finally:
        tasks.TALLY.on_start = None


def _our_submit(scheduler: Scheduler) -> Submit:
    return lambda: scheduler.schedule(tasks.stamp, execution_time=datetime.now(UTC), args=(0,))


def _bare_submit(pool: asyncpg.Pool[asyncpg.Record]) -> Submit:
    return lambda: pool.fetch(INSERT_AND_NOTIFY, "stamp", "{}", datetime.now(UTC))


SCENARIO = Scenario(name="pickup", about="a job due now on an idle worker, submitted elsewhere and there", run=run)
