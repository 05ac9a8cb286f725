"""The worker that a scheduler is between its start and its shutdown.

Invariants: starts and stops happen one after the other; a start that fails leaves nothing behind, and after a shutdown
there may be another start, which is a worker of a new name.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

from pg_scheduler._domain.jobs import ClaimedJob, Row
from pg_scheduler._engine.agenda import Agenda
from pg_scheduler._engine.by_hand import HandDriven
from pg_scheduler._engine.own_worker import OwnWorker
from pg_scheduler._engine.performing import TimeLimit
from pg_scheduler._engine.slots import HeldJob
from pg_scheduler._engine.vitals import Vitals
from pg_scheduler._store import migrator
from pg_scheduler._store.database import direct_connection
from pg_scheduler._store.workers import WorkerCard
from pg_scheduler._wiring.basis import WorkerBasis
from pg_scheduler._wiring.by_hand import wire_by_hand
from pg_scheduler._wiring.engine import EngineParts, wire_engine
from pg_scheduler._wiring.identity import worker_card
from pg_scheduler.errors import InvalidArgument, MainLoopStalled
from pg_scheduler.job_status import JobStatus
from pg_scheduler.tasks import registry as task_registry
from pg_scheduler.vacuum import VacuumConfig


class Worker:
    """What a scheduler starts and stops."""

    def __init__(self, basis: WorkerBasis, *, auto_migrate: bool, new_id: Callable[[], str]) -> None:
        self._basis = basis
        self._auto_migrate = auto_migrate
        self._new_id = new_id
        self._engine: EngineParts | None = None
        self._vitals: Callable[[], Vitals] | None = None
        self._on_stall: Callable[[MainLoopStalled], None] = _only_raise
        self._changing = asyncio.Lock()
        self._stopping: asyncio.Task[None] | None = None

    @property
    def engine(self) -> EngineParts | None:
        """What it consists of; None unless started."""
        return self._engine

    @property
    def own_worker(self) -> OwnWorker | None:
        """Who takes jobs that are submitted in this process; None unless started."""
        return self._engine.own_worker if self._engine else None

    @property
    def is_stopping(self) -> bool:
        """Whether a shutdown is under way."""
        return self._stopping is not None

    def held(self) -> list[HeldJob]:
        """The jobs that it holds now."""
        return self._engine.slots.held() if self._engine else []

    def vitals(self) -> Vitals | None:
        """How it is, or was when it ended; None before the first start."""
        return self._vitals() if self._vitals is not None else None

    def on_stall(self, callback: Callable[[MainLoopStalled], None]) -> None:
        """Have this called, in the heartbeat's thread, when the event loop stands still; of the next start."""
        self._on_stall = callback

    def register_declared(self) -> None:
        """Make runnable what the decorators of this process have named so far."""
        for key, function in task_registry.functions().items():
            self._basis.registry.add(function, key)
        for function in self._basis.submitting.periodic.functions():
            self._basis.registry.add(function)

    async def migrate(self) -> None:
        """Bring the tables to this release's schema."""
        await migrator.migrate_place_of(self._basis.pool, self._basis.addresses.for_migrations)

    async def start(self, retention: VacuumConfig | None) -> None:
        """Run jobs and schedules, and delete what ``retention`` lets go; nothing happens when it runs already."""
        async with self._changing:
            if self._engine is None:
                self._engine = await self._started(retention)
                self._vitals = self._engine.vitals

    async def shutdown(self) -> None:
        """End in order; nothing happens unless it runs."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="pg_scheduler shutdown")
        await asyncio.shield(self._stopping)

    async def wait_failed(self) -> None:
        """Until a part dies; raises what killed it. Returns at once unless started."""
        if self._engine is not None:
            await self._engine.lifecycle.wait_failed()

    async def wait_stopped(self) -> None:
        """Until it has stopped in order; raises what killed a part. Returns at once unless started."""
        if self._engine is not None:
            await self._engine.lifecycle.wait_stopped()

    async def wait_ended(self, service: str) -> None:
        """Until a service has ended. Returns at once unless started."""
        if self._engine is not None:
            await self._engine.lifecycle.wait_ended(service)

    def beat_soon(self) -> None:
        """Renew the lease now; nothing unless started."""
        if self._engine is not None:
            self._engine.heartbeat.beat_soon()

    async def rescue(self) -> int:
        """Return the jobs of dead workers to the queue; how many."""
        rescuer = self._engine.rescuer if self._engine else self._basis.submitting.rescuer
        rescued = await rescuer.take_from_the_dead()
        return rescued.requeued + rescued.failed

    async def run_held(self, job_row: Row, *, waits_for_slot: bool) -> None:
        """Run the job of a row that it has claimed, and see it to its outcome."""
        engine, job = self._holder_of(job_row)
        while waits_for_slot and engine.slots.free <= 0:  # noqa: ASYNC110  the seed's own pace for this
            await asyncio.sleep(self._basis.config.polling.semaphore_full_interval)
        await engine.executor.run_alone(job)

    async def by_hand(self, agenda: Agenda, time_limit: TimeLimit) -> HandDriven:
        """A worker as ``start`` makes one, of which nothing runs by itself: ``testing`` drives it."""
        await self._prepare()
        card = replace(self._card(), worker_id=self._new_id(), pod_uid=None)
        worker = await wire_by_hand(self._basis, card, agenda=agenda, time_limit=time_limit)
        try:
            await worker.begin()
        except BaseException:
            await worker.end()
            raise
        return worker

    def _holder_of(self, job_row: Row) -> tuple[EngineParts, ClaimedJob]:
        if self._engine is None:
            raise InvalidArgument("this scheduler runs no jobs", fix="start() it first")
        if job_row["status"] != JobStatus.RUNNING or job_row["worker_id"] != self._engine.lease.worker_id:
            raise InvalidArgument(
                f"job {job_row['job_id']!r} is not held by this worker", why="a job runs under the claim of its worker"
            )
        if job_row["task"] not in self._basis.registry.functions():
            raise InvalidArgument(
                f"task {str(job_row['task'])[:80]!r} is not registered here", fix="register() its function"
            )
        return self._engine, ClaimedJob.of_row(job_row)

    def _card(self) -> WorkerCard:
        schedules = self._basis.submitting.periodic.uids()
        return worker_card(self._basis.config, schedules=schedules, environment=os.environ)

    async def _prepare(self) -> None:
        await self._prepare_tables()
        self.register_declared()

    async def _prepare_tables(self) -> None:
        if self._auto_migrate:
            await self.migrate()
            return
        database, addresses = self._basis.submitting.database, self._basis.addresses
        async with direct_connection(database, addresses.for_migrations) as connection:
            await migrator.require_head(connection)

    async def _started(self, retention: VacuumConfig | None) -> EngineParts:
        await self._prepare()
        submitting, card = self._basis.submitting, self._card()
        engine = await wire_engine(self._basis, card, retention, new_worker_id=self._new_id, on_stall=self._on_stall)
        try:
            await engine.lifecycle.start()
            await submitting.periodic.declare(engine.schedules)
            await engine.rescuer.take_from_the_dead(pod_uid=card.pod_uid, tenant=card.tenant)
            await submitting.older_package.run_once()
        except BaseException:
            await engine.lifecycle.stop()
            await engine.close()
            raise
        return engine

    async def _stop(self) -> None:
        try:
            async with self._changing:  # a start that is under way ends first
                engine, self._engine = self._engine, None
                if engine is not None:
                    await engine.lifecycle.stop()
                    await engine.close()
        finally:
            self._stopping = None


def _only_raise(_: MainLoopStalled) -> None:
    """What happens in the thread if nobody asked for more: ``wait_failed`` raises it once the loop turns again."""
