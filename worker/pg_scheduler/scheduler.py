"""The façade: what users call, each method one delegation.

Invariant: constructing a ``Scheduler`` has no side effect; the caller's pool is borrowed and never closed.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from pg_scheduler._domain import checks, codec
from pg_scheduler._domain.jobs import Row
from pg_scheduler._domain.payloads import Payloads, require_codec
from pg_scheduler._engine.agenda import Agenda
from pg_scheduler._engine.by_hand import HandDriven
from pg_scheduler._engine.calls import Middleware, require_middleware
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.performing import TimeLimit
from pg_scheduler._engine.slots import SlotsView
from pg_scheduler._engine.vitals import Vitals
from pg_scheduler._store.connections import require_pool
from pg_scheduler._wiring.basis import wire_basis
from pg_scheduler._wiring.identity import new_worker_id
from pg_scheduler._wiring.lines import Addresses
from pg_scheduler._worker import Worker
from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.errors import MainLoopStalled
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.job_spec import _UNSET, Flush, JobSpec, OnFull, OnInterrupt
from pg_scheduler.job_status import JobStatus
from pg_scheduler.listing import JobFilter, JobInfo, QueueInfo, ScheduleInfo, ScheduleLedger
from pg_scheduler.payload_codec import PayloadCodec
from pg_scheduler.periodic import PeriodicJobConfig
from pg_scheduler.periodic import registry as periodic_registry
from pg_scheduler.polling import PollingConfig
from pg_scheduler.retry_policy import RetryPolicy
from pg_scheduler.schedule_options import ScheduleOptions
from pg_scheduler.tasks import Registry, TaskFunction
from pg_scheduler.unique import Unique
from pg_scheduler.vacuum import VacuumConfig

if TYPE_CHECKING:
    import asyncio

    import asyncpg

    from pg_scheduler._store.driver import Connection


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
        max_stall: float = 300.0,
        shutdown_timeout: float = 25.0,
        auto_migrate: bool = True,
        middleware: Sequence[Middleware] = (),
        dsn: str | None = None,
        direct_dsn: str | None = None,
        notify_workers: bool = True,
        payload_codec: PayloadCodec | None = None,
    ) -> None:
        """Keep the settings; nothing is connected or started.

        Args:
            db_pool: an open asyncpg pool, borrowed for submissions. A started scheduler opens connections of its own,
                to the same place.
            max_concurrent_jobs: slots of this worker.
            misfire_grace_time: seconds after which a job that never started expires; None never. Judged
                against what workers could claim: a backlog behind busy slots runs late and never expires.
            vacuum_config: retention of finished jobs.
            vacuum_enabled: whether this worker deletes what its retention lets go.
            batch_claim_limit: how many jobs one claim takes at most.
            polling_config: pace of polling where NOTIFY does not reach this worker.
            tenant: whose jobs this process schedules and runs; ``$PGSCHEDULER_TENANT`` if not given, else ``''``.
            queues: the queues that this worker serves.
            lease_seconds: how long the database believes in this worker without a beat; the lesser of
                ``LEASE_DURATION`` and ``HEARTBEAT_THRESHOLD`` if None.
            max_stall: seconds that the event loop may stand still; then this worker ends its beats, so that others take
                its jobs, and ``wait_failed`` raises ``MainLoopStalled``.
            shutdown_timeout: seconds that a shutdown waits for running jobs before it hands them back.
            auto_migrate: whether ``start`` brings the tables up to date; otherwise it only checks them.
            middleware: async functions ``(call, ctx)`` around each job, the first outermost: ``await call()`` runs the
                job and gives its result, which the middleware returns.
            dsn: where the engine's own connections go; to the pool's place if not given.
            direct_dsn: where LISTEN and migrations go, past a pooler in transaction mode; ``dsn`` if not given.
            notify_workers: whether a submission wakes idle workers. Without, it costs less and the job waits for their
                next poll, up to 5 s.
            payload_codec: what makes bytes of the arguments of jobs and schedules before they are stored, and of the
                results of those jobs; encryption, for instance. Whoever runs them needs it, too.

        Raises:
            TypeError: a middleware is no async function, or ``payload_codec`` none.
            InvalidArgument: a setting out of its range, or a pool that is closed.
            InvalidDsn: a DSN that cannot be used.
        """
        require_pool(db_pool)
        self.db_pool = db_pool
        self.vacuum_config = vacuum_config or VacuumConfig()
        self.vacuum_enabled = vacuum_enabled
        self._config = EngineConfig(
            tenant=os.environ.get("PGSCHEDULER_TENANT", "") if tenant is None else tenant,
            queues=tuple(queues) if not isinstance(queues, str) else (queues,),
            pool=os.environ.get("PGSCHEDULER_POOL") or None,
            slots=max_concurrent_jobs,
            claim_limit=batch_claim_limit,
            lease_seconds=(
                min(self.LEASE_DURATION, self.HEARTBEAT_THRESHOLD) if lease_seconds is None else lease_seconds
            ),
            max_stall_seconds=max_stall,
            shutdown_seconds=shutdown_timeout,
            misfire_grace_time=misfire_grace_time,
            polling=polling_config or PollingConfig(),
        )
        self._registry = Registry()
        basis = wire_basis(
            db_pool,
            self._registry,
            self._config,
            self.vacuum_config,
            declared=periodic_registry.all,
            own_worker=lambda: self._worker.own_worker,
            middleware=require_middleware(middleware),
            addresses=Addresses(own=dsn, direct=direct_dsn),
            notify_workers=notify_workers,
            payloads=Payloads(require_codec(payload_codec)),
        )
        self._parts = basis.submitting
        self._worker = Worker(basis, auto_migrate=auto_migrate, new_id=lambda: new_worker_id(self.WORKER_ID_LENGTH))

    @property
    def worker_id(self) -> str | None:
        """Name of the present incarnation; None unless started."""
        engine = self._worker.engine
        return engine.lease.worker_id if engine else None

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not yet shut down."""
        return self._worker.engine is not None

    @property
    def is_shutting_down(self) -> bool:
        """Whether ``shutdown`` is under way."""
        return self._worker.is_stopping

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
        return {held.job.job_id for held in self._worker.held()}

    @property
    def active_tasks(self) -> dict[str, "asyncio.Task[None]"]:
        """The asyncio tasks of the jobs that run here now, by job id."""
        return {held.job.job_id: held.task for held in self._worker.held() if held.task is not None}

    @property
    def job_semaphore(self) -> SlotsView:
        """The slots of this worker as they are now: ``free``, ``capacity`` and ``locked()``."""
        return SlotsView(capacity=self._config.slots, held=len(self._worker.held()))

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

        The tables of the older package pg-scheduler 0.2.3 are taken over with their rows: once, and locked for about
        8 s a million rows.

        Raises:
            SchemaMismatch: the schema is newer than this release reads, something stands in the way of an adoption, or
                a lock was not to be had within two minutes.
            DatabaseUnreachable: nobody answers there.
        """
        await self._worker.migrate()

    async def start(self) -> None:
        """Start to run jobs and schedules; nothing happens when it runs already.

        Raises:
            MigrationNeeded: with ``auto_migrate=False``, when migrations are pending.
            DatabaseUnreachable: nobody answers there.
        """
        await self._worker.start(self.vacuum_config if self.vacuum_enabled else None)

    async def shutdown(self) -> None:
        """Stop taking jobs, let those that run end, hand the rest back; nothing happens unless it runs."""
        await self._worker.shutdown()

    async def wait_failed(self) -> None:
        """Until a part of the engine dies; raises what killed it. Returns at once unless started."""
        await self._worker.wait_failed()

    def vitals(self) -> Vitals | None:
        """What this worker says of itself now, also while it shuts down and after that; probes and metrics show it.

        None before the first start. It costs microseconds and no statement.
        """
        return self._worker.vitals()

    def on_stall(self, callback: Callable[[MainLoopStalled], None]) -> None:
        """Have ``callback`` called when the event loop has stood still for ``max_stall``; before ``start``.

        It runs in the heartbeat's thread, since the loop's own is stuck: all it can do is to end the process.
        """
        self._worker.on_stall(callback)

    async def recover_orphaned_jobs(self) -> int:
        """Return the jobs of dead workers to the queue, as this worker's sweep does from time to time; how many.

        Raises:
            DatabaseUnreachable: no answer; the next sweep does it.
        """
        return await self._worker.rescue()

    async def periodic_orphan_recovery(self) -> None:
        """Until the sweep, which runs since ``start``, has ended. Returns at once unless started."""
        await self._worker.wait_ended("rescuer")

    async def monitor_heartbeats(self) -> None:
        """Until the heartbeat, which runs since ``start``, has ended. Returns at once unless started."""
        await self._worker.wait_ended("heartbeat")

    async def send_heartbeat(self, job_id: str) -> None:
        """Renew this worker's lease now, which covers all that it holds, ``job_id`` too. Nothing unless started."""
        del job_id
        self._worker.beat_soon()

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
        connection: "Connection | None" = None,
        queue: str = "default",
        concurrency_key: str | None = None,
        concurrency_limit: int | None = None,
        on_full: OnFull = "wait",
        timeout: float | timedelta | None = None,  # noqa: ASYNC109  the job's, not this call's
        retry_policy: RetryPolicy | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        expires: datetime | timedelta | None = None,
        keep_result: bool = False,
        flush: Flush = "batch",
        on_interrupt: OnInterrupt = "retry",
        max_interruptions: int | None = None,
        unique: Unique | None = None,
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
            misfire_grace_time: seconds; the scheduler's if not given, None never expires. A job that is past its grace
                now, or was when a worker first came to its queue, is stored as ``expired`` and not run.
            connection: an asyncpg connection in a transaction of the caller's: the job is committed with it.
            queue: 1 to 200 bytes; served by workers that name it.
            concurrency_key: 1 to 200 bytes; of the tenant's jobs that share it, at most the key's limit run at a time.
            concurrency_limit: 1 to 10,000; the key's limit from now on. A key that was never given one has 1.
            on_full: what becomes of the job if its key is full when it is due: ``wait`` for its turn, ``skip`` (it ends
                cancelled), ``queue`` (it waits if no other does so; else it ends cancelled), or ``replace`` (the oldest
                that runs is cancelled and told to stop).
            timeout: seconds, or a timedelta, after which an attempt is cancelled and counts as failed; None never.
            retry_policy: how long retries wait; the task's, else the default one, if None.
            tags: at most 20 texts of 1 to 64 bytes, to list by.
            metadata: a dict for people and tools, up to 16 KiB as JSON; no argument of the function.
            expires: an aware instant, or a timedelta after ``execution_time``, from which on the job does not start.
            keep_result: whether what the function returns is stored.
            flush: ``now`` writes the outcome by itself and at once instead of with the next batch (10 ms).
            on_interrupt: what becomes of a job whose worker died: ``retry`` starts it again, ``fail`` never.
            max_interruptions: how many deaths of its worker it survives; the worker's setting if None.
            unique: what makes an earlier submission the same, whose id is then returned; not beside a ``job_id``.

        Returns:
            The job id; with ``IGNORE`` or ``unique`` that of the job that was there.

        Raises:
            TypeError: not an async function.
            InvalidArgument: an argument that cannot be used; nothing was written.
            JobExists: the id is taken (``RAISE``).
            TenantLimitExceeded: the tenant may not submit it now.
            DatabaseUnreachable: no answer; the job may or may not exist.
        """
        spec = JobSpec(
            func,
            execution_time,
            args,
            {} if kwargs is None else kwargs,
            priority,
            max_retries,
            job_id,
            misfire_grace_time,
            queue=queue,
            concurrency_key=concurrency_key,
            concurrency_limit=concurrency_limit,
            on_full=on_full,
            timeout=timeout,
            retry_policy=retry_policy,
            tags=tags,
            metadata=metadata,
            expires=expires,
            keep_result=keep_result,
            flush=flush,
            on_interrupt=on_interrupt,
            max_interruptions=max_interruptions,
            unique=unique,
        )
        return await self._parts.submission.schedule(spec, conflict_resolution, connection)

    async def schedule_bulk(
        self,
        jobs: list[JobSpec] | Iterable[JobSpec],
        *,
        conflict_resolution: ConflictResolution = ConflictResolution.IGNORE,
        batch_size: int = 1000,
        connection: "Connection | None" = None,
    ) -> list[str | None]:
        """Schedule many jobs; a sequence is checked whole before anything of it is there, an iterator batch by batch.

        ``RAISE`` is one transaction for the whole call, and so is a sequence that names no ids; else ``IGNORE`` and
        ``REPLACE`` commit each batch alone, and an error names how many jobs were submitted before.

        Args:
            jobs: the jobs, or an iterable of them, of which only ids are kept.
            conflict_resolution: what to do with ids that are taken, or named twice: ``IGNORE`` keeps the first,
                ``REPLACE`` the last.
            batch_size: jobs of one transaction, 1 to 100,000, where each batch is one.
            connection: an asyncpg connection in a transaction of the caller's: all of it is committed with that.

        Returns:
            The job ids in the order of the input, None at positions that were not inserted.

        Raises:
            TypeError: not an async function; the message begins with the index.
            InvalidArgument: an argument that cannot be used; the message begins with the index.
            JobExists: an id is taken (``RAISE``); nothing was written.
            TenantLimitExceeded: the tenant may not submit so many now.
            DatabaseUnreachable: no answer; the last two batches, or the one transaction, may or may not exist.
        """
        return await self._parts.bulk.schedule(jobs, conflict_resolution, batch_size, connection)

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
        connection: "Connection | None" = None,
        queue: str = "default",
        concurrency_key: str | None = None,
        concurrency_limit: int | None = None,
        on_full: OnFull = "wait",
        timeout: float | timedelta | None = None,  # noqa: ASYNC109  the job's, not this call's
        retry_policy: RetryPolicy | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        expires: datetime | timedelta | None = None,
        keep_result: bool = False,
        flush: Flush = "batch",
        on_interrupt: OnInterrupt = "retry",
        max_interruptions: int | None = None,
        unique: Unique | None = None,
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
            connection: as in ``schedule``, and so are the others.
            queue: where it waits.
            concurrency_key: jobs that share it run within its limit.
            concurrency_limit: how many jobs of the key run at the same time.
            on_full: ``wait``, ``skip``, ``queue`` or ``replace`` while the key is full.
            timeout: seconds or a timedelta.
            retry_policy: how long retries wait.
            tags: to list by.
            metadata: for people and tools.
            expires: from when on it does not start.
            keep_result: whether what the task returns is stored.
            flush: ``batch`` or ``now``.
            on_interrupt: ``retry`` or ``fail``.
            max_interruptions: how many deaths of its worker it survives.
            unique: what makes an earlier submission the same.

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
            queue=queue,
            concurrency_key=concurrency_key,
            concurrency_limit=concurrency_limit,
            on_full=on_full,
            timeout=timeout,
            retry_policy=retry_policy,
            tags=tags,
            metadata=metadata,
            expires=expires,
            keep_result=keep_result,
            flush=flush,
            on_interrupt=on_interrupt,
            max_interruptions=max_interruptions,
            unique=unique,
        )
        return await self._parts.submission.schedule_named(job_name, spec, conflict_resolution, connection)

    async def result(self, job_id: str, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109  one call, one deadline
        """Wait until a job has ended and give what it returned, if it was kept (``@task(keep_result=True)``).

        Any process may wait, also one that has not started its scheduler.

        Args:
            job_id: the job.
            timeout: seconds to wait at most; None waits for as long as it takes.

        Returns:
            The result as JSON gives it back: tuples are lists by then.

        Raises:
            TimeoutError: it has not ended in time.
            JobFailed: it failed; the error's attributes hold the record of its last attempt.
            JobCancelled: it was cancelled.
            JobExpired: it expired before it was started.
            ResultNotKept: it completed, and its result is not stored.
            UnknownJob: there is no such job.
            DatabaseUnreachable: no answer.
        """
        return await self._parts.results.wait(job_id, timeout)

    async def cancel_job(self, job_id: str) -> bool:
        """Cancel a job that has not ended; a running one is told to stop within a second, on whichever worker.

        Returns:
            Whether it was this call that cancelled it; False for an unknown id and for a job that has ended.

        Raises:
            DatabaseUnreachable: no answer; the job may or may not be cancelled.
        """
        return await self._parts.jobs.cancel(job_id)

    async def update_job_status(self, job_id: str, status: JobStatus | str) -> None:
        """Cancel an open job (``cancelled``), or run an ended one again (``pending``).

        Raises:
            IllegalTransition: another status, or the job's present one, which the message names, does not lead there.
            OwnedByResource: the job belongs to a custom resource and is to run again.
            DatabaseUnreachable: no answer; the job may or may not be changed.
        """
        await self._parts.submission.move(job_id, status)

    async def retry_job(self, job_id: str) -> None:
        """Run a job again, now and as if it were new, that has failed, was cancelled or has expired.

        Raises:
            IllegalTransition: there is no such job, or it is open or completed.
            OwnedByResource: it belongs to a custom resource.
            DatabaseUnreachable: no answer; the job may or may not run again.
        """
        await self._parts.submission.move(job_id, JobStatus.PENDING)

    async def reschedule(self, job_id: str, execution_time: datetime) -> None:
        """Give a job that has not started another time; a worker that claims it at the same moment wins.

        Args:
            job_id: of a pending or waiting job; one that waits for its retry is one.
            execution_time: aware instant.

        Raises:
            IllegalTransition: there is no such job, or it runs or has ended.
            OwnedByResource: it belongs to a custom resource.
            InvalidArgument: a time that cannot be used.
            DatabaseUnreachable: no answer; the job may or may not be moved.
        """
        await self._parts.submission.reschedule(job_id, execution_time)

    async def job(self, job_id: str) -> JobInfo | None:
        """A job of this tenant as it is now; None if there is none by that id (any more)."""
        return await self._parts.listing.job(job_id)

    def jobs(self, filter: JobFilter | None = None) -> AsyncIterator[JobInfo]:  # noqa: A002  the word that people look for
        """The jobs of this tenant: ``async for job in scheduler.jobs(JobFilter(status="failed"))``.

        They come in the descending order of their ids: the newest first where the ids were made by ``schedule``.

        Pages are read as they are used, and none is held back: what is made meanwhile is not in the listing, and what
        changes meanwhile is shown as it is when its page is read.

        Args:
            filter: what to narrow it to; all jobs if None. ``limit`` and ``after`` make pages of it.
        """
        return self._parts.listing.jobs(filter or JobFilter())

    async def pause_queue(self, queue: str, *, reason: str | None = None, by: str | None = None) -> None:
        """Start nothing more of a queue of this tenant, on any worker, until it is resumed; what runs goes on.

        Args:
            queue: its name, 1 to 200 bytes.
            reason: for people, up to 1,000 bytes.
            by: who, up to 200 bytes.

        Raises:
            InvalidArgument: text that cannot be used.
            DatabaseUnreachable: no answer; it may or may not be paused.
        """
        await self._parts.queues.pause(queue, reason=reason, by=by)

    async def resume_queue(self, queue: str) -> bool:
        """Let a paused queue go on, at once.

        Returns:
            Whether it was paused.

        Raises:
            OwnedByResource: a WorkerPool says that it is paused.
        """
        return await self._parts.queues.resume(queue)

    async def queues(self) -> list[QueueInfo]:
        """The queues of this tenant that were ever paused or served, by name."""
        return await self._parts.queues.all()

    async def execute_job(self, job_row: Row) -> None:
        """Run the job of a row that this worker has claimed, and see it to its outcome; waits for no slot.

        Args:
            job_row: a whole row of ``scheduled_jobs``.

        Raises:
            InvalidArgument: this worker is not started, does not hold the row, or does not know its task.
        """
        await self._worker.run_held(job_row, waits_for_slot=False)

    async def execute_job_with_concurrency_control(self, job_row: Row) -> None:
        """As ``execute_job``, once a slot is free.

        Args:
            job_row: a whole row of ``scheduled_jobs``.

        Raises:
            InvalidArgument: this worker is not started, does not hold the row, or does not know its task.
        """
        await self._worker.run_held(job_row, waits_for_slot=True)

    async def load_task_functions(self) -> None:
        """Make runnable here what decorators of this process have named since the start."""
        self._worker.register_declared()

    async def run_vacuum(self) -> dict[str, int]:
        """Delete now what the retention lets go.

        Returns:
            Counts of deleted jobs by status.
        """
        counts = await self._parts.vacuumer.run_once()
        return {status.value: count for status, count in counts.items()}

    async def get_vacuum_stats(self, days: int = 7) -> list[dict[str, Any]]:
        """What was deleted on each of the last ``days`` days, newest first; empty without ``track_metrics``.

        Raises:
            InvalidArgument: not a whole number of days from 1 to 36500.
        """
        return await self._parts.vacuumer.stats(days)

    async def get_total_vacuum_stats(self) -> dict[str, Any]:
        """What was ever deleted, and when last; empty without ``track_metrics``."""
        return await self._parts.vacuumer.totals()

    def get_periodic_jobs(self) -> dict[str, PeriodicJobConfig]:
        """The schedules that the code of this process declares, by dedup key.

        ``enabled`` of each says whether it ticks, as ``get_periodic_job_status`` does. They are copies.
        """
        return self._parts.periodic.configs()

    def get_periodic_job_status(self, dedup_key: str) -> dict[str, Any] | None:
        """How a schedule stands, as this worker read it at its last poll (5 s); before a start, as code declares it.

        Returns:
            ``job_name``, ``enabled`` (whether it ticks), ``priority``, ``max_retries``, ``dedup_key``,
            ``use_advisory_lock``, ``function_name``, ``function_module``, ``interval`` (a timedelta) or ``cron`` and
            ``timezone``, ``next_run_at`` and ``last_run_at`` (aware, or None), ``last_status`` (of the newest run, such
            as ``completed``, or None). None for a key that this process does not declare.
        """
        return self._parts.periodic.status(dedup_key)

    def enable_periodic_job(self, dedup_key: str) -> bool:
        """Let a schedule tick, on every worker of the fleet: lift what ``disable_periodic_job`` set.

        It counts here at once; the ticker of this worker writes it within one poll, and again until the database takes
        it. Unless this scheduler is started, nothing is written before it is: ``resume_schedule`` writes at once. The
        next tick lies one interval ahead; what was missed is not made up. A schedule that code declares with
        ``enabled=False`` ticks as well from now on, until a worker starts whose code says so again.

        Returns:
            False for a key that this process does not declare.
        """
        return self._parts.periodic.wish(dedup_key, suspended=False)

    def disable_periodic_job(self, dedup_key: str) -> bool:
        """Stop a schedule from ticking, on every worker of the fleet, until somebody enables it.

        It is a suspension, which no start lifts; ``periodic(enabled=…)`` is what code wants, and another thing. It
        counts here at once and is written as ``enable_periodic_job`` says. What runs goes on.

        Returns:
            False for a key that this process does not declare.
        """
        return self._parts.periodic.wish(dedup_key, suspended=True)

    async def trigger_periodic_job(self, dedup_key: str) -> str | None:
        """Run a schedule's task once now, beside its ticks, whether it is suspended or not.

        Returns:
            The id of the job, named as those of the ticks are; None for a key that this process does not declare and
            that is no name of a schedule made at run time.

        Raises:
            DatabaseUnreachable: no answer; the job may or may not exist.
        """
        return await self._parts.schedules.trigger(dedup_key)

    async def suspend_schedule(self, dedup_key: str, *, reason: str = "", by: str | None = None) -> bool:
        """As ``disable_periodic_job``, written when this returns; ticks that are planned ahead are taken back.

        Args:
            dedup_key: the key of a declared schedule, or the name of one made at run time.
            reason: why, for people and for the ledger, up to 256 bytes.
            by: who, up to 200 bytes.

        Returns:
            False for a key that this process does not declare and that is no name of a schedule made at run time.

        Raises:
            InvalidArgument: text that cannot be used.
            DatabaseUnreachable: no answer; it may or may not be suspended.
        """
        return await self._parts.schedules.suspend(dedup_key, reason=reason, by=by)

    async def resume_schedule(self, dedup_key: str) -> bool:
        """As ``enable_periodic_job``, written when this returns; also of one that ``suspend_after_failures`` has
        stopped.

        Returns:
            False for a key that this process does not declare and that is no name of a schedule made at run time.

        Raises:
            DatabaseUnreachable: no answer; it may or may not be resumed.
        """
        return await self._parts.schedules.resume(dedup_key)

    async def schedule_status(self, dedup_key: str) -> dict[str, Any] | None:
        """As ``get_periodic_job_status``, read from the database now.

        Returns:
            Its keys, and ``suspended`` (fleet-wide), ``suspended_at``, ``suspended_by``, ``suspend_reason``,
            ``halted_reason`` (a text once ``suspend_after_failures`` has stopped it, else None) and ``retired_reason``
            (a text once no living worker has declared it for a day, else None). Of a schedule made at run time, named
            by its name: ``task`` and ``rule`` instead of the function and its rule. None where there is neither.

        Raises:
            DatabaseUnreachable: no answer.
        """
        return await self._parts.schedules.status(dedup_key)

    async def upsert_schedule(
        self,
        name: str,
        func: TaskFunction | str,
        *,
        every: timedelta | None = None,
        cron: str | Sequence[str] | None = None,
        timezone: str | None = None,
        priority: JobPriority = JobPriority.NORMAL,
        max_retries: int = 0,
        enabled: bool = True,
        **options: Unpack[ScheduleOptions],
    ) -> bool:
        """Make a schedule while the program runs, or change the one of that name; any worker of the tenant ticks it.

        It stays until ``delete_schedule``, whoever restarts. A changed rule sets a new anchor, before which nothing
        fires; other changes keep the grid. The calls that take a ``dedup_key`` take its name.

        Args:
            name: 1 to 200 bytes; the jobs are shown under it.
            func: an async function, or the key or name of a task.
            every: time between ticks; exactly one of this and ``cron``.
            cron: one five-field expression, or several.
            timezone: IANA name, with ``cron`` only.
            priority: of its jobs.
            max_retries: attempts after the first that fails.
            enabled: whether it ticks.
            options: the keywords of ``ScheduleOptions``, which ``PeriodicJobConfig`` explains.

        Returns:
            Whether anything was written; False when the schedule was there just so.

        Raises:
            TypeError: ``func`` is neither, or an unknown option.
            InvalidArgument: a rule or an option is refused; nothing was written.
            TenantLimitExceeded: the rule ticks more often than the tenant may.
            DatabaseUnreachable: no answer; it may or may not be written.
        """
        task = self._parts.submission.task_of(func)
        config = PeriodicJobConfig(
            _nobody if isinstance(func, str) else func,
            every,
            cron,
            timezone,
            priority=priority,
            max_retries=max_retries,
            job_name=checks.checked_text("name", name, 200),
            dedup_key=name,
            enabled=enabled,
            **options,
        )
        return await self._parts.schedules.upsert(name, task, config)

    async def delete_schedule(self, name: str) -> bool:
        """Forget a schedule made at run time; its jobs that have not started are taken back, or cancelled when due.

        Returns:
            False where there is none of that name.

        Raises:
            DatabaseUnreachable: no answer; it may or may not be gone.
        """
        return await self._parts.schedules.delete(name)

    async def schedules(self) -> list[ScheduleInfo]:
        """All schedules of this tenant, by name: those of code, of ``upsert_schedule``, and of custom resources.

        Raises:
            DatabaseUnreachable: no answer.
        """
        return await self._parts.schedules.infos()

    async def schedule_ledger(self, dedup_key: str) -> ScheduleLedger | None:
        """What became of every tick that a schedule has planned, counted now.

        Returns:
            None for a key that this process does not declare and that is no name of a schedule made at run time.

        Raises:
            DatabaseUnreachable: no answer.
        """
        return await self._parts.schedules.ledger(dedup_key)

    async def listen_for_jobs(self) -> None:
        """Start, if that has not happened yet, and return once the scheduler has been shut down.

        Raises:
            PgSchedulerError: as ``start`` does, or what ended a part of the engine.
        """
        await self.start()
        await self._worker.wait_stopped()

    async def _by_hand(self, agenda: Agenda, time_limit: TimeLimit) -> HandDriven:
        """For ``testing``."""
        return await self._worker.by_hand(agenda, time_limit)


async def _nobody() -> None:
    """Stands for the function of a job that is scheduled by name."""
