"""The loop that brings what stands to what is wanted.

Invariants: whatever fails is tried again; nothing here trusts an event or remembers an object: each turn reads the
object and its row anew.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from pg_scheduler.control import ScheduleTrace
from pg_scheduler.errors import DatabaseNotReady, DatabaseUnreachable, PgSchedulerError
from pg_scheduler_operator.errors import InvalidSpec, KubernetesError, ObjectGone
from pg_scheduler_operator.execute import Executor
from pg_scheduler_operator.metrics import QUEUE_DEPTH, RECONCILE_FAILURES, RECONCILE_SECONDS
from pg_scheduler_operator.reconcile import periodic_job, scheduled_job
from pg_scheduler_operator.reconcile.common import CLEANUP_DEFERRED_AFTER, is_news, let_go_without_database
from pg_scheduler_operator.reconciler.crowds import Crowds
from pg_scheduler_operator.reconciler.departures import Departures
from pg_scheduler_operator.reconciler.loops import Loop, repeat, report
from pg_scheduler_operator.reconciler.pools import PoolTurns
from pg_scheduler_operator.resources import (
    JobTemplate,
    Key,
    Kind,
    PeriodicJobSpec,
    ScheduledJobSpec,
    WorkerPoolSpec,
    read,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pg_scheduler.control import JobState, Source
    from pg_scheduler_operator.gateway import Resources, Targets
    from pg_scheduler_operator.gateway.scheduler import Changed, Rows
    from pg_scheduler_operator.metrics import Metrics
    from pg_scheduler_operator.pacing import Pacer
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.reconciler.queue import KeyQueue
    from pg_scheduler_operator.reconciler.sweep import Sweeper
    from pg_scheduler_operator.resources import Meta, Resource, Spec, TaskSpec
    from pg_scheduler_operator.status import Refusal

logger = logging.getLogger(__name__)

CHANGES_SECONDS: Final = 1.0
CROWD_SECONDS: Final = 0.5
LOOK_AT_MOST_SECONDS: Final = 5.0
SWEEP_SECONDS: Final = 300.0
WORKERS: Final = 10
PASSES: Final = 4
"""Plans in one turn: make, cancel, say so, and one for a writer in between."""

_Row: TypeAlias = tuple[Key, str | None]
"""A job's has its id beside the key: an object made anew has the key of the one before, whose job may still run."""


