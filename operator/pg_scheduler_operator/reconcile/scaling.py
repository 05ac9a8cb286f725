"""How many replicas a pool's target should have.

Invariants: between minimum and maximum, but for jobs that run: going down never leaves fewer slots than those; the same
figures give the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pg_scheduler.control import Demand

DEFAULT_SLOTS: Final = 25
"""Slots of a worker that nothing is known of: what a worker takes when it is told nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the pool's spec allows."""

    minimum: int
    maximum: int


def desired_replicas(demand: Demand, *, slots: int, bounds: Bounds, current: int) -> int:
    """Replicas for every job that is due, runs, or waits for its rescue."""
    need = _replicas_for(demand.due + demand.running + demand.orphaned, slots)
    wanted = min(max(need, bounds.minimum), bounds.maximum)
    busy = _replicas_for(demand.running, slots)
    return max(wanted, min(current, busy))


def _replicas_for(jobs: int, slots: int) -> int:
    return -(-jobs // slots)
