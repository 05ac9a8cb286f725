"""Turns for pools: everything is read anew, planned, done, and remembered only when it was done.

Invariant: figures that could not be read are no figures: the plan then holds what stands.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pg_scheduler.demand import PoolRecord
from pg_scheduler.errors import DatabaseNotReady, DatabaseUnreachable
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.metrics import (
    LATE_SECONDS,
    SCALE_IN_HELD,
    SCALE_IN_MARKED_PODS,
    SCALE_IN_WRONG_VICTIMS,
    UNROUTABLE_JOBS,
)
from pg_scheduler_operator.reconcile import worker_pool
from pg_scheduler_operator.reconcile.pool_look import Look, Sibling
from pg_scheduler_operator.reconcile.pool_memory import Memory
from pg_scheduler_operator.reconcile.pool_record import lead_seconds
from pg_scheduler_operator.reconcile.pool_settings import made_at
from pg_scheduler_operator.reconcile.scaling import DEFAULT_SLOTS
from pg_scheduler_operator.resources import WorkerPoolSpec, read

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pg_scheduler.demand import Demand
    from pg_scheduler.pool_settings import PoolState
    from pg_scheduler_operator.execute import Executor
    from pg_scheduler_operator.gateway import Targets
    from pg_scheduler_operator.gateway.scheduler import Rows
    from pg_scheduler_operator.metrics import Metrics
    from pg_scheduler_operator.reconcile.worker_pool import PoolPlan
    from pg_scheduler_operator.resources import Key, Lookahead, Meta, Resource

logger = logging.getLogger(__name__)

T = TypeVar("T")

OF_POOLS: Final = (LATE_SECONDS, SCALE_IN_HELD, SCALE_IN_MARKED_PODS, SCALE_IN_WRONG_VICTIMS, UNROUTABLE_JOBS)
POOL_SECONDS: Final = 2.0
NEIGHBOURS_SECONDS: Final = 10.0
"""How old a list of the namespace's pools and autoscalers may be: they are listed once for all pools."""


class Recent(Generic[T]):
    """What was read for a name, kept for a while."""

    def __init__(self, read_for: Callable[[str], Awaitable[T]], *, seconds: float) -> None:
        self._read_for = read_for
        self._seconds = seconds
        self._kept: dict[str, tuple[float, T]] = {}

    async def of(self, name: str) -> T:
        """The value, read anew when it is too old."""
        now = asyncio.get_running_loop().time()
        kept = self._kept.get(name)
        if kept is None or now - kept[0] > self._seconds:
            kept = self._kept[name] = (now, await self._read_for(name))
        return kept[1]


