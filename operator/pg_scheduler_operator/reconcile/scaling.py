"""How many replicas a pool's target should have.

Invariants: what is needed is given at once, as far as the pace upwards allows; nothing is taken away that was needed
within the stabilisation window, so that replicas go up and down again at most once in it; the same figures and the same
history give the same answer. What has to be remembered from turn to turn is a value, passed in and handed back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from pg_scheduler_operator.reconcile.need import Need
    from pg_scheduler_operator.resources import Autoscaling

DEFAULT_SLOTS: Final = 25
"""Slots of a worker that nothing is known of: what a worker takes when it is told nothing."""

CONTESTED_WITHIN: Final = timedelta(minutes=10)
CONTESTED_WRITES: Final = 3
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a turn leaves for the next.

    Attributes:
        needs: replicas needed and when, those that no later need has reached: the first is the greatest of the window.
        steps: by how many replicas the target was changed, and when, within the last minute.
        foreign: when somebody else changed them, within the last ten minutes.
        replicas: what the target should want if nobody else writes it; None before the first look.
        idle_since: since when nothing is needed.
    """

    needs: tuple[tuple[datetime, int], ...] = ()
    steps: tuple[tuple[datetime, int], ...] = ()
    foreign: tuple[datetime, ...] = ()
    replicas: int | None = None
    idle_since: datetime | None = None

    @property
    def is_contested(self) -> bool:
        """Whether somebody else keeps writing the target's replicas."""
        return len(self.foreign) >= CONTESTED_WRITES


def replicas_for(need: Need, *, slots: int, scaling: Autoscaling, floor: int = 0, strangers: bool = False) -> int:
    """Replicas for so many slots at the wished utilisation; at least one where unknown tasks are asked for."""
    replicas = ceil(need.slots * 100 / (slots * scaling.target_utilization_percent) - 1e-9)
    return scaling.within(max(replicas, floor, int(strangers)))


def looked(history: History, current: int, now: datetime) -> History:
    """The history with what the target wants now: another number than it was left with is somebody else's."""
    steps = tuple(step for step in history.steps if now - step[0] < _MINUTE)
    foreign = tuple(at for at in history.foreign if now - at < CONTESTED_WITHIN)
    if history.replicas is not None and current != history.replicas:
        foreign = (*foreign, now)
    return replace(history, steps=steps, foreign=foreign, replicas=current)


def commanded(history: History, current: int, replicas: int, now: datetime) -> History:
    """The history after the target was told to want another number."""
    return replace(history, steps=(*history.steps, (now, replicas - current)), replicas=replicas)


def decide(needed: int, scaling: Autoscaling, current: int, history: History, now: datetime) -> tuple[int, History]:
    """Replicas that there should be now, and the history for the next turn.

    A first look takes what is there for needed: an operator that has just started takes nothing away in haste, nor does
    one whose database was away.
    """
    history = _without_gap(history, scaling, now)
    since = history.needs or ((now, max(needed, current)),)
    history = replace(history, needs=_needs(since, needed, scaling, now), idle_since=_idle_since(needed, history, now))
    if needed > current:
        return max(current, min(needed, current + _room_up(scaling, history))), history
    lowest = _not_yet_zero(max(needed, history.needs[0][1]), current, scaling, history, now)
    return min(current, max(lowest, current - _room_down(scaling, history))), history


def _without_gap(history: History, scaling: Autoscaling, now: datetime) -> History:
    """The history, as at a first look if nobody has looked for so long that nothing of the window is known."""
    longest = max(_MINUTE, timedelta(seconds=scaling.scale_down.stabilization_seconds))
    is_known = not history.needs or now - history.needs[-1][0] < longest
    return history if is_known else replace(history, needs=(), idle_since=None)


def _needs(
    needs: tuple[tuple[datetime, int], ...], needed: int, scaling: Autoscaling, now: datetime
) -> tuple[tuple[datetime, int], ...]:
    window = timedelta(seconds=scaling.scale_down.stabilization_seconds)
    return (*(each for each in needs if now - each[0] < window and each[1] > needed), (now, needed))


def _idle_since(needed: int, history: History, now: datetime) -> datetime | None:
    return None if needed else history.idle_since or now


def _room_up(scaling: Autoscaling, history: History) -> int:
    risen = sum(step for _, step in history.steps if step > 0)
    return max(0, scaling.scale_up.max_replicas_per_minute - risen)


def _room_down(scaling: Autoscaling, history: History) -> int:
    fallen = -sum(step for _, step in history.steps if step < 0)
    return max(0, scaling.scale_down.max_replicas_per_minute - fallen)


def _not_yet_zero(lowest: int, current: int, scaling: Autoscaling, history: History, now: datetime) -> int:
    """The last replica goes when the pool has been idle for long enough."""
    if lowest > 0 or current == 0:
        return lowest
    idle = history.idle_since is not None and (
        now - history.idle_since >= timedelta(seconds=scaling.scale_down.zero_after_idle_seconds)
    )
    return 0 if idle else 1
