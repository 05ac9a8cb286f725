"""Whether one tenant makes another late: milliseconds from due time to first line, beside a backlog of somebody else.

The tenant that is measured has a worker and a steady rate. The other has 100,000 jobs that were due before, and either
no worker, like one whose own are all busy or down, or one that drains it meanwhile. That one takes its share of the
machine as well, which is no matter of the queue: its figures are there to be read.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal

from benchmarks.bench import Bench, Scenario
from benchmarks.draining import TooLate, all_ran, fill, past_instants, with_lead
from benchmarks.figures import Figure, Goal, percentile_figure
from benchmarks.processes import DEFAULTS, workers
from benchmarks.scenarios.lateness import clock_ahead, submit

if TYPE_CHECKING:
    from collections.abc import Mapping

Beside = Literal["nobody", "waiting", "drained"]

RATE = 100
SECONDS = 10.0
LEAD_SECONDS = 2.0
BACKLOG = 100_000
GOALS: Mapping[Beside, Goal | None] = {"waiting": Goal(at_most=2), "drained": None}


async def run(bench: Bench) -> list[Figure]:
    """Alone and beside each kind of backlog, in turn."""
    jobs, backlog = bench.scaled(RATE * SECONDS), bench.scaled(BACKLOG)
    lead = max(0.5, LEAD_SECONDS * min(1.0, bench.scale))
    late: dict[Beside, list[float]] = {"nobody": [], "waiting": [], "drained": []}
    for _ in bench.turns("tenants"):
        for beside in late:
            late[beside] += await with_lead(partial(_lateness, bench, jobs, backlog, beside), seconds=lead)
    return [
        percentile_figure("tenants", f"{backlog:,} of another {beside}", p, late[beside], late["nobody"], goal)
        for beside, goal in GOALS.items()
        for p in (50, 99)
    ]


async def _lateness(bench: Bench, jobs: int, backlog: int, beside: Beside, lead_seconds: float) -> list[float]:
    async with bench.database() as dsn, AsyncExitStack() as working:
        if beside != "nobody":
            await fill("ours", dsn, list(past_instants(backlog)), tenant="other")
        (worker,) = await working.enter_async_context(workers(1, "ours", dsn, DEFAULTS, bench=bench, tenant="measured"))
        ahead_seconds = await clock_ahead(dsn)
        first = datetime.now(UTC) + timedelta(seconds=lead_seconds)
        await submit("ours", dsn, [first + timedelta(seconds=n / RATE) for n in range(jobs)], tenant="measured")
        if beside == "drained":
            await working.enter_async_context(workers(1, "ours", dsn, DEFAULTS, bench=bench, tenant="other"))
        if datetime.now(UTC) > first:
            raise TooLate
        await asyncio.sleep(lead_seconds + jobs / RATE)
        await all_ran(jobs, [worker])
    return [(start_us - due_us) / 1000 + ahead_seconds * 1000 for due_us, start_us in worker.starts]


SCENARIO = Scenario(name="tenants", about="due time to start beside another tenant's backlog of 100,000", run=run)