class PoolTurns:
    """Works on pools."""

    def __init__(self, targets: Targets, rows: Rows, executor: Executor, metrics: Metrics) -> None:
        self._targets = targets
        self._rows = rows
        self._executor = executor
        self._metrics = metrics
        self._memories: dict[Key, Memory] = {}
        self._pools = Recent(targets.pools, seconds=NEIGHBOURS_SECONDS)
        self._autoscalers = Recent(targets.autoscalers, seconds=NEIGHBOURS_SECONDS)

    async def turn(self, pool: Resource[WorkerPoolSpec]) -> float:
        """One turn; in how many seconds the next one is due."""
        key = pool.meta.key
        look = await self._look(pool)
        plan = worker_pool.plan(pool, look, self._memories.get(key, Memory()))
        done = await self._executor.execute(plan.actions)
        self._memories[key] = plan.memory
        self._count(key, plan)
        self._show(key, look.demand)
        wishes = (POOL_SECONDS, plan.again_in_seconds, done.again_in_seconds)
        return min(each for each in wishes if each is not None)

    def forget(self, key: Key) -> None:
        """The pool is gone."""
        self._memories.pop(key, None)
        for metric in OF_POOLS:
            self._metrics.drop(metric, key.namespace, key.name)

    def _count(self, key: Key, plan: PoolPlan) -> None:
        self._metrics.set(SCALE_IN_HELD, plan.is_held, key.namespace, key.name)
        self._metrics.set(SCALE_IN_MARKED_PODS, plan.marked_pods, key.namespace, key.name)
        if plan.wrong_victims:
            self._metrics.count(SCALE_IN_WRONG_VICTIMS, key.namespace, key.name, by=plan.wrong_victims)
            about = {"object": str(key)}
            logger.warning("%s: %d pods were deleted that were not to go", key, plan.wrong_victims, extra=about)

    def _show(self, key: Key, demand: Demand | None) -> None:
        """Old figures would hold an alert up, or down, for as long as the database is away."""
        if demand is None:
            self._metrics.drop(LATE_SECONDS, key.namespace, key.name)
            self._metrics.drop(UNROUTABLE_JOBS, key.namespace, key.name)
            return
        self._metrics.set(LATE_SECONDS, demand.late_seconds, key.namespace, key.name)
        self._metrics.set(UNROUTABLE_JOBS, demand.unroutable_jobs, key.namespace, key.name)

    async def _look(self, pool: Resource[WorkerPoolSpec]) -> Look:
        spec, meta = pool.spec, pool.meta
        if isinstance(spec, InvalidSpec):
            _, demand = await self._figures(meta, None)
            return Look(target=None, now=_now(), demand=demand)
        settings = await self._settings(meta, spec)
        records, demand = await self._figures(meta, spec.autoscaling.lookahead)
        target = await self._targets.scale_of(meta, spec.target_ref)
        if target is None:
            own = records.get(meta.key.name, PoolRecord())
            return Look(target=None, now=_now(), demand=demand, record=own, settings=settings)
        autoscalers = await self._autoscalers.of(meta.key.namespace)
        pods = await self._targets.pods(meta, target.selector)  # after the figures: a worker's pod is then among them
        return Look(
            target=target,
            now=_now(),
            pods=pods,
            demand=demand,
            record=records.get(meta.key.name, PoolRecord()),
            settings=settings,
            siblings=await self._siblings(meta, records),
            autoscaler=autoscalers.get(spec.target_ref.name),
        )

    async def _settings(self, meta: Meta, spec: WorkerPoolSpec) -> PoolState | None:
        try:
            return await self._rows.pool(meta.source, made_at(meta), list(spec.settings.queues))
        except (DatabaseUnreachable, DatabaseNotReady):
            return None

    async def _figures(self, meta: Meta, lookahead: Lookahead | None) -> tuple[Mapping[str, PoolRecord], Demand | None]:
        """What is kept of the namespace's pools, and what is asked of its workers."""
        try:
            records = await self._rows.pool_records(meta.key.namespace)
            own = records.get(meta.key.name, PoolRecord())
            ahead = 0.0 if lookahead is None else lead_seconds(own, lookahead)
            return records, await self._rows.demand(meta.key.namespace, ahead_seconds=ahead)
        except (DatabaseUnreachable, DatabaseNotReady):
            return {}, None

    async def _siblings(self, meta: Meta, records: Mapping[str, PoolRecord]) -> Sequence[Sibling]:
        bodies = await self._pools.of(meta.key.namespace)
        found = (_sibling(body, meta.cluster, records) for body in bodies if body["metadata"]["uid"] != meta.uid)
        return [sibling for sibling in found if sibling is not None]


def _sibling(body: Mapping[str, Any], cluster: str, records: Mapping[str, PoolRecord]) -> Sibling | None:
    pool = read(WorkerPoolSpec, body, cluster=cluster)
    if isinstance(pool.spec, InvalidSpec) or pool.meta.is_deleting or pool.meta.created_at is None:
        return None
    slots = pool.status.get("slotsPerReplica") or pool.spec.slots_hint or DEFAULT_SLOTS
    return Sibling(
        name=pool.meta.key.name,
        uid=pool.meta.uid,
        created_at=pool.meta.created_at,
        target=pool.spec.target_ref.name,
        queues=records.get(pool.meta.key.name, PoolRecord()).queues,
        capacity=slots * (pool.spec.autoscaling.max_replicas or 1),
    )


def _now() -> datetime:
    return datetime.now(UTC)
