"""From the caller's words to a committed row.

Invariant: everything is checked before anything is written, and when ``submit`` returns, the row is committed.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from pg_scheduler._domain import checks, codec, typed_arguments
from pg_scheduler._domain.drafts import Common, Drafts
from pg_scheduler._domain.jobs import NewJob
from pg_scheduler._domain.options import NAME_BYTES_MAX, UniqueKey, options_of, unique_key
from pg_scheduler._domain.payloads import Payloads
from pg_scheduler._domain.states import Move, move_to
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.job_ids import new_job_id
from pg_scheduler._engine.own_worker import OwnWorker
from pg_scheduler._store.callers import require_transaction
from pg_scheduler._store.jobs import JobStore, Stored
from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.errors import IllegalTransition, InvalidArgument, JobExists, OwnedByResource
from pg_scheduler.job_spec import _UNSET, JobSpec
from pg_scheduler.job_status import JobStatus
from pg_scheduler.tasks import Registry, TaskFunction, task_options

if TYPE_CHECKING:
    from pg_scheduler._store.driver import Connection

TASKS_MAX = 1_000
"""Functions whose keys are at hand without a look into the registry."""

TASK_BYTES_MAX = 500
"""Of a task's key or name, as ``scheduler_enqueue`` has it."""

NAMED_MAX = 5
"""Ids that a warning names."""

logger = logging.getLogger("pg_scheduler.engine")


