"""A WorkerPool and its target.

Invariants: without fresh figures nothing is scaled; the target's spec is touched through its scale alone; a pool that
may not scale its target leaves no mark and no cost on its pods.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.actions import (
    DrainPods,
    EmitEvent,
    KeepPoolRecord,
    Scale,
    SetDeletionCost,
    SparePods,
)
from pg_scheduler_operator.reconcile.common import is_news, refused, set_status, warnings
from pg_scheduler_operator.reconcile.need import Outlook, QueueShare, need_of
from pg_scheduler_operator.reconcile.pool_look import Lowered, Memory
from pg_scheduler_operator.reconcile.pool_record import (
    asked,
    known_tasks,
    lead_seconds,
    learned,
    own_workers,
    wants_strangers,
)
from pg_scheduler_operator.reconcile.pool_settings import store_settings
from pg_scheduler_operator.reconcile.pool_status import pool_status
from pg_scheduler_operator.reconcile.scale_in import VICTIM_COST, Intent, ScaleIn, occupancies, scale_in, undone
from pg_scheduler_operator.reconcile.scaling import DEFAULT_SLOTS, commanded, decide, looked, replicas_for
from pg_scheduler_operator.resources import DeletionCost, LookaheadMode, ScalingMode
from pg_scheduler_operator.status import Fact, Notice, Reason, Refusal

if TYPE_CHECKING:
    from pg_scheduler.demand import Demand, PoolRecord
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.reconcile.pool_look import Look
    from pg_scheduler_operator.resources import Resource, WorkerPoolSpec

UNDER_WAY_SECONDS: Final = 0.5
"""How soon the next turn comes while replicas are being taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """What is to be done, what the next turn has to know, and how soon that is if sooner than usual.

    Attributes:
        wrong_victims: pods that were deleted in the place of those that were to go.
    """

    actions: list[Action]
    memory: Memory
    again_in_seconds: float | None = None
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
    wrong, memory = _wrong_victims(look, _after(look, verdict, steps))
    actions: list[Action] = [
        *warnings(pool, refusal, None, task_unknown=False),
        *_ignored(pool),
        *store_settings(pool, look.settings),
        *_missed(pool, look, wrong),
        *_kept(pool, look, verdict.record),
        *_scale(pool, look, verdict, steps),
        *set_status(pool, pool_status(pool, look, verdict.record, verdict.fact, verdict.desired, steps.hold, refusal)),
    ]
    soon = UNDER_WAY_SECONDS if steps.is_under_way else None
    return PoolPlan(actions=actions, memory=memory, again_in_seconds=soon, wrong_victims=wrong)


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
    outlook = Outlook(
        lead_seconds=lead_seconds(record, scaling.lookahead),
        pod_uids={pod.uid for pod in look.pods},
        tasks=known_tasks(record, demand),
        orphan_weight=scaling.orphan_weight,
        queues=_limits(spec, look, share := _share(spec, look, slots)),
        otherwise=QueueShare(share=share),
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


def _limits(spec: WorkerPoolSpec, look: Look, share: float) -> dict[str, QueueShare]:
    """What the pool's queues let run, but for those that an older pool has set."""
    others = () if look.settings is None else look.settings.conflicts
    return {
        name: QueueShare(
            concurrency=queue.concurrency,
            starts_per_second=None if queue.rate is None else queue.rate.limit / queue.rate.seconds,
            share=share,
        )
        for name, queue in spec.settings.queues.items()
        if name not in others
    }


def _share(spec: WorkerPoolSpec, look: Look, slots: int) -> float:
    """What falls to this pool of the jobs that several are asked for: by their slots when they are at their maximum."""
    own = slots * (spec.autoscaling.max_replicas or 1)
    return own / (own + sum(other.capacity for other in look.siblings if other.target != spec.target_ref.name))


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
    return look.target.wanted - len(steps.lower) if steps.lower else None


def _scale(pool: Resource[WorkerPoolSpec], look: Look, verdict: Verdict, steps: ScaleIn) -> list[Action]:
    """Marks before costs, and costs before the target: what is not marked may take a job at any moment."""
    tenant, spec, replicas = pool.meta.key.namespace, pool.spec, _replicas(look, verdict, steps)
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


def _kept(pool: Resource[WorkerPoolSpec], look: Look, record: PoolRecord) -> list[Action]:
    if record == look.record:
        return []
    return [KeepPoolRecord(tenant=pool.meta.key.namespace, name=pool.meta.key.name, record=record)]


def _ignored(pool: Resource[WorkerPoolSpec]) -> list[Action]:
    """A wish that this mode does not carry out."""
    spec = pool.spec
    if isinstance(spec, InvalidSpec) or spec.replicas == 1 or spec.autoscaling.mode is not ScalingMode.OPERATOR:
        return []
    note = "spec.replicas does nothing while autoscaling.mode is Operator: use minReplicas and maxReplicas"
    return _warned(pool, Reason.REPLICAS_IGNORED, note) if is_news(pool) else []


def _missed(pool: Resource[WorkerPoolSpec], look: Look, wrong: int) -> list[Action]:
    if not wrong:
        return []
    note = f"{wrong} pods were deleted that were not to go; their jobs had the pod's grace"
    return _warned(pool, Reason.WRONG_VICTIM, note, once=look.now.isoformat())


def _warned(pool: Resource[WorkerPoolSpec], reason: Reason, note: str, once: str | None = None) -> list[Action]:
    once = str(pool.meta.generation) if once is None else once
    return [EmitEvent(notice=Notice(about=pool.meta, type="Warning", reason=reason, note=note, once=once))]


def _after(look: Look, verdict: Verdict, steps: ScaleIn) -> Memory:
    """The memory once the plan is carried out."""
    replicas = _replicas(look, verdict, steps)
    if replicas is None or look.target is None:
        return verdict.memory
    history = commanded(verdict.memory.history, look.target.wanted, replicas, look.now)
    if not steps.lower:
        return Memory(history=history)
    stood = frozenset(pod.uid for pod in look.pods if not pod.is_terminating)
    return Memory(history=history, lowered=Lowered(victims=frozenset(pod.uid for pod in steps.lower), stood=stood))


def _wrong_victims(look: Look, memory: Memory) -> tuple[int, Memory]:
    """How many pods have gone in the place of victims, once as many have gone as were to go."""
    lowered = memory.lowered
    if lowered is None:
        return 0, memory
    gone = lowered.stood - {pod.uid for pod in look.pods if not pod.is_terminating}
    if len(gone) < len(lowered.victims):
        return 0, memory
    return min(len(gone - lowered.victims), len(lowered.victims - gone)), replace(memory, lowered=None)
