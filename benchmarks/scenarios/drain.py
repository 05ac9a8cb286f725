"""Jobs per second of one worker process with a backlog of no-op jobs.

Both settings are held against the bare loop at large batches, the fastest that it can be. At the seed's defaults a line
more tells what the bare loop itself does with batches of 10.
"""

from __future__ import annotations

from benchmarks.bench import Bench, Scenario
from benchmarks.draining import drain
from benchmarks.figures import Figure, Goal, compared
from benchmarks.processes import DEFAULTS, LARGE

JOBS = 50_000
JOBS_AT_DEFAULTS = 20_000
UNIT = "jobs/s"


async def run_large(bench: Bench) -> list[Figure]:
    """The backlog at large slots."""
    jobs = bench.scaled(JOBS)
    ours, bare = [], []
    for _ in bench.turns("drain"):
        ours.append((await drain(bench, "ours", LARGE, jobs)).jobs_per_second)
        bare.append((await drain(bench, "bare", LARGE, jobs)).jobs_per_second)
    return [compared("drain", f"{jobs:,} jobs, {LARGE.slots} slots", UNIT, ours, bare, Goal(at_least=0.80))]


async def run_defaults(bench: Bench) -> list[Figure]:
    """The backlog at 25 slots and batches of 10."""
    jobs = bench.scaled(JOBS_AT_DEFAULTS)
    ours, bare, bare_by_tens = [], [], []
    for _ in bench.turns("drain-defaults"):
        ours.append((await drain(bench, "ours", DEFAULTS, jobs)).jobs_per_second)
        bare.append((await drain(bench, "bare", LARGE, jobs)).jobs_per_second)
        bare_by_tens.append((await drain(bench, "bare", DEFAULTS, jobs)).jobs_per_second)
    case = f"{jobs:,} jobs, {DEFAULTS.slots} slots"
    return [
        compared("drain-defaults", f"{case}, bare by {LARGE.batch:,}", UNIT, ours, bare, Goal(at_least=0.22)),
        compared("drain-defaults", f"{case}, bare by {DEFAULTS.batch}", UNIT, ours, bare_by_tens),
    ]


LARGE_SLOTS = Scenario(name="drain", about="a backlog of 50,000 no-op jobs, large slots", run=run_large)
SEED_DEFAULTS = Scenario(
    name="drain-defaults", about="a backlog of 20,000 at 25 slots and batches of 10", run=run_defaults
)
