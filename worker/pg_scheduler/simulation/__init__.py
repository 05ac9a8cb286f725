"""What schedules will do, on a virtual clock: the engine's own decisions, no database.

Invariant: a trace depends on nothing but the scene and the zone data. Pure: no clock, no chance.

What is left out: the milliseconds of a claim, retention, the keys of jobs' own, retries' jitter. A run that is stopped
ends at once.
"""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pg_scheduler._domain.counting import count_within
from pg_scheduler._domain.walk import within
from pg_scheduler.errors import InvalidArgument, SimulationTooLarge
from pg_scheduler.simulation.inputs import (
    Edit,
    Fleet,
    Happening,
    Outage,
    Resume,
    Scene,
    SimulatedJob,
    SimulatedSchedule,
    Suspend,
    definition,
)
from pg_scheduler.simulation.trace import Lateness, Ledger, Outcome, Peak, Range, Run, Summary, Trace
from pg_scheduler.simulation.virtual import VirtualFleet

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DAYS_MAX",
    "TICKS_MAX",
    "Edit",
    "Fleet",
    "Happening",
    "Lateness",
    "Ledger",
    "Outage",
    "Outcome",
    "Peak",
    "Range",
    "Resume",
    "Run",
    "Scene",
    "SimulatedJob",
    "SimulatedSchedule",
    "Summary",
    "Suspend",
    "Trace",
    "definition",
    "simulate",
    "watch",
]

DAYS_MAX = 366
TICKS_MAX = 5_000_000


def simulate(scene: Scene) -> Trace:
    """Everything that becomes of the scene's ticks, ``runs`` by planned instant and name.

    Raises:
        SimulationTooLarge: more than ``DAYS_MAX`` days or ``TICKS_MAX`` ticks.
        InvalidArgument: the scene ends before it begins, or a run takes no number of seconds from 0 to 366 days.
    """
    runs: list[Run] = []
    trace = watch(scene, runs.append)
    runs.sort(key=lambda run: (run.planned_at, run.schedule))
    return replace(trace, runs=runs)


def watch(scene: Scene, tell: "Callable[[Run], None] | None" = None) -> Trace:
    """As ``simulate``, but each run is told as its outcome is decided, and none is kept: a month may have millions."""
    _require_size(scene)
    return VirtualFleet(scene, tell).play()


def _require_size(scene: Scene) -> None:
    if scene.ends_at < scene.begins_at:
        raise InvalidArgument(
            f"an end at {scene.ends_at}", why=f"it begins at {scene.begins_at}", fix="give a later one"
        )
    if scene.ends_at - scene.begins_at > timedelta(days=DAYS_MAX):
        days = (scene.ends_at - scene.begins_at).days
        raise SimulationTooLarge(f"a time of {days} days", limit=DAYS_MAX, fix=f"simulate at most {DAYS_MAX} days")
    ticks = sum(
        count_within(each.rule, *within(each.bounds, begins_at, scene.ends_at), anchor=scene.begins_at)
        for begins_at, each in scene.definitions()
    )
    if ticks > TICKS_MAX:
        raise SimulationTooLarge(
            f"{ticks:,} ticks",
            limit=TICKS_MAX,
            fix=f"simulate at most {TICKS_MAX:,}: a shorter time, or fewer schedules",
        )