class Submission:
    """Checks jobs and inserts them."""

    def __init__(
        self,
        jobs: JobStore,
        registry: Registry,
        *,
        config: EngineConfig,
        on_submitted: Callable[[], None],
        own_worker: Callable[[], OwnWorker | None],
        payloads: Payloads,
    ) -> None:
        self._jobs = jobs
        self._registry = registry
        self._config = config
        self._on_submitted = on_submitted
        self._own_worker = own_worker
        self._payloads = payloads
        self._tasks: dict[int, tuple[str, TaskFunction]] = {}
        self._kept: dict[int, tuple[JobSpec, Common]] = {}

    @property
    def tenant(self) -> str:
        """Whose jobs these are."""
        return self._config.tenant

    async def schedule(
        self, spec: JobSpec, conflict: ConflictResolution, connection: "Connection | None" = None
    ) -> str:
        """Submit a function with its arguments; the id of the job that stands for it."""
        return await self._submit(self.checked(spec), spec, conflict, connection)

    async def schedule_named(
        self, name: str, spec: JobSpec, conflict: ConflictResolution, connection: "Connection | None" = None
    ) -> str:
        """Submit by a task's key or bare name; a name that nobody here knows is taken as a key that others may know."""
        grace = self._config.misfire_grace_time if spec.misfire_grace_time is None else spec.misfire_grace_time
        return await self._submit(self._job(self._resolve(name), name, spec, grace), spec, conflict, connection)

    async def move(self, job_id: str, status: object) -> None:
        """Cancel an open job, or run an ended one again; as ``Scheduler.update_job_status`` says."""
        match move_to(status):
            case Move.CANCEL:
                moved = await self._jobs.cancel(job_id)
            case Move.RUN_AGAIN:
                moved = await self._jobs.run_again(job_id)
                self._on_submitted()
        if not moved:
            raise await self._not_moved(job_id, status)

    async def reschedule(self, job_id: str, execution_time: datetime) -> None:
        """Give a job that has not started another time."""
        if not await self._jobs.reschedule(job_id, checks.checked_time(execution_time)):
            raise await self._not_moved(job_id, "pending")
        self._on_submitted()

    async def _not_moved(self, job_id: str, status: object) -> Exception:
        taken = await self._jobs.taken(job_id)
        if taken is None:
            return IllegalTransition(f"there is no job {job_id[:40]!r}")
        if taken.owner is not None and taken.status is not JobStatus.RUNNING:
            return OwnedByResource(f"job {job_id!r} belongs to {taken.owner}", fix="edit it, or make a new one instead")
        return IllegalTransition(f"job {job_id!r} is {taken.status.value} and cannot become {status}")

    def checked(self, spec: JobSpec) -> NewJob:
        """The row of a function with its arguments as JSON; nothing is written.

        Raises:
            TypeError: not an async function.
            InvalidArgument: something that cannot be used.
        """
        task = self._task_of(spec.func)
        if _has_typed_arguments(spec.func):
            checks.require_call(spec.func, spec.args, spec.kwargs)
            args, kwargs = typed_arguments.dumped(spec.func, spec.args, spec.kwargs)
            spec = replace(spec, args=args, kwargs=kwargs)
        grace = self._config.misfire_grace_time if spec.misfire_grace_time is _UNSET else spec.misfire_grace_time
        job = self._job(task, spec.func.__name__, spec, grace)
        checks.require_call(spec.func, spec.args, spec.kwargs)
        return job

    def add(self, spec: JobSpec, drafts: Drafts) -> None:
        """Check the next of many jobs, most of which say what the one before them of their task said.

        To see that takes 0.2 µs, to check it all anew 4. Raises as ``checked`` does.
        """
        kept = self._kept.get(id(spec.func))
        if kept is None or not _says_the_same(spec, kept[0]):
            job = self.sealed(self.checked(spec))
            return drafts.add(self._common_of(spec, job), spec.job_id, job.task_data, job.execution_time)
        checks.require_call(spec.func, spec.args, spec.kwargs)
        return drafts.add(
            kept[1],
            None if spec.job_id is None else checks.checked_id(spec.job_id),
            self._payloads.sealed(codec.encode(spec.args, spec.kwargs)),
            checks.checked_time(spec.execution_time),
        )

    def sealed(self, job: NewJob) -> NewJob:
        """The row as it is stored: what a submission is the same by is looked for before."""
        return job._replace(task_data=self._payloads.sealed(job.task_data))

    def _common_of(self, spec: JobSpec, job: NewJob) -> Common:
        """Kept for the next job, but for what comes of the arguments' types, of the time, or of a dict that changes."""
        common = Common.of(job)
        if spec.metadata is None and spec.expires is None and not _has_typed_arguments(spec.func):
            if len(self._kept) >= TASKS_MAX:
                self._kept.clear()
            self._kept[id(spec.func)] = (replace(spec, args=(), kwargs={}, tags=tuple(spec.tags)), common)
        return common

    def _task_of(self, function: TaskFunction) -> str:
        task = self._tasks.get(id(function))
        if task is None or task[1] is not function:
            task = self._tasks[id(function)] = (self._registry.add(function), function)
            self._warn_of_main(task[0])
            if len(self._tasks) > TASKS_MAX:
                self._tasks.pop(next(iter(self._tasks)))
        return task[0]

    def _warn_of_main(self, task: str) -> None:
        """Once for a function: every script has a ``__main__`` of its own, and here none runs what this one has."""
        if task.startswith("__main__:") and self._own_worker() is None:
            logger.warning(
                "task %s is known to this script only: put it into a module, or name it with @task(name=…), so that "
                "a worker that runs another script can have it",
                task,
            )

    def unique_key(self, spec: JobSpec, job: NewJob, conflict: ConflictResolution) -> UniqueKey | None:
        """What this submission is the same by; None where it is not to be compared.

        Raises:
            InvalidArgument: it has an id of its own as well, or is to replace something.
        """
        key = unique_key(spec.unique, job)
        if key is not None and (spec.job_id is not None or conflict is ConflictResolution.REPLACE):
            raise InvalidArgument(
                "unique is given together with a job_id or with REPLACE",
                why="which of two jobs would be meant is not said",
                fix="give only one of them",
            )
        return key

    def task_of(self, func: TaskFunction | str) -> str:
        """The key of a function, which is registered from now on, or of the task that is named."""
        return self._resolve(func) if isinstance(func, str) else self._registry.add(func)

    def _resolve(self, name: object) -> str:
        if not checks.is_text(name, TASK_BYTES_MAX):
            raise InvalidArgument(
                f"job_name is {str(name)[:40]!r}", fix=f"give a task's key or name, of 1 to {TASK_BYTES_MAX} bytes"
            )
        keys = self._registry.named(name)
        if len(keys) > 1:
            raise InvalidArgument(f"several tasks are named {name!r}: {', '.join(keys)}", fix="give one of these keys")
        return keys[0] if keys else name

    def _job(self, task: str, name: str, spec: JobSpec, grace: object) -> NewJob:
        execution_time = checks.checked_time(spec.execution_time)
        return NewJob(
            new_job_id() if spec.job_id is None else checks.checked_id(spec.job_id),
            self._config.tenant,
            "default" if spec.queue == "default" else checks.checked_text("queue", spec.queue, NAME_BYTES_MAX),
            task,
            name,
            codec.encode(spec.args, spec.kwargs),
            execution_time,
            checks.checked_priority(spec.priority).db_value,
            checks.checked_whole("max_retries", spec.max_retries),
            None if grace is None else checks.checked_whole("misfire_grace_time", grace),
            *options_of(spec, execution_time),
        )

    async def _submit(
        self, job: NewJob, spec: JobSpec, conflict: ConflictResolution, connection: "Connection | None"
    ) -> str:
        key = self.unique_key(spec, job, conflict)
        job = self.sealed(job)
        if connection is not None:
            require_transaction(connection)
        conflict = checks.checked_conflict(conflict)
        own = self._own_worker() if connection is None and key is None and spec.job_id is None else None
        if own is not None and own.takes(job):
            stored = Stored(job.job_id, await own.submit(self._jobs, job))
        else:
            stored = await self._insert(job, key, conflict, connection)
        warn_of_expired([stored.job_id] if stored.status is JobStatus.EXPIRED else [])
        # In the caller's transaction it is not there yet for a worker to find: the NOTIFY comes with the commit.
        if connection is None and stored.status is not JobStatus.RUNNING:
            self._on_submitted()
        return stored.job_id

    async def _insert(
        self, job: NewJob, key: UniqueKey | None, conflict: ConflictResolution, connection: "Connection | None"
    ) -> Stored:
        if conflict is ConflictResolution.REPLACE:
            stored = Stored(job.job_id, await self._jobs.replace(job, connection))
        else:
            stored = await self._jobs.insert_unique(job, key, connection)
        refused = stored.status is None and stored.job_id == job.job_id and conflict is not ConflictResolution.IGNORE
        if refused:
            raise await self._taken(job, connection)
        return stored

    async def _taken(self, job: NewJob, connection: "Connection | None") -> Exception:
        taken = await self._jobs.taken(job.job_id, connection)
        if taken is not None and taken.owner is not None:
            return OwnedByResource(f"job {job.job_id!r} belongs to {taken.owner}", fix="edit that resource instead")
        status = "gone by now" if taken is None else taken.status.value
        return JobExists(
            f"job {job.job_id!r} already exists and is {status}",
            fix="use another job_id, or conflict_resolution IGNORE or REPLACE",
        )


