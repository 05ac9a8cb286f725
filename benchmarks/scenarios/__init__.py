"""The scenarios in the order of the table: each file answers one question."""

from benchmarks.bench import Scenario
from benchmarks.scenarios import drain

SCENARIOS: tuple[Scenario, ...] = (drain.LARGE_SLOTS, drain.SEED_DEFAULTS)
