"""The database, as the operator of one cluster sees it.

Invariant: only rows of this cluster are read or written; the cursor of the changes moves only when they were read.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from pg_scheduler.errors import DatabaseUnreachable
from pg_scheduler_operator.gateway.batches import Batches
from pg_scheduler_operator.gateway.tallies import Tallies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from pg_scheduler.control import (
        Control,
        Cursor,
        DesiredJob,
        DesiredSchedule,
        JobState,
        ScheduleState,
        ScheduleTrace,
        Source,
    )
    from pg_scheduler.demand import Demand, PoolRecord
    from pg_scheduler.job_status import JobStatus
    from pg_scheduler.job_template import Deletion
    from pg_scheduler.pool_settings import PoolSettings, PoolState


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Rows that may have changed."""

    jobs: Sequence[JobState]
    schedules: Sequence[ScheduleTrace]


class Rows:
    """The rows of one cluster."""

    def __init__(
        self, control: Control, *, cluster: str, is_open: bool = True, clock: Callable[[], float] = monotonic
    ) -> None:
        """Serve the rows; unless ``is_open``, from ``open`` on, and as if nobody answered until then."""
        self._opened = control
        self._cluster = cluster
        self._is_open = is_open
        self._cursor: Cursor | None = None
        self._tallies = Tallies(clock)
        self._schedules = Batches(self._read_schedules)
        self._unknown = Batches(self._read_unknown)
        self._new_schedules = Batches(self._write_schedules)

    def open(self) -> None:
        """The tables are there, and the rows ours."""
        self._is_open = True

    @property
    def _control(self) -> Control:
        if not self._is_open:
            raise DatabaseUnreachable("the tables are not ready yet", fix="the log tells what they wait for")
        return self._opened

    @property
    def cluster(self) -> str:
        """The name that this cluster's rows carry."""
        return self._cluster

    async def job(self, job_id: str) -> JobState | None:
        """The row of a job, or what is left of it."""
        return await self._control.known_job(job_id)

    async def schedule(self, source: Source) -> ScheduleState | None:
        """The row of a schedule, with its counts as they were within the last minute."""
        return await self._schedules.ask(source)

    async def _read_schedules(self, sources: Sequence[Source]) -> Sequence[ScheduleState | None]:
        by_uid = {source.uid: source for source in sources}
        states = await self._control.schedules(by_uid, counted=self._tallies.due(by_uid))
        for uid in by_uid.keys() - states.keys():
            self._tallies.forget(uid)
        told = {uid: self._tallies.completed(state) for uid, state in states.items()}
        return [told.get(source.uid) for source in sources]

    def recounted_in_seconds(self, source: Source) -> float | None:
        """When to ask for a schedule again, whose counts were not new; None where they were, or there is none."""
        return self._tallies.renewed_in_seconds(source.uid)

    async def upsert_job(self, desired: DesiredJob) -> None:
        """Make or change the row of a job."""
        await self._control.upsert_job(desired)

    async def cancel_job(self, source: Source, job_id: str) -> None:
        """Cancel a job, or have it stopped."""
        await self._control.cancel_job(source, job_id)

    async def adopt_job(self, source: Source, job_id: str, *, deletion: Deletion, suspended: bool) -> None:
        """Take over the open job of a key."""
        await self._control.adopt_job(source, job_id, deletion=deletion, suspended=suspended)

    async def expire_job(self, source: Source, job_id: str) -> bool:
        """Expire a job that no worker could have started in time; whether it was such a one."""
        return await self._control.expire_job(source, job_id)

    async def release_job(self, source: Source, job_id: str, deletion: Deletion) -> None:
        """Do what is to become of the job of a deleted object."""
        await self._control.release_job(source, job_id, deletion)

    async def release_jobs(self, uids: Collection[str]) -> int:
        """The objects of these uids are gone: do what their rows say."""
        return await self._control.release_jobs(self._cluster, uids)

    async def settle_job(
        self,
        source: Source,
        job_id: str,
        status: JobStatus,
        *,
        attempt: int,
        worker_id: str | None,
        started_at: datetime | None,
        finished_at: datetime | None,
    ) -> None:
        """Write the end of a job into a row that does not know of it."""
        await self._control.settle_job(
            source,
            job_id,
            status,
            attempt=attempt,
            worker_id=worker_id,
            started_at=started_at,
            finished_at=finished_at,
        )

    async def upsert_schedule(self, desired: DesiredSchedule) -> None:
        """Make or change the row of a schedule."""
        await self._new_schedules.ask(desired)

    async def _write_schedules(self, desired: Sequence[DesiredSchedule]) -> Sequence[None]:
        await self._control.upsert_schedules(desired)
        return [None] * len(desired)

    async def resume_schedule(self, source: Source) -> None:
        """Let a schedule tick again that was halted."""
        await self._control.resume_schedule(source)

    async def delete_schedule(self, source: Source, deletion: Deletion | None = None) -> None:
        """Forget a schedule, and end its jobs as ``deletion`` or else its row says."""
        await self._control.delete_schedule(source, deletion)

    async def demand(self, tenant: str, *, ahead_seconds: float) -> Demand:
        """What a namespace's jobs ask of its workers, now and within so many seconds."""
        return await self._control.demand(tenant, ahead_seconds=ahead_seconds)

    async def drain(self, tenant: str, pod_uids: Collection[str]) -> None:
        """Have the workers of these pods claim nothing for a minute."""
        await self._control.drain(tenant, pod_uids)

    async def spare(self, tenant: str, pod_uids: Collection[str]) -> None:
        """Have the workers of these pods claim again."""
        await self._control.spare(tenant, pod_uids)

    async def pool_records(self, tenant: str) -> Mapping[str, PoolRecord]:
        """What is kept of a namespace's pools, by name."""
        return await self._control.pool_records(tenant)

    async def keep_pool_record(self, tenant: str, name: str, record: PoolRecord) -> None:
        """Keep this of a pool."""
        await self._control.keep_pool_record(tenant, name, record)

    async def pool(self, source: Source, made_at: datetime, wanted: Collection[str]) -> PoolState:
        """What stands of what a pool says, and which of the queues that it wants are an older pool's."""
        return await self._control.pool(source, made_at, wanted)

    async def set_pool(self, source: Source, made_at: datetime, settings: PoolSettings) -> None:
        """Store what a pool says."""
        await self._control.set_pool(source, made_at, settings)

    async def forget_pool(self, tenant: str, name: str, uid: str | None = None) -> None:
        """Forget what a pool has said; without ``uid`` whichever had the name."""
        await self._control.delete_pool(tenant, name, cluster=self._cluster, uid=uid)

    async def is_unknown(self, tenant: str, task: str) -> bool:
        """Whether workers live and none of them has registered the task."""
        return await self._unknown.ask((tenant, task))

    async def _read_unknown(self, tasks: Sequence[tuple[str, str]]) -> Sequence[bool]:
        by_tenant: defaultdict[str, set[str]] = defaultdict(set)
        for tenant, task in tasks:
            by_tenant[tenant].add(task)
        unknown = {tenant: await self._control.unknown_tasks(tenant, wanted) for tenant, wanted in by_tenant.items()}
        return [task in unknown[tenant] for tenant, task in tasks]

    async def changed(self) -> Changed:
        """What may have changed since the last time."""
        changes = await self._control.changes(self._cluster, self._cursor)
        self._cursor = changes.cursor
        return Changed(jobs=changes.jobs, schedules=changes.schedules)

    async def open_sources(self) -> Collection[Source]:
        """Objects that still have a schedule or a job that has not ended."""
        return await self._control.open_sources(self._cluster)

    async def hold_sweep(self, rows: int, of: int) -> bool:
        """Tell people that the sweep would withdraw so much; whether they have agreed."""
        return await self._control.operations.hold_sweep(self._cluster, rows=rows, of=of)

    async def release_sweep(self) -> None:
        """The sweep is not held any more."""
        await self._control.operations.release_sweep(self._cluster)
