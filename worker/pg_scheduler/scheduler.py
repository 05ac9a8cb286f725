"""The façade: what users call, each method one delegation.

Invariant: constructing a ``Scheduler`` has no side effect; the caller's pool is borrowed and never closed.
"""

import asyncio
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from pg_scheduler._domain import checks, codec
from pg_scheduler._domain.schedules import CODE, ScheduleDefinition, ScheduleKey, Template
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._store import migrator
from pg_scheduler._store.database import require_pool
from pg_scheduler._store.wakeups import Bell
from pg_scheduler._wiring import (
    EngineParts,
    SubmissionParts,
    new_worker_id,
    wire_engine,
    wire_submission,
    worker_card,
)
from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.job_spec import _UNSET, JobSpec, OnFull
from pg_scheduler.job_status import JobStatus
from pg_scheduler.periodic import PeriodicJobConfig
from pg_scheduler.periodic import registry as periodic_registry
from pg_scheduler.polling import PollingConfig
from pg_scheduler.tasks import Registry, TaskFunction
from pg_scheduler.tasks import registry as task_registry
from pg_scheduler.vacuum import VacuumConfig

if TYPE_CHECKING:
    import asyncpg


class Scheduler:
    """Schedules jobs into PostgreSQL and, once started, runs them.

    Jobs are rows: a process may schedule without ever starting, and any started scheduler of the same tenant runs
    what it knows the task of. Several schedulers may live in one process.
    """

    HEARTBEAT_THRESHOLD = 120
    LEASE_DURATION = 60
    WORKER_ID_LENGTH = 8

    def __init__(
        self,
        db_pool: "asyncpg.Pool[asyncpg.Record]",
        max_concurrent_jobs: int = 25,
        misfire_grace_time: int | None = 300,
        vacuum_config: VacuumConfig | None = None,
        vacuum_enabled: bool = True,
        batch_claim_limit: int = 10,
        polling_config: PollingConfig | None = None,
        *,
        tenant: str | None = None,
        queues: Sequence[str] = ("default",),
        lease_seconds: float | None = None,
        shutdown_timeout: float = 25.0,
        auto_migrate: bool = True,
    ) -> None:
        """Keep the settings; nothing is connected or started.

        Args:
            db_pool: an open asyncpg pool, borrowed for submissions. A started scheduler opens connections of its own,
                to the same place.
            max_concurrent_jobs: slots of this worker.
            misfire_grace_time: seconds after which a job that never started expires; None never. Stored with each job,
                not judged yet: a job that is late runs late.
            vacuum_config: retention of finished jobs.
            vacuum_enabled: whether this worker deletes what its retention lets go.
            batch_claim_limit: how many jobs one claim takes at most.
            polling_config: pace of polling; of it only ``min_interval`` is used yet.
            tenant: whose jobs this process schedules and runs; ``$PGSCHEDULER_TENANT`` if not given, else ``''``.
            queues: the queues that this worker serves.
            lease_seconds: how long the database believes in this worker without a beat; ``LEASE_DURATION`` if None.
            shutdown_timeout: seconds that a shutdown waits for running jobs before it hands them back.
            auto_migrate: whether ``start`` brings the tables up to date; otherwise it only checks them.

        Raises:
            InvalidArgument: a setting out of its range, or a pool that is closed.
        """
        require_pool(db_pool)
        self.db_pool = db_pool
        self.vacuum_config = vacuum_config or VacuumConfig()
        self.vacuum_enabled = vacuum_enabled
        self._auto_migrate = auto_migrate
        self._config = EngineConfig(
            tenant=os.environ.get("PGSCHEDULER_TENANT", "") if tenant is None else tenant,
            queues=tuple(queues) if not isinstance(queues, str) else (queues,),
            slots=max_concurrent_jobs,
            claim_limit=batch_claim_limit,
            lease_seconds=self.LEASE_DURATION if lease_seconds is None else lease_seconds,
            shutdown_seconds=shutdown_timeout,
            misfire_grace_time=misfire_grace_time,
            polling=polling_config or PollingConfig(),
        )
        self._bell = Bell()
        self._registry = Registry()
        self._submission: SubmissionParts = wire_submission(
            db_pool, self._registry, self._config, self.vacuum_config, self._bell
        )
        self._engine: EngineParts | None = None
        self._changing = asyncio.Lock()
        self._stopping: asyncio.Task[None] | None = None

    @property
    def worker_id(self) -> str | None:
        """Name of the present incarnation; None unless started."""
        return self._engine.lease.worker_id if self._engine else None

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not yet shut down."""
        return self._engine is not None

    @property
    def is_shutting_down(self) -> bool:
        """Whether ``shutdown`` is under way."""
        return self._stopping is not None

    @property
    def misfire_grace_time(self) -> int | None:
        """Seconds after which a job that never started expires; None never."""
        return self._config.misfire_grace_time

    @property
    def batch_claim_limit(self) -> int:
        """How many jobs one claim takes at most."""
        return self._config.claim_limit

    @property
    def polling_config(self) -> PollingConfig:
        """Pace of polling where the server cannot wake this worker."""
        return self._config.polling

    @property
    def task_map(self) -> dict[str, TaskFunction]:
        """The functions that this scheduler runs, by task key."""
        return self._registry.functions()

    @property
    def active_jobs(self) -> set[str]:
        """Ids of the jobs that this worker holds now."""
        return {held.job.job_id for held in self._engine.slots.held()} if self._engine else set()

    @property
    def active_tasks(self) -> dict[str, "asyncio.Task[None]"]:
        """The asyncio tasks of the jobs that run here now, by job id."""
        held_jobs = self._engine.slots.held() if self._engine else []
        return {held.job.job_id: held.task for held in held_jobs if held.task is not None}

    def register(self, *functions_or_modules: TaskFunction | ModuleType) -> list[str]:
        """Make tasks runnable here: an async function, or every public one that a module defines; their keys.

        Raises:
            TypeError: neither an async function nor a module.
            InvalidArgument: a key is taken by other code.
        """
        keys: list[str] = []
        for item in functions_or_modules:
            keys += self._registry.add_module(item) if isinstance(item, ModuleType) else [self._registry.add(item)]
        return keys

    async def initialize_db(self) -> None:
        """Bring the tables to this release's schema; safe from many processes at once.

        Raises:
            SchemaMismatch: the schema is newer than this release reads, or belongs to the older package.
            DatabaseUnreachable: nobody answers there.
        """
        async with self._submission.database.connection() as connection:
            await migrator.migrate(connection)

    async def start(self) -> None:
        """Start to run jobs and schedules; nothing happens when it runs already.

        Raises:
            SchemaMismatch: with ``auto_migrate=False``, when migrations are pending.
            DatabaseUnreachable: nobody answers there.
        """
        async with self._changing:
            if self._engine is None:
                self._engine = await self._started()

    async def shutdown(self) -> None:
        """Stop taking jobs, let those that run end, hand the rest back; nothing happens unless it runs."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="pg_scheduler shutdown")
        await asyncio.shield(self._stopping)

    async def wait_failed(self) -> None:
        """Until a part of the engine dies; raises what killed it. Returns at once unless started."""
        if self._engine is not None:
            await self._engine.lifecycle.wait_failed()

    async def __aenter__(self) -> "Scheduler":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def schedule(
        self,
        func: TaskFunction,
        *,
        execution_time: datetime,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        priority: JobPriority = JobPriority.NORMAL,
        max_retries: int = 0,
        job_id: str | None = None,
        conflict_resolution: ConflictResolution = ConflictResolution.RAISE,
        misfire_grace_time: int | None | object = _UNSET,
        concurrency_key: str | None = None,
        concurrency_limit: int | None = None,
        on_full: OnFull = "wait",
    ) -> str:
        """Schedule an async function; when this returns, the job is committed.

        A ``DatabaseUnreachable`` from here means *unknown*: repeat with the same ``job_id`` and ``IGNORE``.

        Args:
            func: an async function, run by any worker that has registered it.
            execution_time: aware instant; a past one runs at once.
            args: positional arguments, exactly representable as JSON.
            kwargs: keyword arguments, exactly representable as JSON.
            priority: among the due jobs of the queue.
            max_retries: attempts after the first that fails.
            job_id: 1 to 200 bytes; a UUID of version 7 if not given.
            conflict_resolution: what to do when the id is taken.
            misfire_grace_time: seconds; the scheduler's if not given, None never expires.
            concurrency_key: 1 to 200 bytes; of the tenant's jobs that share it, at most the key's limit run at a time.
            concurrency_limit: 1 to 10,000; the key's limit from now on. A key that was never given one has 1.
            on_full: what becomes of the job if its key is full when it is due: ``wait`` for its turn, ``skip`` (it ends
                cancelled), or ``replace`` (the oldest that runs is cancelled and told to stop).

        Returns:
            The job id.

        Raises:
            TypeError: not an async function.
            InvalidArgument: an argument that cannot be used; nothing was written.
            JobExists: the id is taken (``RAISE``).
            DatabaseUnreachable: no answer; the job may or may not exist.
        """
        spec = JobSpec(
            func,
            execution_time,
            args,
            kwargs or {},
            priority,
            max_retries,
            job_id,
            misfire_grace_time,
            concurrency_key=concurrency_key,
            concurrency_limit=concurrency_limit,
            on_full=on_full,
        )
        return await self._submission.submission.schedule(spec, conflict_resolution)

    async def schedule_bulk(
        self,
        jobs: list[JobSpec] | Iterable[JobSpec],
        *,
        conflict_resolution: ConflictResolution = ConflictResolution.IGNORE,
        batch_size: int = 1000,
    ) -> list[str | None]:
        """Schedule many jobs; a sequence is checked whole before anything is written, an iterator batch by batch.

        ``RAISE`` is one transaction for the whole call; with ``IGNORE`` and ``REPLACE`` each batch is committed alone,
        and an error names how many jobs were submitted before.

        Args:
            jobs: the jobs, or an iterable of them, of which only ids are kept.
            conflict_resolution: what to do with ids that are taken, or named twice: ``IGNORE`` keeps the first,
                ``REPLACE`` the last.
            batch_size: jobs of one transaction, 1 to 100,000.

        Returns:
            The job ids in the order of the input, None at positions that were not inserted.

        Raises:
            TypeError: not an async function; the message begins with the index.
            InvalidArgument: an argument that cannot be used; the message begins with the index.
            JobExists: an id is taken (``RAISE``); nothing was written.
            DatabaseUnreachable: no answer; the last batch may or may not exist.
        """
        return await self._submission.bulk.schedule(jobs, conflict_resolution, batch_size)

    async def schedule_job(
        self,
        job_name: str,
        execution_time: datetime,
        task_data: dict[str, Any],
        priority: JobPriority = JobPriority.NORMAL,
        max_retries: int = 0,
        job_id: str | None = None,
        conflict_resolution: ConflictResolution = ConflictResolution.RAISE,
        misfire_grace_time: int | None = None,
        *,
        concurrency_key: str | None = None,
        concurrency_limit: int | None = None,
        on_full: OnFull = "wait",
    ) -> str:
        """Schedule by name, for tasks that this process does not have; as ``schedule`` otherwise.

        Args:
            job_name: a task's key or bare function name.
            execution_time: aware instant.
            task_data: ``{"args": […], "kwargs": {…}}``, both optional.
            priority: among the due jobs of the queue.
            max_retries: attempts after the first that fails.
            job_id: 1 to 200 bytes; a UUID of version 7 if not given.
            conflict_resolution: what to do when the id is taken.
            misfire_grace_time: seconds; None takes the scheduler's.
            concurrency_key: as in ``schedule``.
            concurrency_limit: as in ``schedule``.
            on_full: as in ``schedule``.

        Raises:
            InvalidArgument: as in ``schedule``, or several registered tasks share the name.
            JobExists: the id is taken (``RAISE``).
            DatabaseUnreachable: no answer; the job may or may not exist.
        """
        args, kwargs = codec.parts_of(task_data)
        spec = JobSpec(
            _nobody,
            execution_time,
            args,
            kwargs,
            priority,
            max_retries,
            job_id,
            misfire_grace_time,
            concurrency_key=concurrency_key,
            concurrency_limit=concurrency_limit,
            on_full=on_full,
        )
        return await self._submission.submission.schedule_named(job_name, spec, conflict_resolution)

    async def cancel_job(self, job_id: str) -> bool:
        """Cancel a job that has not ended; a running one is told to stop within a second, on whichever worker.

        Returns:
            Whether it was this call that cancelled it; False for an unknown id and for a job that has ended.

        Raises:
            DatabaseUnreachable: no answer; the job may or may not be cancelled.
        """
        return await self._submission.jobs.cancel(job_id)

    async def update_job_status(self, job_id: str, status: JobStatus | str) -> None:
        """Cancel an open job (``cancelled``), or run an ended one again (``pending``).

        Raises:
            IllegalTransition: another status, or the job's present one, which the message names, does not lead there.
            OwnedByResource: the job belongs to a custom resource and is to run again.
            DatabaseUnreachable: no answer; the job may or may not be changed.
        """
        await self._submission.submission.move(job_id, status)

    async def run_vacuum(self) -> dict[str, int]:
        """Delete now what the retention lets go.

        Returns:
            Counts of deleted jobs by status.
        """
        counts = await self._submission.vacuumer.run_once()
        return {status.value: count for status, count in counts.items()}

    async def get_vacuum_stats(self, days: int = 7) -> list[dict[str, Any]]:
        """What was deleted on each of the last ``days`` days, newest first; empty without ``track_metrics``.

        Raises:
            InvalidArgument: not a whole number of days from 1 to 36500.
        """
        days = checks.checked_whole("days", days, low=1, high=36_500)
        if not self.vacuum_config.track_metrics:
            return []
        return [dict(row) for row in await self._submission.vacuum.stats(days)]

    async def get_total_vacuum_stats(self) -> dict[str, Any]:
        """What was ever deleted, and when last; empty without ``track_metrics``."""
        if not self.vacuum_config.track_metrics:
            return {}
        return dict(await self._submission.vacuum.totals())

    async def _prepare_db(self) -> None:
        if self._auto_migrate:
            await self.initialize_db()
            return
        async with self._submission.database.connection() as connection:
            await migrator.require_head(connection)

    def _declare(self) -> list[ScheduleDefinition]:
        for key, function in task_registry.functions().items():
            self._registry.add(function, key)
        configs = periodic_registry.all().values()
        return [_definition_of(config, self._registry.add(config.func), self._config.tenant) for config in configs]

    async def _started(self) -> EngineParts:
        await self._prepare_db()
        declared = self._declare()
        card = worker_card(
            self._config,
            version=_version(),
            schedules=[definition.key.uid for definition in declared],
            environment=os.environ,
        )
        engine = await wire_engine(
            self.db_pool,
            self._registry,
            self._config,
            self._bell,
            card,
            self.vacuum_config if self.vacuum_enabled else None,
            new_worker_id=lambda: new_worker_id(self.WORKER_ID_LENGTH),
        )
        try:
            await engine.lifecycle.start()
            for definition in declared:
                await engine.schedules.upsert(definition)
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


async def _nobody() -> None:
    """Stands for the function of a job that is scheduled by name."""


def _definition_of(config: PeriodicJobConfig, task: str, tenant: str) -> ScheduleDefinition:
    return ScheduleDefinition(
        key=ScheduleKey(tenant=tenant, kind=CODE, cluster="", uid=config.source_uid),
        name=str(config.job_name),
        generation=0,
        rule=config.rule,
        template=Template(
            task=task,
            job_name=str(config.job_name),
            payload=codec.encode((), {}),
            queue="default",
            priority=config.priority.db_value,
            max_retries=config.max_retries,
            concurrency_key=config.concurrency_key,
        ),
        enabled=config.enabled,
    )


def _version() -> str:
    try:
        return version("pgscheduler")
    except PackageNotFoundError:
        return "unknown"
