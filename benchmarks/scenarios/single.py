"""Jobs per second of one caller that schedules one after the other, beside an INSERT into the bare queue's table.

Both go through a pool, as callers do. When the job is due ours also rings the workers; the INSERT never does.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from benchmarks import tasks
from benchmarks.bare import INSERT
from benchmarks.bench import Bench, Scenario
from benchmarks.figures import Figure, Goal, compared
from pg_scheduler import Scheduler

if TYPE_CHECKING:
    from benchmarks.bench import Pool

JOBS = 1_500
WARM_UP = 50
GOALS = {"not due": Goal(at_least=0.85), "due": Goal(at_least=0.78)}


async def run(bench: Bench) -> list[Figure]:
    """Jobs of tomorrow, and jobs of now."""
    jobs = bench.scaled(JOBS)
    figures = []
    for case, goal in GOALS.items():
        ours, bare = [], []
        due_at = datetime.now(UTC) + timedelta(days=1 if case == "not due" else 0)
        for _ in bench.turns(f"single, {case}"):
            async with bench.pool() as pool:
                ours.append(jobs / await _schedule(pool, due_at, jobs))
            async with bench.pool() as pool:
                bare.append(jobs / await _insert(pool, due_at, jobs))
        figures.append(compared("single", f"{jobs:,} jobs, {case}", "jobs/s", ours, bare, goal))
    return figures


async def _schedule(pool: Pool, due_at: datetime, jobs: int) -> float:
    scheduler = Scheduler(pool)
    began = 0.0
    for number in range(WARM_UP + jobs):
        if number == WARM_UP:
            began = time.perf_counter()
        await scheduler.schedule(tasks.noop, execution_time=due_at)
    return time.perf_counter() - began


async def _insert(pool: Pool, due_at: datetime, jobs: int) -> float:
    began = 0.0
    for number in range(WARM_UP + jobs):
        if number == WARM_UP:
            began = time.perf_counter()
        await pool.execute(INSERT, "noop", "{}", due_at)
    return time.perf_counter() - began


SCENARIO = Scenario(name="single", about="schedule() one by one, not due and due", run=run)
