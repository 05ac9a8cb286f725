"""The engine, statement by statement, against real PostgreSQL on a virtual clock (design page 7 §7.1 b)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.starts import Starts
from pg_scheduler._store.queries import QUERIES
from support.chaos_steps import EPISODE_STEPS
from support.stepper import Stepper
from support.steps import take_steps

SEEDS = range(1, 7)

Mutant = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("seed", SEEDS)
async def test_invariants_hold_whatever_happens_and_all_is_drained_once_the_faults_end(dsn: str, seed: int) -> None:
    async with Stepper.over(dsn, seed) as stepper:
        await take_steps(stepper, EPISODE_STEPS)
        await stepper.drain()


async def test_a_run_is_the_same_again_from_its_seed(new_database: Callable[..., str]) -> None:
    stories = []
    for _ in range(2):
        async with Stepper.over(new_database(), 1) as stepper:
            await take_steps(stepper, 500)
            stories.append(stepper.story())

    assert stories[0] == stories[1]
    assert "make chaos-steps SEED=1 STEPS=500" in stories[0]


def test_the_command_runs_one_episode_after_the_other() -> None:
    command = [sys.executable, "-m", "support.chaos_steps", "--seed", "1", "--steps", str(EPISODE_STEPS + 100)]

    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=True, capture_output=True
    )

    assert b"next seed 3" in done.stdout


def statement(name: str, shipped: str, naive: str) -> Mutant:
    """The fault of writing ``naive`` where ``shipped`` stands."""
    assert shipped in QUERIES[name]
    return lambda patch: patch.setitem(QUERIES, name, QUERIES[name].replace(shipped, naive))


def attribute(owner: type, name: str, value: Any) -> Mutant:
    return lambda patch: patch.setattr(owner, name, value)


MUTANTS = {
    "claim beside the old coroutine": statement("claim_jobs", " AND j.stopping_worker IS NULL", ""),
    "replace under the old token": statement("replace_job", " token = 0,", ""),
    "cancel of the ended": statement(
        "cancel_job", "status IN ('pending', 'waiting', 'running')", "status <> 'cancelled'"
    ),
    "sweep at once": attribute(Lease, "held_for_one_full_lease", property(lambda self: self.is_valid)),
    "start without a lease": attribute(Lease, "is_valid", property(lambda _: True)),
    "start before the time": attribute(Starts, "_due", lambda _, held: held),
}
"""The quick ones: each is found within a run; many more were tried when the stepper was made."""


@pytest.mark.parametrize("name", MUTANTS)
async def test_the_stepper_finds(name: str, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)

    with pytest.raises(AssertionError) as found:
        await _run_all(new_database)

    assert "repeat with make chaos-steps" in "".join(found.value.__notes__)


async def _run_all(new_database: Callable[..., str]) -> None:
    for seed in SEEDS:
        async with Stepper.over(new_database(), seed) as stepper:
            await take_steps(stepper, EPISODE_STEPS)
