"""The scenarios in the order of the table: each file answers one question."""

from benchmarks.bench import Scenario
from benchmarks.scenarios import (
    bulk,
    crowd,
    drain,
    herd,
    idle,
    lateness,
    memory,
    mixed,
    pickup,
    rows,
    single,
    tenants,
    ticks,
)

SCENARIOS: tuple[Scenario, ...] = (
    drain.LARGE_SLOTS,
    drain.SEED_DEFAULTS,
    bulk.SCENARIO,
    single.SCENARIO,
    pickup.SCENARIO,
    lateness.SCENARIO,
    ticks.SCENARIO,
    idle.SCENARIO,
    crowd.SCENARIO,
    herd.SCENARIO,
    tenants.SCENARIO,
    mixed.SCENARIO,
    rows.SCENARIO,
    rows.TEN_MILLION,
    memory.SCENARIO,
)
