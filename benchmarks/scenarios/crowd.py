"""Several worker processes on one backlog: what each more of them is worth, and whether any job starts twice."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from benchmarks.bench import Bench, Scenario
from benchmarks.draining import drain
from benchmarks.figures import Figure, Goal, alone, compared
from benchmarks.processes import DEFAULTS, LARGE, Setting

JOBS = {DEFAULTS: 20_000, LARGE: 50_000}
GOALS = {(DEFAULTS, 2): 1.0, (DEFAULTS, 4): 1.0, (LARGE, 2): 0.85, (LARGE, 4): 0.70}
PROCESSES = (1, 2, 4)

Rates = dict[int, list[float]]


async def run(bench: Bench) -> list[Figure]:
    """Two and four processes against one, at both settings."""
    figures: list[Figure] = []
    second_starts = 0
    for setting, at_full_scale in JOBS.items():
        jobs = bench.scaled(at_full_scale, least=40)
        ours: Rates = defaultdict(list)
        bare: Rates = defaultdict(list)
        for _ in bench.turns(f"workers, {setting.name}"):
            for processes in PROCESSES:
                drained = await drain(bench, "ours", setting, jobs, processes=processes)
                second_starts += drained.second_starts
                ours[processes].append(drained.jobs_per_second)
                bare[processes].append((await drain(bench, "bare", setting, jobs, processes=processes)).jobs_per_second)
        figures += _figures(setting, ours, bare)
    return [*figures, alone("workers", "second starts", "jobs", second_starts, Goal(of="ours", at_most=0))]


def _figures(setting: Setting, ours: Rates, bare: Rates) -> list[Figure]:
    def times_one(rates: Rates, processes: int) -> list[float]:
        return [rate / median(rates[1]) for rate in rates[processes]]

    return [
        compared(
            "workers",
            f"{setting.name}, {processes} processes",
            "times one",
            times_one(ours, processes),
            times_one(bare, processes),
            Goal(of="ours", at_least=GOALS[setting, processes]),
        )
        for processes in PROCESSES[1:]
    ]


SCENARIO = Scenario(name="workers", about="2 and 4 worker processes against one", run=run)
