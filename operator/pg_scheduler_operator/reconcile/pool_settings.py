"""What a pool says of queues and tasks, and what stands of it in the database.

Invariant: nothing is written where what stands is what is wanted; a queue that an older pool has set is not wanted.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.actions import SetPool
from pg_scheduler_operator.status import Reason, Refusal

if TYPE_CHECKING:
    from pg_scheduler.pool_settings import PoolState
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.resources import Meta, Resource, WorkerPoolSpec

ALWAYS_THERE: Final = datetime(1970, 1, 1, tzinfo=UTC)


def made_at(meta: Meta) -> datetime:
    """Since when there is a pool; the pools of a folder are all as old."""
    return meta.created_at or ALWAYS_THERE


def store_settings(pool: Resource[WorkerPoolSpec], state: PoolState | None) -> list[Action]:
    """What makes ``state`` what the pool wants; nothing while nobody knows it."""
    if isinstance(pool.spec, InvalidSpec) or state is None:
        return []
    wanted = pool.spec.settings
    mine = {name: queue for name, queue in wanted.queues.items() if name not in state.conflicts}
    if state.settings == replace(wanted, queues=mine):
        return []
    return [SetPool(source=pool.meta.source, made_at=made_at(pool.meta), settings=wanted)]


def queue_conflict(state: PoolState | None) -> Refusal | None:
    """That older pools have set some of its queues."""
    if state is None or not state.conflicts:
        return None
    told = "; ".join(f"queue {queue} by WorkerPool {pool}" for queue, pool in sorted(state.conflicts.items()))
    return Refusal(reason=Reason.QUEUE_CONFLICT, message=f"an older pool counts where two set a queue: {told}")
