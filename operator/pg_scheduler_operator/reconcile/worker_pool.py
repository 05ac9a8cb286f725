"""A WorkerPool and its target.

Invariants: without fresh figures nothing is scaled; the target's spec is touched through its scale alone; a pool that
may not scale its target leaves no mark and no cost on its pods.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.common import refused, set_status, warnings
from pg_scheduler_operator.reconcile.need import Outlook, need_of
from pg_scheduler_operator.reconcile.pool_actions import ignored, kept, missed, scaled
from pg_scheduler_operator.reconcile.pool_memory import Memory, after, wrong_victims
from pg_scheduler_operator.reconcile.pool_record import (
    asked,
    lead_seconds,
    learned,
    own_workers,
    runs,
    wants_strangers,
)
from pg_scheduler_operator.reconcile.pool_settings import store_settings
from pg_scheduler_operator.reconcile.pool_status import pool_status
from pg_scheduler_operator.reconcile.scale_in import Intent, ScaleIn, occupancies, scale_in, undone
from pg_scheduler_operator.reconcile.scaling import DEFAULT_SLOTS, decide, looked, replicas_for
from pg_scheduler_operator.resources import DeletionCost, LookaheadMode, ScalingMode
from pg_scheduler_operator.status import Fact, Reason, Refusal

if TYPE_CHECKING:
    from pg_scheduler.demand import Demand, PoolRecord
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.reconcile.pool_look import Look
    from pg_scheduler_operator.resources import Resource, WorkerPoolSpec

OURS: Final = "pgscheduler.*"
"""Tasks that every worker runs, whatever its pool allows."""

UNDER_WAY_SECONDS: Final = 0.5
"""How soon the next turn comes while replicas are being taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """What is to be done, what the next turn has to know, and how soon that is if sooner than usual.

    Attributes:
        is_held: whether replicas should be taken away and none can be.
        marked_pods: those that are to go and take no new jobs.
        wrong_victims: pods that were deleted in the place of those that were to go.
    """

    actions: list[Action]
    memory: Memory
    again_in_seconds: float | None = None
    is_held: bool = False
    marked_pods: int = 0
    wrong_victims: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of the target, and how that is said; ``desired`` None means that nothing does."""

    fact: Fact
    desired: int | None = None
    memory: Memory
    record: PoolRecord


def plan(pool: Resource[WorkerPoolSpec], look: Look, memory: Memory) -> PoolPlan:
    """One turn."""
    if pool.meta.is_deleting:
        return PoolPlan(actions=[], memory=memory)
    refusal = refused(pool) or _missing(pool, look)
    verdict = _verdict(pool, look, memory, refusal)
    steps = _steps(pool, look, verdict)
    replicas = _replicas(look, verdict, steps)
    wrong, memory = wrong_victims(look, after(verdict.memory, look, replicas, steps))
    actions: list[Action] = [
        *warnings(pool, refusal, None, task_unknown=False),
        *ignored(pool),
        *store_settings(pool, look.settings),
        *missed(pool, look, wrong),
        *kept(pool, look, verdict.record),
        *scaled(pool, look, replicas, steps),
        *set_status(pool, pool_status(pool, look, verdict.record, verdict.fact, verdict.desired, steps.hold, refusal)),
    ]
    soon = UNDER_WAY_SECONDS if steps.is_under_way else None
    return PoolPlan(
        actions=actions,
        memory=memory,
        again_in_seconds=soon,
        is_held=steps.hold is not None,
        marked_pods=steps.marked_pods,
        wrong_victims=wrong,
    )


def _missing(pool: Resource[WorkerPoolSpec], look: Look) -> Refusal | None:
    if isinstance(pool.spec, InvalidSpec) or look.target is not None:
        return None
    ref = pool.spec.target_ref
    return Refusal(reason=Reason.TARGET_NOT_FOUND, message=f"there is no {ref.kind.value} {ref.name} in this namespace")


def _verdict(pool: Resource[WorkerPoolSpec], look: Look, memory: Memory, refusal: Refusal | None) -> Verdict:
    spec, demand = pool.spec, look.demand
    if refusal is None and not isinstance(spec, InvalidSpec):
        refusal = _hindrance(pool, spec, look)
    if refusal is not None or isinstance(spec, InvalidSpec) or look.target is None or demand is None:
        return Verdict(fact=_inactive(refusal), memory=memory, record=look.record)
    current = look.target.wanted
    history = looked(memory.history, current, look.now)
    memory, record = replace(memory, history=history), learned(look.record, demand, look.pods)
    if history.is_contested:
        message = f"somebody else keeps writing the replicas of {spec.target_ref.name}: {_FIX}"
        contested = Refusal(reason=Reason.REPLICAS_CONTESTED, message=message)
        return Verdict(fact=_inactive(contested), memory=memory, record=record)
    if spec.autoscaling.mode is not ScalingMode.OPERATOR:
        desired = spec.autoscaling.within(spec.replicas)
        return Verdict(fact=_fact_of(spec.autoscaling.mode), desired=desired, memory=memory, record=record)
    needed, record = _needed(pool, spec, look, demand, record)
    desired, history = decide(needed, spec.autoscaling, current, history, look.now)
    memory = replace(memory, history=history)
    return Verdict(fact=Fact("ScalingActive", True, Reason.SCALING), desired=desired, memory=memory, record=record)


_FIX: Final = "remove replicas from the manifest in Git, or have Argo CD ignore that difference"


def _fact_of(mode: ScalingMode) -> Fact:
    if mode is ScalingMode.OFF:
        return Fact("ScalingActive", False, Reason.SCALING_OFF)
    return Fact("ScalingActive", True, Reason.SCALING, "as /scale of the WorkerPool says")


def _inactive(refusal: Refusal | None) -> Fact:
    if refusal is None:
        return Fact("ScalingActive", False, Reason.DEMAND_UNKNOWN, "the database does not answer; replicas stay")
    return Fact("ScalingActive", False, refusal.reason, refusal.message)


def _hindrance(pool: Resource[WorkerPoolSpec], spec: WorkerPoolSpec, look: Look) -> Refusal | None:
    """Who else scales the target."""
    if look.autoscaler is not None:
        message = f"the HorizontalPodAutoscaler {look.autoscaler} scales the Deployment: have it scale the WorkerPool"
        return Refusal(reason=Reason.FOREIGN_AUTOSCALER, message=message)
    own = (pool.meta.created_at or look.now, pool.meta.uid)
    for other in look.siblings:
        if other.target == spec.target_ref.name and (other.created_at, other.uid) < own:
            message = f"the WorkerPool {other.name} scales {other.target} and is older"
            return Refusal(reason=Reason.TARGET_IN_USE, message=message)
    return None


def _needed(
    pool: Resource[WorkerPoolSpec], spec: WorkerPoolSpec, look: Look, demand: Demand, record: PoolRecord
) -> tuple[int, PoolRecord]:
    scaling, slots = spec.autoscaling, _slots(pool, spec, look, demand)
    queues, tasks = runs(record, demand)
    outlook = Outlook(
        lead_seconds=lead_seconds(record, scaling.lookahead),
        pod_uids={pod.uid for pod in look.pods},
        queues=queues,
        tasks=tasks,
        globs=("*",) if spec.allowed_tasks is None else (OURS, *spec.allowed_tasks),
        orphan_weight=scaling.orphan_weight,
        shares={queue: _share(queue, spec, look, slots) for queue in queues},
    )
    need = need_of(demand, outlook)
    record = asked(record, need.strangers, demand.at)
    is_blind = scaling.lookahead.mode is LookaheadMode.OFF
    needed = replicas_for(
        need,
        slots=slots,
        scaling=scaling,
        floor=int(is_blind and demand.has_schedules),
        strangers=wants_strangers(record, need.strangers, demand.at),
    )
    return needed, record


def _slots(pool: Resource[WorkerPoolSpec], spec: WorkerPoolSpec, look: Look, demand: Demand) -> int:
    """What heartbeats report, else what they last reported, else the hint."""
    own = own_workers(demand, {pod.uid for pod in look.pods})
    reported = min((worker.slots for worker in own), default=None)
    return reported or pool.status.get("slotsPerReplica") or spec.slots_hint or DEFAULT_SLOTS


def _share(queue: str, spec: WorkerPoolSpec, look: Look, slots: int) -> float:
    """What falls to this pool of the jobs that several are asked for: by their slots when they are at their maximum."""
    own = slots * (spec.autoscaling.max_replicas or 1)
    others = (other for other in look.siblings if queue in other.queues and other.target != spec.target_ref.name)
    return own / (own + sum(other.capacity for other in others))


def _steps(pool: Resource[WorkerPoolSpec], look: Look, verdict: Verdict) -> ScaleIn:
    spec, demand, target = pool.spec, look.demand, look.target
    if isinstance(spec, InvalidSpec) or demand is None or target is None:
        return ScaleIn()
    pods = occupancies(look.pods, demand.workers)
    if verdict.fact.reason is Reason.TARGET_IN_USE:  # marks and costs there are the other pool's
        return ScaleIn()
    if verdict.desired is None:
        return undone(pods)
    intent = Intent(
        wanted=target.wanted,
        desired=verdict.desired,
        drain_seconds=spec.drain.timeout_seconds,
        uses_cost=spec.drain.deletion_cost is DeletionCost.AUTO,
        has_workers_without_pod=any(each.lives and each.pod_uid is None for each in demand.workers),
        now=look.now,
    )
    return scale_in(pods, intent)


def _replicas(look: Look, verdict: Verdict, steps: ScaleIn) -> int | None:
    """What the target is told to want now, if anything."""
    if look.target is None or verdict.desired is None:
        return None
    if verdict.desired > look.target.wanted:
        return verdict.desired
    return look.target.wanted - steps.lowered_by if steps.lowered_by else None
