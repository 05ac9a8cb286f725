"""Rows per second of ``schedule_bulk``, by its default batch size, beside one COPY into the bare queue's table.

The bare table has its primary key and its due index, as a queue must. Jobs lie an hour ahead, and their descriptions
are made before the clock starts, as the bare rows are.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from benchmarks import tasks
from benchmarks.bare import COLUMNS
from benchmarks.bench import Bench, Scenario
from benchmarks.figures import Figure, Goal, compared
from pg_scheduler import ConflictResolution, JobSpec, Scheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.bench import Pool

JOBS = 100_000
GOALS = {
    "IGNORE": Goal(at_least=0.42),
    "RAISE": Goal(at_least=0.50),
    "REPLACE, new ids": Goal(at_least=0.42),
    "REPLACE, existing ids": Goal(at_least=0.18),
}


async def run(bench: Bench) -> list[Figure]:
    """Every way to resolve a conflict."""
    jobs = bench.scaled(JOBS)
    bare: list[float] = []
    ours: dict[str, list[float]] = {case: [] for case in GOALS}
    for _ in bench.turns("bulk"):
        for case in GOALS:
            async with bench.pool() as pool:
                ours[case].append(jobs / await _schedule(pool, case, jobs))
        async with bench.pool() as pool:
            bare.append(jobs / await _copy(pool, jobs))
    return [
        compared("bulk", f"{jobs:,} jobs, {case}", "rows/s", ours[case], bare, goal) for case, goal in GOALS.items()
    ]


async def _schedule(pool: Pool, case: str, jobs: int) -> float:
    scheduler = Scheduler(pool)
    resolution = ConflictResolution[case.partition(",")[0]]
    due_at = datetime.now(UTC) + timedelta(hours=1)
    named = resolution is ConflictResolution.REPLACE
    specs = [JobSpec(tasks.noop, due_at, job_id=f"job-{number}" if named else None) for number in range(jobs)]
    if case.endswith("existing ids"):
        await scheduler.schedule_bulk(specs, conflict_resolution=ConflictResolution.RAISE)
    return await _timed_bulk(scheduler, specs, resolution)


async def _timed_bulk(scheduler: Scheduler, specs: Sequence[JobSpec], resolution: ConflictResolution) -> float:
    began = time.perf_counter()
    written = await scheduler.schedule_bulk(specs, conflict_resolution=resolution)
    took = time.perf_counter() - began
    if None in written:
        raise RuntimeError("schedule_bulk left jobs out")
    return took


async def _copy(pool: Pool, jobs: int) -> float:
    due_at = datetime.now(UTC) + timedelta(hours=1)
    rows = [("noop", "{}", due_at)] * jobs
    async with pool.acquire() as connection:
        began = time.perf_counter()
        await connection.copy_records_to_table("bare_jobs", records=rows, columns=COLUMNS)
        return time.perf_counter() - began


SCENARIO = Scenario(name="bulk", about="schedule_bulk of 100,000 jobs in every way", run=run)
