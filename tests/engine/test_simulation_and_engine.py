"""A simulation and the engine tell the same of the same schedules: each tick's outcome, start, end and reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from pg_scheduler import JobContext, Scheduler
from pg_scheduler.simulation import Edit, Outage, Resume, Suspend, simulate
from pg_scheduler.testing import SettableClock, advance
from support.databases import NEWEST
from support.random_scenes import TASK, begin, scene, seconds_of
from support.sizes import sized

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pg_scheduler.simulation import Run, Scene, SimulatedSchedule, Trace
    from support.world import World

RUNS = """
SELECT s.source_uid AS schedule, j.tick_at AS planned_at, scheduler_tick_outcome(j.status, j.error_message) AS outcome,
       j.status = 'failed' AS failed, j.attempt AS attempts,
       CASE WHEN j.attempt = 1 THEN j.started_at END AS started_at, j.finished_at AS ended_at
FROM scheduled_jobs j JOIN scheduler_schedules s ON s.id = j.schedule_id
WHERE j.tick_at <= scheduler_now() ORDER BY j.tick_at, s.source_uid
"""
RANGES = """
SELECT o.first_tick_at, s.source_uid, o.outcome, o.last_tick_at, o.ticks, o.reason
FROM scheduler_occurrences o JOIN scheduler_schedules s ON s.id = o.schedule_id
"""
LEDGER = "SELECT source_uid, planned, unaccounted FROM scheduler_ledger ORDER BY source_uid"


class Told(NamedTuple):
    """One run, as both tell of it: the start of the only attempt, where there was but one."""

    schedule: str
    planned_at: datetime
    outcome: str
    failed: bool
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, run: Run) -> Told:
        """What the simulation says."""
        started_at = run.started_at if run.attempts == 1 else None
        return cls(run.schedule, run.planned_at, run.outcome, run.failed, run.attempts, started_at, run.ended_at)


@pytest.mark.parametrize("number", range(sized(25, 1_000)))
async def test_simulation_and_engine_tell_the_same(world: World, pg: int, number: int) -> None:
    """Each release of PostgreSQL has scenes of its own."""
    wanted = scene(2 * number + (pg == NEWEST))
    trace = simulate(wanted)
    async with SettableClock(world.pool, at=wanted.begins_at) as clock:
        await play(world, clock, wanted)

        assert [Told(**row) for row in await world.pool.fetch(RUNS)] == [Told.of(run) for run in trace.runs]
        await tell_of_what_does_not_tick(world, wanted)

    assert sorted(map(tuple, await world.pool.fetch(RANGES))) == ranges_of(trace)
    planned = [(name, summary.ledger.planned, 0) for name, summary in sorted(trace.schedules.items())]
    assert [tuple(line) for line in await world.pool.fetch(LEDGER)] == planned


def ranges_of(trace: Trace) -> list[tuple[object, ...]]:
    return sorted(
        (each.first_at, each.schedule, each.outcome, each.last_at, each.ticks, each.reason) for each in trace.ranges
    )


async def play(world: World, clock: SettableClock, wanted: Scene) -> None:
    """Let the engine live through the scene."""
    schedules = {each.name: each for each in wanted.schedules}
    scheduler = Scheduler(world.pool, wanted.fleet.slots or 50)

    async def work(name: str, ctx: JobContext) -> None:
        assert ctx.tick is not None
        await clock.sleep(seconds_of(schedules[name]))
        fails = schedules[name].fails
        if callable(fails) and fails(ctx.tick, ctx.attempt):
            raise ValueError("as the scene has it")

    scheduler._registry.add(work, TASK)
    for each in wanted.schedules:
        await world.schedules.upsert(each.definition)
    back_at = wanted.begins_at
    for happening in sorted(wanted.happenings, key=begin):
        await come_to(begin(happening), scheduler, clock, back_at)
        if isinstance(happening, Outage):
            back_at = max(back_at, happening.ends_at)
        else:
            await happen(world, happening, schedules)
    await come_to(wanted.ends_at, scheduler, clock, back_at)


async def come_to(instant: datetime, scheduler: Scheduler, clock: SettableClock, back_at: datetime) -> None:
    """Run what falls due until then; nothing while the workers are away."""
    if clock.now < back_at:
        await clock.set(min(instant, back_at))
    if instant >= back_at:
        await advance(scheduler, clock, instant - clock.now)


async def happen(world: World, happening: Suspend | Resume | Edit, schedules: Mapping[str, SimulatedSchedule]) -> None:
    key = schedules[happening.schedule].definition.key
    match happening:
        case Suspend():
            await world.schedules.suspend(key, suspended=True, reason=happening.reason)
        case Resume():
            await world.schedules.suspend(key, suspended=False)
        case Edit():
            await world.schedules.upsert(happening.definition)


async def tell_of_what_does_not_tick(world: World, wanted: Scene) -> None:
    """A simulation tells at its end what a suspension has left out; the ledger does when it is lifted."""
    rows = await world.pool.fetch("SELECT source_uid FROM scheduler_schedules WHERE suspended OR halted_at IS NOT NULL")
    silent = {row["source_uid"] for row in rows}
    for each in wanted.schedules:
        if each.name in silent:
            await world.schedules.suspend(each.definition.key, suspended=False)
