"""From the caller's words to a committed row.

Invariant: everything is checked before anything is written, and when ``submit`` returns, the row is committed.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable
from typing import assert_never

from pg_scheduler._domain import checks, codec
from pg_scheduler._domain.concurrency import concurrency_of
from pg_scheduler._domain.jobs import NewJob
from pg_scheduler._domain.states import Move, move_to
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._store.jobs import JobStore
from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.errors import IllegalTransition, InvalidArgument, JobExists, OwnedByResource
from pg_scheduler.job_spec import _UNSET, JobSpec
from pg_scheduler.tasks import Registry

logger = logging.getLogger("pg_scheduler.engine")


class Submission:
    """Checks jobs and inserts them."""

    def __init__(
        self, jobs: JobStore, registry: Registry, *, config: EngineConfig, on_submitted: Callable[[], None]
    ) -> None:
        self._jobs = jobs
        self._registry = registry
        self._config = config
        self._on_submitted = on_submitted

    async def schedule(self, spec: JobSpec, conflict: ConflictResolution) -> str:
        """Submit a function with its arguments; the job id."""
        return await self._submit(self.checked(spec), conflict)

    async def schedule_named(self, name: str, spec: JobSpec, conflict: ConflictResolution) -> str:
        """Submit by a task's key or bare name; a name that nobody here knows is taken as a key that others may know."""
        grace = self._config.misfire_grace_time if spec.misfire_grace_time is None else spec.misfire_grace_time
        return await self._submit(self._job(self._resolve(name), name, spec, grace), conflict)

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

    async def _not_moved(self, job_id: str, status: object) -> Exception:
        taken = await self._jobs.taken(job_id)
        if taken is None:
            return IllegalTransition(f"there is no job {job_id[:40]!r}")
        if taken.owner is not None and taken.status.is_final:
            return OwnedByResource(f"job {job_id!r} belongs to {taken.owner}", fix="make a new resource instead")
        return IllegalTransition(f"job {job_id!r} is {taken.status.value} and cannot become {status}")

    def checked(self, spec: JobSpec) -> NewJob:
        """The row of a function with its arguments; nothing is written.

        Raises:
            TypeError: not an async function.
            InvalidArgument: something that cannot be used.
        """
        task = self._registry.add(spec.func)
        checks.require_call(spec.func, spec.args, spec.kwargs)
        grace = self._config.misfire_grace_time if spec.misfire_grace_time is _UNSET else spec.misfire_grace_time
        return self._job(task, spec.func.__name__, spec, grace)

    def _resolve(self, name: object) -> str:
        if not isinstance(name, str) or not name:
            raise InvalidArgument(f"job_name is {name!r}", fix="give a task's key or name")
        keys = self._registry.named(name)
        if len(keys) > 1:
            raise InvalidArgument(f"several tasks are named {name!r}: {', '.join(keys)}", fix="give one of these keys")
        return keys[0] if keys else name

    def _job(self, task: str, name: str, spec: JobSpec, grace: object) -> NewJob:
        concurrency = concurrency_of(spec)
        return NewJob(
            job_id=new_job_id() if spec.job_id is None else checks.checked_id(spec.job_id),
            tenant=self._config.tenant,
            queue="default",
            task=task,
            job_name=name,
            task_data=codec.encode(spec.args, spec.kwargs),
            execution_time=checks.checked_time(spec.execution_time),
            priority=checks.checked_priority(spec.priority).db_value,
            max_retries=checks.checked_whole("max_retries", spec.max_retries),
            misfire_grace_time=None if grace is None else checks.checked_whole("misfire_grace_time", grace),
            concurrency_key=concurrency.key,
            on_full=concurrency.on_full,
            concurrency_limit=concurrency.limit,
        )

    async def _submit(self, job: NewJob, conflict: ConflictResolution) -> str:
        await self._insert(job, conflict)
        self._on_submitted()
        return job.job_id

    async def _insert(self, job: NewJob, conflict: ConflictResolution) -> None:
        match conflict:
            case ConflictResolution.RAISE:
                if not await self._jobs.insert(job):
                    raise await self._taken(job)
            case ConflictResolution.IGNORE:
                await self._jobs.insert(job)
            case ConflictResolution.REPLACE:
                if not await self._jobs.replace(job):
                    raise await self._taken(job)
            case _:
                assert_never(conflict)

    async def _taken(self, job: NewJob) -> Exception:
        taken = await self._jobs.taken(job.job_id)
        if taken is not None and taken.owner is not None:
            return OwnedByResource(f"job {job.job_id!r} belongs to {taken.owner}", fix="edit that resource instead")
        status = "gone by now" if taken is None else taken.status.value
        return JobExists(
            f"job {job.job_id!r} already exists and is {status}",
            fix="use another job_id, or conflict_resolution IGNORE or REPLACE",
        )


def new_job_id() -> str:
    """A UUID of version 7.

    Made by the client, so that a submission may be repeated; ordered by time, so that the index grows at its end.
    """
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))
