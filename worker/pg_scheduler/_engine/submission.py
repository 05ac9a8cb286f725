"""From the caller's words to a committed row.

Invariant: everything is checked before anything is written, and when ``submit`` returns, the row is committed.
"""

import inspect
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, assert_never

from pg_scheduler._domain import codec
from pg_scheduler._domain.jobs import NewJob
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._store.jobs import JobStore
from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.errors import InvalidArgument, JobExists, OwnedByResource
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.job_spec import _UNSET, JobSpec
from pg_scheduler.tasks import Registry

RESERVED_PREFIXES = ("sj-", "pj-", "key:")
JOB_ID_BYTES_MAX = 200
LAST_YEAR = 9998
GRACE_SECONDS_MAX = 2**31 - 1

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
        task = self._registry.add(spec.func)
        _require_call(spec.func, spec.args, spec.kwargs)
        grace = self._config.misfire_grace_time if spec.misfire_grace_time is _UNSET else spec.misfire_grace_time
        return await self._submit(task, spec.func.__name__, spec, grace, conflict)

    async def schedule_named(self, name: str, spec: JobSpec, conflict: ConflictResolution) -> str:
        """Submit by a task's key or bare name; a name that nobody here knows is taken as a key that others may know."""
        grace = self._config.misfire_grace_time if spec.misfire_grace_time is None else spec.misfire_grace_time
        return await self._submit(self._resolve(name), name, spec, grace, conflict)

    def _resolve(self, name: object) -> str:
        if not isinstance(name, str) or not name:
            raise InvalidArgument(f"job_name is {name!r}", fix="give a task's key or name")
        keys = self._registry.named(name)
        if len(keys) > 1:
            raise InvalidArgument(f"several tasks are named {name!r}: {', '.join(keys)}", fix="give one of these keys")
        return keys[0] if keys else name

    async def _submit(self, task: str, name: str, spec: JobSpec, grace: object, conflict: ConflictResolution) -> str:
        job = NewJob(
            job_id=new_job_id() if spec.job_id is None else _checked_id(spec.job_id),
            tenant=self._config.tenant,
            queue="default",
            task=task,
            job_name=name,
            payload=codec.encode(spec.args, spec.kwargs),
            execution_time=_checked_time(spec.execution_time),
            priority=_checked_priority(spec.priority).db_value,
            max_retries=_checked_whole("max_retries", spec.max_retries),
            misfire_grace_time=None if grace is None else _checked_whole("misfire_grace_time", grace),
        )
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


def _checked_id(job_id: object) -> str:
    if not isinstance(job_id, str) or not 1 <= len(job_id.encode()) <= JOB_ID_BYTES_MAX or "\x00" in job_id:
        raise InvalidArgument(f"job_id is {str(job_id)[:40]!r}", fix=f"give text of 1 to {JOB_ID_BYTES_MAX} bytes")
    if job_id.startswith(RESERVED_PREFIXES):
        raise InvalidArgument(
            f"job_id {job_id[:40]!r} begins with a reserved prefix", why="sj-, pj- and key: belong to custom resources"
        )
    return job_id


def _checked_time(execution_time: object) -> datetime:
    if not isinstance(execution_time, datetime):
        raise InvalidArgument(
            f"execution_time is a {type(execution_time).__name__}",
            fix="give an aware datetime, such as datetime.now(UTC)",
        )
    if execution_time.utcoffset() is None:
        raise InvalidArgument(
            f"execution_time {execution_time} has no time zone",
            why="it would be read in whatever zone a machine happens to have",
            fix="use datetime.now(UTC), or .replace(tzinfo=…) with the zone you mean",
        )
    if execution_time.year > LAST_YEAR:
        raise InvalidArgument(f"execution_time {execution_time} is too late", fix=f"give a year up to {LAST_YEAR}")
    return execution_time.astimezone(UTC)


def _checked_priority(priority: object) -> JobPriority:
    if not isinstance(priority, JobPriority):
        raise InvalidArgument(f"priority is {str(priority)[:40]!r}", fix="give a JobPriority, such as JobPriority.HIGH")
    return priority


def _checked_whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= GRACE_SECONDS_MAX:
        raise InvalidArgument(
            f"{name} is {str(value)[:40]!r}", fix=f"give a whole number from 0 to {GRACE_SECONDS_MAX}"
        )
    return value


def _require_call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidArgument(f"{function.__name__} cannot be called with these arguments: {error}") from error
