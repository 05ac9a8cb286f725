"""100,000 jobs due in the same instant before four waiting workers, against as many drained by them steadily."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.bench import Bench, Scenario
from benchmarks.draining import Drained, drain, with_lead
from benchmarks.figures import Figure, Goal, alone, compared
from benchmarks.processes import LARGE

if TYPE_CHECKING:
    from benchmarks.child import Side

JOBS = 100_000
WORKERS = 4
LEAD_SECONDS = 15.0

SIDES: tuple[Side, ...] = ("ours", "bare")


async def _at_once(bench: Bench, side: Side, jobs: int, lead_seconds: float) -> Drained:
    return await drain(bench, side, LARGE, jobs, processes=WORKERS, due_in_seconds=lead_seconds)


async def run(bench: Bench) -> list[Figure]:
    """Both ways, in turn."""
    jobs = bench.scaled(JOBS, least=40)
    lead = max(0.5, LEAD_SECONDS * min(1.0, bench.scale))
    herd: dict[Side, list[float]] = {side: [] for side in SIDES}
    steady: dict[Side, list[float]] = {side: [] for side in SIDES}
    second_starts = 0
    for _ in bench.turns("herd"):
        for side in SIDES:
            at_once = await with_lead(partial(_at_once, bench, side, jobs), seconds=lead)
            backlog = await drain(bench, side, LARGE, jobs, processes=WORKERS)
            herd[side].append(at_once.jobs_per_second)
            steady[side].append(backlog.jobs_per_second)
            second_starts += at_once.second_starts + backlog.second_starts if side == "ours" else 0
    ours, bare = ([rate / median(steady[side]) for rate in herd[side]] for side in SIDES)
    case = f"{jobs:,} due at once, {WORKERS} workers"
    return [
        compared("herd", case, "times steady", ours, bare, Goal(of="ours", at_least=0.8)),
        compared("herd", case, "jobs/s", herd["ours"], herd["bare"]),
        alone("herd", f"{case}, second starts", "jobs", second_starts, Goal(of="ours", at_most=0)),
    ]


SCENARIO = Scenario(name="herd", about="100,000 jobs due at once, 4 workers", run=run)