def _has_typed_arguments(function: TaskFunction) -> bool:
    return task_options(function) is not None and bool(typed_arguments.typed_parameters(function))


def _says_the_same(spec: JobSpec, kept: JobSpec) -> bool:
    """Whether all but id, time, arguments and ``unique`` are the same objects: equal is not enough, ``True == 1``.

    Tags may be, since a list of texts may have changed meanwhile.
    """
    return (
        spec.func is kept.func
        and spec.priority is kept.priority
        and spec.max_retries is kept.max_retries
        and spec.misfire_grace_time is kept.misfire_grace_time
        and spec.queue is kept.queue
        and spec.concurrency_key is kept.concurrency_key
        and spec.concurrency_limit is kept.concurrency_limit
        and spec.on_full is kept.on_full
        and spec.timeout is kept.timeout
        and spec.retry_policy is kept.retry_policy
        and (spec.tags is kept.tags or (type(spec.tags) is list and tuple(spec.tags) == kept.tags))
        and spec.metadata is kept.metadata
        and spec.expires is kept.expires
        and spec.keep_result is kept.keep_result
        and spec.flush is kept.flush
        and spec.on_interrupt is kept.on_interrupt
        and spec.max_interruptions is kept.max_interruptions
    )


def warn_of_expired(job_ids: Sequence[str]) -> None:
    """Say once for a submission that some of it was too late."""
    if job_ids:
        logger.warning(
            "%d jobs were past their grace when they were submitted and are stored as expired: %s",
            len(job_ids),
            ", ".join(job_ids[:NAMED_MAX]),
        )
