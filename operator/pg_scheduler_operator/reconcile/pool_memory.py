"""What the turns of a pool leave to each other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pg_scheduler_operator.reconcile.scaling import History, commanded

if TYPE_CHECKING:
    from pg_scheduler_operator.reconcile.pool_look import Look
    from pg_scheduler_operator.reconcile.scale_in import ScaleIn


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A target that was lowered, until as many of the pods that stood then have gone: which were to go, which stood."""

    victims: frozenset[str]
    stood: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a turn leaves for the next; an operator that starts without it only waits a little longer."""

    history: History = field(default_factory=History)
    lowered: Lowered | None = None


def after(memory: Memory, look: Look, replicas: int | None, steps: ScaleIn) -> Memory:
    """The memory once the plan is carried out."""
    if replicas is None or look.target is None:
        return memory
    history = commanded(memory.history, look.target.wanted, replicas, look.now)
    if not steps.lower:
        return Memory(history=history)
    stood = frozenset(pod.uid for pod in look.pods if not pod.is_terminating)
    return Memory(history=history, lowered=Lowered(victims=frozenset(pod.uid for pod in steps.lower), stood=stood))


def wrong_victims(look: Look, memory: Memory) -> tuple[int, Memory]:
    """How many pods have gone in the place of victims, once as many have gone as were to go."""
    lowered = memory.lowered
    if lowered is None:
        return 0, memory
    gone = lowered.stood - {pod.uid for pod in look.pods if not pod.is_terminating}
    if len(gone) < len(lowered.victims):
        return 0, memory
    return min(len(gone - lowered.victims), len(lowered.victims - gone)), replace(memory, lowered=None)
