"""What a WorkerPool's status says.

Invariant: figures that nobody knows keep their last value; a condition that nobody can judge is not claimed to hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.pool_record import lead_seconds, own_workers
from pg_scheduler_operator.reconcile.pool_settings import queue_conflict
from pg_scheduler_operator.resources import DemandStatus, WorkerPoolStatus
from pg_scheduler_operator.status import Fact, Reason, conditions, live_fact, readiness

if TYPE_CHECKING:
    from pg_scheduler.demand import Demand, PoolRecord
    from pg_scheduler_operator.reconcile.pool_look import Look
    from pg_scheduler_operator.resources import Resource, WorkerPoolSpec
    from pg_scheduler_operator.status import Refusal


def pool_status(
    pool: Resource[WorkerPoolSpec],
    look: Look,
    record: PoolRecord,
    scaling: Fact,
    desired: int | None,
    hold: Refusal | None,
    refusal: Refusal | None,
) -> WorkerPoolStatus:
    """The status to be."""
    facts = [*readiness(refusal), scaling, *_database(pool, look.demand), _degraded(pool, look, hold)]
    target, demand = look.target, look.demand
    lead = None if isinstance(pool.spec, InvalidSpec) else lead_seconds(record, pool.spec.autoscaling.lookahead)
    return WorkerPoolStatus(
        observed_generation=pool.meta.generation,
        conditions=conditions(facts, live=pool.status, generation=pool.meta.generation, now=look.now),
        replicas=None if target is None else target.existing,
        ready_replicas=None if target is None else sum(pod.is_ready and not pod.is_terminating for pod in look.pods),
        desired_replicas=desired,
        selector=None if target is None or not target.selector else target.selector,
        slots_per_replica=_reported_slots(look) or pool.status.get("slotsPerReplica"),
        lead_seconds=pool.status.get("leadSeconds") if demand is None or lead is None else round(lead),
        schema_version=pool.status.get("schemaVersion") if demand is None else demand.schema_version,
        demand=None if demand is None else _counted(demand, lead or 0.0),
        tasks=tuple(pool.status.get("tasks", ()) if demand is None else record.tasks),
    )


def _reported_slots(look: Look) -> int | None:
    if look.demand is None:
        return None
    return min((each.slots for each in own_workers(look.demand, {pod.uid for pod in look.pods})), default=None)


def _counted(demand: Demand, lead: float) -> DemandStatus:
    return DemandStatus(
        due=sum(each.jobs for each in demand.waiting if each.in_seconds == 0),
        upcoming=sum(each.jobs for each in demand.waiting if 0 < each.in_seconds <= lead),
        running=sum(each.jobs for each in demand.running if each.on_living_worker),
        orphaned=sum(each.jobs for each in demand.running if not each.on_living_worker),
    )


def _database(pool: Resource[WorkerPoolSpec], demand: Demand | None) -> list[Fact]:
    if demand is None:
        unknown = Fact("SchemaCurrent", None, Reason.DATABASE_UNREACHABLE)
        return [
            Fact("DatabaseReachable", False, Reason.DATABASE_UNREACHABLE),
            live_fact(pool.status, "SchemaCurrent", otherwise=unknown),
        ]
    return [Fact("DatabaseReachable", True, Reason.DATABASE_ANSWERS), _schema(demand)]


def _schema(demand: Demand) -> Fact:
    if demand.is_schema_current:
        return Fact("SchemaCurrent", True, Reason.SCHEMA_CURRENT)
    message = (
        f"the database is at migration {demand.schema_version}, which is not the newest of this operator's release"
    )
    return Fact("SchemaCurrent", False, Reason.SCHEMA_OUTDATED, message)


def _degraded(pool: Resource[WorkerPoolSpec], look: Look, hold: Refusal | None) -> Fact:
    """What hinders the draining of workers, as far as it will not pass by itself; else what is set by another pool."""
    if hold is not None and hold.reason is not Reason.PODS_CHANGING:
        return Fact("Degraded", True, hold.reason, hold.message)
    graces = [pod.grace_seconds for pod in look.pods]
    if not isinstance(pool.spec, InvalidSpec) and graces and min(graces) < pool.spec.drain.timeout_seconds:
        grace, drain = min(graces), pool.spec.drain.timeout_seconds
        message = f"terminationGracePeriodSeconds is {grace}, drain.timeoutSeconds {drain}: raise the first"
        return Fact("Degraded", True, Reason.GRACE_TOO_SHORT, message)
    if (conflict := queue_conflict(look.settings)) is not None:
        return Fact("Degraded", True, conflict.reason, conflict.message)
    healthy = Fact("Degraded", False, Reason.HEALTHY)
    said = live_fact(pool.status, "Degraded", otherwise=healthy)
    is_over = bool(graces) or said.reason is Reason.QUEUE_CONFLICT
    return healthy if is_over and look.settings is not None else said
