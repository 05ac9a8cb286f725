"""A WorkerPool and its target.

Invariants: without fresh figures nothing is scaled; the target's spec is touched through its scale alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.actions import EmitEvent, Scale
from pg_scheduler_operator.reconcile.common import refused, set_status, warnings
from pg_scheduler_operator.reconcile.scaling import DEFAULT_SLOTS, Bounds, desired_replicas
from pg_scheduler_operator.resources import DemandStatus, ScalingMode, WorkerPoolStatus
from pg_scheduler_operator.status import Fact, Notice, Reason, Refusal, conditions, readiness

if TYPE_CHECKING:
    from datetime import datetime

    from pg_scheduler.control import Demand
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.resources import Resource, TargetScale, WorkerPoolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of the target, and how that is said."""

    fact: Fact
    desired: int | None = None


def plan(
    pool: Resource[WorkerPoolSpec], target: TargetScale | None, demand: Demand | None, *, now: datetime
) -> list[Action]:
    """What is to be done; ``target`` None means there is no such object, ``demand`` None that nobody knows."""
    if pool.meta.is_deleting:
        return []
    refusal = refused(pool) or _missing(pool, target)
    verdict = _verdict(pool, target, demand, refusal)
    return [
        *warnings(pool, refusal, None, task_unknown=False),
        *_scale(pool, target, demand, verdict.desired, now),
        *set_status(pool, _status(pool, target, demand, verdict, refusal, now)),
    ]


def _missing(pool: Resource[WorkerPoolSpec], target: TargetScale | None) -> Refusal | None:
    if isinstance(pool.spec, InvalidSpec) or target is not None:
        return None
    ref = pool.spec.target_ref
    return Refusal(reason=Reason.TARGET_NOT_FOUND, message=f"there is no {ref.kind.value} {ref.name} in this namespace")


def _verdict(
    pool: Resource[WorkerPoolSpec], target: TargetScale | None, demand: Demand | None, refusal: Refusal | None
) -> Verdict:
    name, spec = "ScalingActive", pool.spec
    if refusal is not None or isinstance(spec, InvalidSpec) or target is None:
        reason = Reason.INVALID_SPEC if refusal is None else refusal.reason
        return Verdict(fact=Fact(name, False, reason, "" if refusal is None else refusal.message))
    scaling = spec.autoscaling
    if scaling.mode is ScalingMode.OFF or scaling.max_replicas is None:
        return Verdict(fact=Fact(name, False, Reason.SCALING_OFF))
    if demand is None:
        return Verdict(fact=Fact(name, False, Reason.DEMAND_UNKNOWN, "the database does not answer; replicas stay"))
    bounds = Bounds(minimum=scaling.min_replicas, maximum=scaling.max_replicas)
    desired = desired_replicas(demand, slots=_slots(pool, spec, demand), bounds=bounds, current=target.wanted)
    return Verdict(fact=Fact(name, True, Reason.SCALING), desired=desired)


def _slots(pool: Resource[WorkerPoolSpec], spec: WorkerPoolSpec, demand: Demand) -> int:
    """What heartbeats report, else what they last reported, else the hint."""
    return demand.slots_per_worker or pool.status.get("slotsPerReplica") or spec.slots_hint or DEFAULT_SLOTS


def _scale(
    pool: Resource[WorkerPoolSpec],
    target: TargetScale | None,
    demand: Demand | None,
    desired: int | None,
    now: datetime,
) -> list[Action]:
    spec = pool.spec
    if isinstance(spec, InvalidSpec) or target is None or demand is None or desired is None or desired == target.wanted:
        return []
    up = desired > target.wanted
    notice = Notice(
        about=pool.meta,
        type="Normal",
        reason=Reason.SCALED_UP if up else Reason.SCALED_DOWN,
        note=f"from {target.wanted} to {desired} replicas:"
        f" {demand.due} due, {demand.running} running, {demand.orphaned} orphaned",
        once=now.isoformat(),
    )
    return [Scale(meta=pool.meta, target=spec.target_ref, replicas=desired), EmitEvent(notice=notice)]


def _status(
    pool: Resource[WorkerPoolSpec],
    target: TargetScale | None,
    demand: Demand | None,
    verdict: Verdict,
    refusal: Refusal | None,
    now: datetime,
) -> WorkerPoolStatus:
    facts = [*readiness(refusal), verdict.fact, _database(demand)]
    counted = None if demand is None else DemandStatus(due=demand.due, running=demand.running, orphaned=demand.orphaned)
    reported = None if demand is None else demand.slots_per_worker
    return WorkerPoolStatus(
        observed_generation=pool.meta.generation,
        conditions=conditions(facts, live=pool.status, generation=pool.meta.generation, now=now),
        replicas=None if target is None else target.existing,
        desired_replicas=verdict.desired,
        slots_per_replica=reported or pool.status.get("slotsPerReplica"),
        demand=counted,
    )


def _database(demand: Demand | None) -> Fact:
    if demand is None:
        return Fact("DatabaseReachable", False, Reason.DATABASE_UNREACHABLE)
    return Fact("DatabaseReachable", True, Reason.DATABASE_ANSWERS)
