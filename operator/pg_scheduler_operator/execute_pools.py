"""What plans do to a pool's workers and its target.

Invariant: when a target is not lowered after all, the pods that were to go are as before: their workers claim again,
and no cost tells the ReplicaSet to delete them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, assert_never

from pg_scheduler_operator.errors import KubernetesError
from pg_scheduler_operator.reconcile.actions import (
    DrainPods,
    KeepPoolRecord,
    Scale,
    SetDeletionCost,
    SetPool,
    SparePods,
)

if TYPE_CHECKING:
    from pg_scheduler_operator.gateway import Targets
    from pg_scheduler_operator.gateway.scheduler import Rows
    from pg_scheduler_operator.reconcile.actions import PoolChange

logger = logging.getLogger(__name__)


class PoolExecutor:
    """Does what plans of pools say."""

    def __init__(self, targets: Targets, rows: Rows) -> None:
        self._targets = targets
        self._rows = rows

    async def execute(self, action: PoolChange) -> None:
        """Do one of them."""
        match action:
            case DrainPods():
                await self._rows.drain(action.tenant, action.pod_uids)
            case SparePods():
                await self._rows.spare(action.tenant, action.pod_uids)
            case SetDeletionCost():
                await self._targets.set_deletion_cost(action.meta, action.pod, action.cost)
            case KeepPoolRecord():
                await self._rows.keep_pool_record(action.tenant, action.name, action.record)
            case SetPool():
                await self._rows.set_pool(action.source, action.made_at, action.settings)
            case Scale():
                await self._scale(action)
            case _:
                assert_never(action)

    async def _scale(self, action: Scale) -> None:
        try:
            await self._targets.scale(action.meta, action.target, wanted=action.wanted, replicas=action.replicas)
        except KubernetesError:
            await self._undo(action)
            raise

    async def _undo(self, action: Scale) -> None:
        for pod in action.victims:
            try:
                await self._targets.set_deletion_cost(action.meta, pod.name, None)
            except KubernetesError as error:  # the next turn that can will take it off
                logger.warning("%s: the deletion cost of a pod stays: %s", action.meta.key, error)
        if action.victims:
            await self._rows.spare(action.meta.key.namespace, [pod.uid for pod in action.victims])