class Reconciler:
    """Works on keys, looks for changed rows, and has rows swept."""

    def __init__(
        self,
        *,
        queue: KeyQueue,
        resources: Resources,
        targets: Targets,
        rows: Rows,
        pacer: Pacer[Key],
        sweeper: Sweeper,
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._resources = resources
        self._rows = rows
        self._pacer = pacer
        self._sweeper = sweeper
        self._metrics = metrics
        self._executor = Executor(resources, targets, rows, pacer, metrics)
        self._pools = PoolTurns(targets, rows, self._executor, metrics)
        self._crowds = Crowds(queue, resources, pacer, self._work_on)
        self._departures = Departures(rows)
        self._seen: dict[_Row, JobState | ScheduleTrace] = {}
        self._turns: dict[Key, float] = {}
        self._database_answers = True

    @property
    def longest_turn_seconds(self) -> float:
        """How long the turn has taken so far that began first; 0 without one."""
        return monotonic() - min(self._turns.values(), default=monotonic())

    def gone(self, key: Key, uid: str) -> None:
        """An object is no more: that is known, and no sign of a lost list."""
        if key.kind is Kind.PERIODIC_JOB:
            self._departures.tell(key, uid)
            self._sweeper.let_go(uid)
        self._queue.put(key)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(self._work())
                group.create_task(
                    repeat(
                        Loop.CHANGES,
                        self.enqueue_changed,
                        CHANGES_SECONDS,
                        at_most_seconds=LOOK_AT_MOST_SECONDS,
                        metrics=self._metrics,
                    )
                )
                group.create_task(repeat(Loop.CROWD, self._crowds.run_once, CROWD_SECONDS, metrics=self._metrics))
                group.create_task(repeat(Loop.SWEEP, self._sweeper.run_once, SWEEP_SECONDS, metrics=self._metrics))
                group.create_task(self._call_for_statuses())
        finally:
            self._queue.close()

    async def _work(self) -> None:
        while True:
            await self._work_on(await self._queue.get())

    async def _work_on(self, key: Key, body: Mapping[str, Any] | None = None) -> None:
        try:
            again_in_seconds = await self._turn(key, body)
        except ObjectGone:  # the object itself, or a pool's target: the next turn sees which
            self._queue.done(key, again_in_seconds=CHANGES_SECONDS)
        except DatabaseUnreachable:
            self._queue.failed(key)  # told by the loop that looks for changes, which also ends the waiting
        except Exception as error:  # noqa: BLE001 (a worker outlives any object; the key comes back)
            self._metrics.count(RECONCILE_FAILURES, key.kind)
            at_least = error.retry_after if isinstance(error, KubernetesError) else 0
            report(key, error, self._queue.failed(key, at_least_seconds=at_least))
        else:
            self._queue.done(key, again_in_seconds=again_in_seconds)

    async def _turn(self, key: Key, body: Mapping[str, Any] | None) -> float | None:
        began_at = monotonic()
        self._turns[key] = began_at
        try:
            return await self.reconcile(key, body)
        finally:
            self._pacer.done(key)
            del self._turns[key]
            self._metrics.observe(RECONCILE_SECONDS, monotonic() - began_at, key.kind)
            self._metrics.set(QUEUE_DEPTH, len(self._queue))

    async def _call_for_statuses(self) -> None:
        """Turns for those whose status was held back, in their order: each writes what is true by then."""
        while True:
            self._queue.put_first(await self._pacer.called())

    async def reconcile(self, key: Key, body: Mapping[str, Any] | None = None) -> float | None:
        """One turn for one object; in how many seconds it wants another one without being asked.

        Args:
            key: which object.
            body: the object if it has just been read, among many.
        """
        refusal: Refusal | None = None
        if await self._departures.withdraw(key):
            body = None
        for _ in range(PASSES):
            body = body or await self._resources.get(key)
            if body is None:
                self._pacer.forget(key)
                self._pools.forget(key)
                if key.kind is Kind.WORKER_POOL:
                    await self._rows.forget_pool(key.namespace, key.name)
                return None
            if key.kind is Kind.WORKER_POOL:
                return await self._pools.turn(read(WorkerPoolSpec, body, cluster=self._rows.cluster))
            done = await self._executor.execute(await self._plan(body, refusal))
            if not done.plan_again:
                return done.again_in_seconds
            body, refusal = None, done.refusal
        return CHANGES_SECONDS

    async def _plan(self, body: Mapping[str, Any], refusal: Refusal | None) -> list[Action]:
        kind = Kind(body["kind"])
        match kind:
            case Kind.SCHEDULED_JOB:
                return await self._plan_scheduled_job(read(ScheduledJobSpec, body, cluster=self._rows.cluster), refusal)
            case Kind.PERIODIC_JOB:
                return await self._plan_periodic_job(read(PeriodicJobSpec, body, cluster=self._rows.cluster), refusal)
            case Kind.WORKER_POOL:
                raise AssertionError("pools have turns of their own")
            case _:
                assert_never(kind)

    async def _plan_scheduled_job(self, job: Resource[ScheduledJobSpec], refusal: Refusal | None) -> list[Action]:
        referred = await self._referred(job)
        template = scheduled_job.template_of(job, referred)
        task = template.spec if isinstance(template, JobTemplate) else None
        try:
            row = await self._rows.job(scheduled_job.job_id(job))
            unknown = row is not None and await self._is_unknown(job, task)
        except (DatabaseUnreachable, DatabaseNotReady) as error:
            return self._without_database(job.meta, error)
        return scheduled_job.plan(job, row, now=_now(), referred=referred, refusal=refusal, task_unknown=unknown)

    async def _referred(self, job: Resource[ScheduledJobSpec]) -> Resource[PeriodicJobSpec] | None:
        """The PeriodicJob of an extra run, as it stands."""
        if isinstance(job.spec, InvalidSpec) or job.spec.periodic_job_ref is None:
            return None
        name = job.spec.periodic_job_ref.name
        body = await self._resources.get(Key(kind=Kind.PERIODIC_JOB, namespace=job.meta.key.namespace, name=name))
        return None if body is None else read(PeriodicJobSpec, body, cluster=self._rows.cluster)

    async def _plan_periodic_job(self, job: Resource[PeriodicJobSpec], refusal: Refusal | None) -> list[Action]:
        task = None if isinstance(job.spec, InvalidSpec) else job.spec.job_template.spec
        try:
            row = await self._rows.schedule(job.meta.source)
            unknown = row is not None and await self._is_unknown(job, task)
        except (DatabaseUnreachable, DatabaseNotReady) as error:
            return self._without_database(job.meta, error)
        recounted_in_seconds = self._rows.recounted_in_seconds(job.meta.source)
        if recounted_in_seconds is not None:
            self._queue.put_later(job.meta.key, recounted_in_seconds)
        return periodic_job.plan(job, row, now=_now(), refusal=refusal, task_unknown=unknown)

    def _without_database(self, meta: Meta, error: PgSchedulerError) -> list[Action]:
        now = _now()
        actions = let_go_without_database(meta, now)
        if actions:
            self._sweeper.let_go(meta.uid)
            return actions
        if meta.deletion_at is not None:
            self._queue.put_later(meta.key, (meta.deletion_at + CLEANUP_DEFERRED_AFTER - now).total_seconds() + 0.1)
        raise error

    async def _is_unknown(self, resource: Resource[Spec], task: TaskSpec | None) -> bool:
        if task is None or not is_news(resource):
            return False
        return await self._rows.is_unknown(resource.meta.key.namespace, task.task)

    async def enqueue_changed(self) -> int:
        """One look at the rows: the keys of those that differ from the look before, or have stopped running unseen."""
        changed = await self._look()
        states: dict[_Row, JobState | ScheduleTrace] = {}
        states |= {(_key(job.source), job.job_id): job for job in changed.jobs if job.source is not None}
        states |= {(_key(schedule), None): schedule for schedule in changed.schedules}
        rows = {row for row, state in states.items() if self._seen.get(row) != state}
        rows |= {row for row, state in self._seen.items() if row not in states and _was_running(state)}
        keys = {key for key, _ in rows}
        self._seen = states
        for key in keys:
            self._queue.put(key)
        return len(keys)

    async def _look(self) -> Changed:
        try:
            changed = await self._rows.changed()
        except DatabaseUnreachable:
            self._database_answers = False
            raise
        if not self._database_answers:
            self._queue.retry_failed()
        self._database_answers = True
        return changed


def _key(source: Source | ScheduleTrace) -> Key:
    return Key(kind=Kind(source.kind), namespace=source.tenant, name=source.name)


def _was_running(state: JobState | ScheduleTrace) -> bool:
    return state.runs if isinstance(state, ScheduleTrace) else not state.status.is_final


def _now() -> datetime:
    return datetime.now(UTC)
