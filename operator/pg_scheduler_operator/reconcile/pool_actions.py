"""What a pool's plan does to its pods and its target, and what it tells of it.

Invariant: marks come before costs, and costs before the target: what is not marked may take a job at any moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.actions import (
    DrainPods,
    EmitEvent,
    KeepPoolRecord,
    Scale,
    SetDeletionCost,
    SparePods,
)
from pg_scheduler_operator.reconcile.common import is_news
from pg_scheduler_operator.reconcile.scale_in import VICTIM_COST
from pg_scheduler_operator.resources import ScalingMode
from pg_scheduler_operator.status import Notice, Reason

if TYPE_CHECKING:
    from pg_scheduler.demand import PoolRecord
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.reconcile.pool_look import Look
    from pg_scheduler_operator.reconcile.scale_in import ScaleIn
    from pg_scheduler_operator.resources import Resource, WorkerPoolSpec


def scaled(pool: Resource[WorkerPoolSpec], look: Look, replicas: int | None, steps: ScaleIn) -> list[Action]:
    """The steps of a scale-in, and the target with another number of replicas if there is one."""
    tenant, spec = pool.meta.key.namespace, pool.spec
    actions: list[Action] = []
    if steps.mark:
        actions.append(DrainPods(tenant=tenant, pod_uids=tuple(pod.uid for pod in steps.mark)))
    if steps.spare:
        actions.append(SparePods(tenant=tenant, pod_uids=tuple(pod.uid for pod in steps.spare)))
    actions += [SetDeletionCost(meta=pool.meta, pod=pod.name, cost=None) for pod in steps.clear_cost]
    actions += [SetDeletionCost(meta=pool.meta, pod=pod.name, cost=VICTIM_COST) for pod in steps.give_cost]
    if replicas is not None and look.target is not None and not isinstance(spec, InvalidSpec):
        wanted, victims = look.target.wanted, tuple(steps.lower)
        target = spec.target_ref
        actions.append(Scale(meta=pool.meta, target=target, wanted=wanted, replicas=replicas, victims=victims))
        actions.append(_told(pool, look, wanted, replicas))
    return actions


def _told(pool: Resource[WorkerPoolSpec], look: Look, wanted: int, replicas: int) -> EmitEvent:
    counted = look.demand
    due = 0 if counted is None else sum(each.jobs for each in counted.waiting if each.in_seconds == 0)
    running = 0 if counted is None else sum(each.jobs for each in counted.running)
    notice = Notice(
        about=pool.meta,
        type="Normal",
        reason=Reason.SCALED_UP if replicas > wanted else Reason.SCALED_DOWN,
        note=f"from {wanted} to {replicas} replicas: {due} jobs due, {running} running",
        once=look.now.isoformat(),
    )
    return EmitEvent(notice=notice)


def kept(pool: Resource[WorkerPoolSpec], look: Look, record: PoolRecord) -> list[Action]:
    """What was learned, if it is new."""
    if record == look.record:
        return []
    return [KeepPoolRecord(tenant=pool.meta.key.namespace, name=pool.meta.key.name, record=record)]


def ignored(pool: Resource[WorkerPoolSpec]) -> list[Action]:
    """A wish that this mode does not carry out."""
    spec = pool.spec
    if isinstance(spec, InvalidSpec) or spec.replicas == 1 or spec.autoscaling.mode is not ScalingMode.OPERATOR:
        return []
    note = "spec.replicas does nothing while autoscaling.mode is Operator: use minReplicas and maxReplicas"
    return _warned(pool, Reason.REPLICAS_IGNORED, note) if is_news(pool) else []


def missed(pool: Resource[WorkerPoolSpec], look: Look, wrong: int) -> list[Action]:
    """Pods that have gone in the place of those that were to go."""
    if not wrong:
        return []
    note = f"{wrong} pods were deleted that were not to go; their jobs had the pod's grace"
    return _warned(pool, Reason.WRONG_VICTIM, note, once=look.now.isoformat())


def _warned(pool: Resource[WorkerPoolSpec], reason: Reason, note: str, once: str | None = None) -> list[Action]:
    once = str(pool.meta.generation) if once is None else once
    return [EmitEvent(notice=Notice(about=pool.meta, type="Warning", reason=reason, note=note, once=once))]
