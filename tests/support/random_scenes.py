"""Scenes of a few schedules with slow and failing runs, outages, suspensions and edits, each from a seed.

Invariant: nothing in a scene leaves the order of two things open that happen at one instant: schedules differ in
priority, happenings in their instants, and no run ends at a tick; where slots are scarce, no schedule has a key, whose
claim takes turns.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, cast

from pg_scheduler import JobPriority
from pg_scheduler._domain.policies import Missed, Overlap, Policy
from pg_scheduler._domain.rules import Bounds, Cron, Interval
from pg_scheduler.simulation import Edit, Fleet, Outage, Resume, Scene, SimulatedSchedule, Suspend, definition

if TYPE_CHECKING:
    from pg_scheduler._domain.rules import Rule
    from pg_scheduler._domain.schedules import ScheduleDefinition
    from pg_scheduler.simulation import Happening

TASK = "work"
MINUTES = 25
BEGINS = (
    datetime(2026, 6, 1, 12, 0, 7, 250_000, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 20, 0, 500_000, tzinfo=UTC),
    datetime(2026, 3, 29, 0, 40, 59, 900_000, tzinfo=UTC),
)
RULES: tuple[Rule, ...] = (
    Interval(20),
    Interval(45, 10),
    Interval(60),
    Interval(300),
    Cron(("*/2 * * * *",)),
    Cron(("*/5 * * * *", "30 2 * * *"), "Europe/Berlin", seconds="0,30", ambiguous="both"),
    Cron(("*/7 2-3 * * *",), "Europe/Berlin"),
)
PRIORITIES = (JobPriority.CRITICAL, JobPriority.HIGH, JobPriority.NORMAL, JobPriority.LOW)


def scene(seed: int) -> Scene:
    """The scene of a seed."""
    random = Random(seed)  # noqa: S311  nothing is secret
    begins_at = random.choice(BEGINS)
    ends_at = begins_at + timedelta(minutes=MINUTES)
    slots = random.choice([1, 2, 50, 50, 50])
    overlaps: tuple[Overlap, ...] = ("allow", "skip", "queue", "replace") if slots == 50 else ("allow",)
    schedules = tuple(
        _schedule(random, f"s{number}", PRIORITIES[number], overlaps, begins_at)
        for number in range(random.randint(1, 3))
    )
    happenings = tuple(
        _happening(
            random, begins_at + timedelta(seconds=random.randint(60, 60 * MINUTES - 700) + number / 16), schedules
        )
        for number in range(1, random.randint(1, 4))
    )
    return Scene(
        begins_at=begins_at,
        ends_at=ends_at,
        schedules=schedules,
        fleet=Fleet(slots=slots, poll_seconds=0),
        happenings=happenings,
    )


def begin(happening: Happening) -> datetime:
    """When it happens, or begins to."""
    return happening.begins_at if isinstance(happening, Outage) else happening.at


def seconds_of(schedule: SimulatedSchedule) -> float:
    """What each of its runs takes."""
    assert not callable(schedule.takes_seconds)
    return schedule.takes_seconds


def _schedule(
    random: Random, name: str, priority: JobPriority, overlaps: tuple[Overlap, ...], begins_at: datetime
) -> SimulatedSchedule:
    fails_in_ten = random.choice([0, 0, 3, 8])
    return SimulatedSchedule(
        definition=_definition(random, name, priority, overlaps, begins_at),
        takes_seconds=random.choice([0, 1.011, 7.011, 35.011, 75.011, 200.011]),
        fails=lambda tick, attempt: _chance(name, tick, attempt) < fails_in_ten,
    )


def _definition(
    random: Random, name: str, priority: JobPriority, overlaps: tuple[Overlap, ...], begins_at: datetime
) -> ScheduleDefinition:
    bounds = Bounds(
        jitter_seconds=random.choice([0, 0, 0, 10]),
        start_at=random.choice([None, None, None, begins_at + timedelta(minutes=3)]),
        end_at=random.choice([None, None, None, begins_at + timedelta(minutes=12)]),
        max_runs=random.choice([None, None, None, 6]),
    )
    policy = Policy(
        missed=cast("Missed", random.choice(["run_latest", "skip", "run_all"])),
        max_catch_up=random.randint(1, 4),
        starting_deadline_seconds=random.choice([None, None, 0, 30, 120]),
        overlap=random.choice(overlaps),
        suspend_after_failures=random.choice([None, None, 1, 2, 3]),
    )
    plain = definition(
        name,
        random.choice(RULES),
        bounds=bounds,
        policy=policy,
        priority=priority,
        max_retries=random.choice([0, 0, 1]),
    )
    payload = json.dumps({"args": [name], "kwargs": {}}, separators=(",", ":"))
    return replace(plain, template=replace(plain.template, task=TASK, payload=payload))


def _happening(random: Random, at: datetime, schedules: tuple[SimulatedSchedule, ...]) -> Happening:
    schedule = random.choice(schedules)
    match random.choice(["outage", "outage", "suspend", "resume", "edit"]):
        case "outage":
            return Outage(begins_at=at, ends_at=at + timedelta(seconds=random.choice([3, 40, 59, 61, 400])))
        case "suspend":
            return Suspend(at=at, schedule=schedule.name, reason="by hand")
        case "resume":
            return Resume(at=at, schedule=schedule.name)
        case _:
            return Edit(at=at, schedule=schedule.name, definition=_edited(random, schedule.definition))


def _edited(random: Random, old: ScheduleDefinition) -> ScheduleDefinition:
    """Another rule, another choice for missed ticks, or another template."""
    return random.choice(
        [
            replace(old, rule=random.choice(RULES)),
            replace(old, policy=replace(old.policy, missed="run_all")),
            replace(old, template=replace(old.template, max_retries=2)),
        ]
    )


def _chance(name: str, tick: datetime, attempt: int) -> int:
    """From 0 to 9, the same for the same attempt in whatever tells of it."""
    text = f"{name} {tick.astimezone(UTC).isoformat()} {attempt}"
    return blake2b(text.encode(), digest_size=4).digest()[0] % 10
