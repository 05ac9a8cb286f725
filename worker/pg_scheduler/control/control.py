"""The methods: each a statement or two of the store.

Invariants: a row that belongs to a custom resource is written only under its source, and only by a higher generation; a
job that has started is never changed, only asked to stop. Every method may be repeated: the second call changes
nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pg_scheduler._store import migrator, roles
from pg_scheduler._store.dsn import checked_dsn
from pg_scheduler._store.tls import secured
from pg_scheduler._wiring.control import ControlParts, wire_control
from pg_scheduler.control.reading import buried_job, deletion_of, job_state, schedule_state, schedule_traces, source_of
from pg_scheduler.control.states import ERROR_TEXT_MAX, RESULT_BYTES_MAX, Changes, Cursor
from pg_scheduler.control.writing import owned_job, pool_key, schedule_definition, schedule_key
from pg_scheduler.errors import OwnedByResource
from pg_scheduler.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from pg_scheduler.control.desired import DesiredJob, DesiredSchedule, Source
    from pg_scheduler.control.states import JobState, ScheduleState
    from pg_scheduler.demand import Demand, PoolRecord
    from pg_scheduler.job_status import JobStatus
    from pg_scheduler.job_template import Deletion
    from pg_scheduler.pool_settings import PoolSettings, PoolState
    from pg_scheduler.tenant_limits import TenantLimits

CURSOR_OVERLAP = timedelta(seconds=10)
"""What commits late may lie behind the cursor; the design's figure (page 5 §5.2)."""


class Control:
    """A connection pool with the operator's statements; use it as an async context manager.

    Every method raises ``DatabaseUnreachable`` when the server does not answer and ``SchemaMismatch`` when the tables
    are missing or of another release.
    """

    def __init__(
        self, dsn: str | Callable[[], str], *, allow_insecure: bool = False, reads_error_text: bool = False
    ) -> None:
        """Keep ``dsn``, a ``postgresql://`` URL, or a function that each connection asks for it; connect when needed.

        Over a network the server has to prove its name, as ``sslmode=verify-full`` says, unless ``allow_insecure``.

        Args:
            dsn: as above.
            allow_insecure: as above.
            reads_error_text: whether states of jobs hold text of their last error; otherwise it stays in the database.

        Raises:
            InvalidDsn: the URL cannot be used; the message never repeats it.
        """
        self._dsn = secured(dsn, allow_insecure=allow_insecure)
        checked_dsn(self._dsn if isinstance(self._dsn, str) else self._dsn())
        self._error_text_max = ERROR_TEXT_MAX if reads_error_text else 0
        self._parts: ControlParts

    async def __aenter__(self) -> Control:
        self._parts = await wire_control(self._dsn)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._parts.database.close()

    async def migrate(self, tell: Callable[[str], None] | None = None) -> Sequence[str]:
        """Bring the tables to this release's schema, safely from many processes; the names of what was applied.

        Args:
            tell: is called with a line for each step that takes long; they are logged if not given.
        """
        telling = {} if tell is None else {"tell": tell}
        return [migration.name for migration in await self._parts.migrate(**telling)]

    async def require_migrated(self) -> None:
        """Change nothing, and refuse tables that lack something this release needs.

        Raises:
            MigrationNeeded: they are missing or older, with the versions.
        """
        async with self._parts.database.connection() as connection:
            await migrator.require_head(connection)

    async def make_roles(self, *, row_level_security: bool | None = None) -> None:
        """Make the roles ``scheduler_owner``, ``_operator``, ``_worker``, ``_enqueue`` and ``_reader``, or renew them.

        Args:
            row_level_security: True lets members of ``scheduler_worker`` and ``scheduler_enqueue`` see and change only
                rows of the tenant that is called as their login; False ends that; None leaves it as it is.
        """
        await roles.make(self._parts.database, row_level_security=row_level_security)

    @property
    def operations(self) -> Operations:
        """Maintenance, restores, and who serves which cluster's rows."""
        return Operations(self._parts.operations)

    async def check(self) -> None:
        """Raise ``DatabaseUnreachable`` unless the server answers."""
        await self._parts.operations.answer()

    async def pending_migrations(self) -> Sequence[str]:
        """The names of what ``migrate`` would apply."""
        async with self._parts.database.connection() as connection:
            return [migration.name for migration in await migrator.pending(connection)]

    async def upsert_job(self, desired: DesiredJob) -> JobState:
        """Make or change the job while it is pending and its stored generation is lower; the row as it then stands.

        A row that has ended, or holds this generation or a higher one, stays as it is; so does one that has started,
        but for its suspension and its ``deletion``: compare what comes back. The row of a tombstone is not made again.

        Raises:
            OwnedByResource: the id belongs to another source.
            InvalidPayload: the arguments or labels cannot be kept exactly as JSON.
            TenantLimitExceeded: the tenant may not submit it now.
        """
        await self._parts.sources.upsert_job(owned_job(desired))
        state = await self.known_job(desired.job_id)
        if state is None:
            return await self.upsert_job(desired)  # deleted by hand between the two statements
        if state.source is None or state.source.uid != desired.source.uid:
            raise OwnedByResource(f"job {desired.job_id!r} belongs to another source")
        return state

    async def cancel_job(self, source: Source, job_id: str) -> JobState | None:
        """Cancel while pending, or ask the worker of a running one to stop; the row as it then stands, None if none."""
        await self._parts.sources.cancel_job(job_id, source.uid)
        return await self.job(job_id)

    async def release_job(self, source: Source, job_id: str, deletion: Deletion) -> JobState | None:
        """The source of a job is deleted; the row as it then stands, None if there is none."""
        await self._parts.sources.release_job(job_id, source.uid, deletion)
        return await self.job(job_id)

    async def release_jobs(self, cluster: str, uids: Collection[str]) -> int:
        """The sources of these uids are gone: what their rows say becomes of them does; how many rows there were."""
        rows = await self._parts.sources.jobs_of(cluster, uids)
        for row in rows:
            await self._parts.sources.release_job(row["job_id"], row["source_uid"], deletion_of(row))
        return len(rows)

    async def adopt_job(self, source: Source, job_id: str, *, deletion: Deletion, suspended: bool) -> bool:
        """Make the open job of an idempotency key this source's; whether nobody, or an object now gone, owned it.

        What is run stays as it is.
        """
        return await self._parts.sources.adopt_job(
            job_id,
            tenant=source.tenant,
            cluster=source.cluster,
            uid=source.uid,
            name=source.name,
            generation=source.generation,
            deletion=deletion,
            suspended=suspended,
        )

    async def expire_job(self, source: Source, job_id: str) -> bool:
        """Expire the job if no worker served its queue within its deadline; whether that was so."""
        return await self._parts.sources.expire_job(job_id, source.uid)

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
    ) -> JobState | None:
        """Write an end into the open row of a job that is known to have ended; the row as it then stands.

        After a restore: the row is older than what its source has seen. Its attempts are at least as many, and none
        that runs elsewhere can end it any more.
        """
        await self._parts.sources.settle_job(
            job_id,
            source.uid,
            status.value,
            attempt=attempt,
            worker_id=worker_id,
            started_at=started_at,
            finished_at=finished_at,
        )
        return await self.job(job_id)

    async def job(self, job_id: str) -> JobState | None:
        """The row as it stands."""
        return next(iter(await self._jobs([job_id])), None)

    async def known_job(self, job_id: str) -> JobState | None:
        """The row as it stands, or what its tombstone says of how it ended, without a source."""
        state = await self.job(job_id)
        if state is not None:
            return state
        tombstone = await self._parts.sources.tombstone(job_id)
        return None if tombstone is None else buried_job(tombstone)

    async def upsert_schedule(self, desired: DesiredSchedule) -> ScheduleState:
        """Make or change the schedule unless its stored generation is higher; the row as it then stands.

        A new rule or bounds, and resuming, set a new anchor now: no earlier instant fires. Changing the template or the
        policy alone keeps it. Ticks inserted ahead of time and not yet started are taken back. Any change lets a
        schedule tick again that was halted since its runs failed.

        Raises:
            InvalidPayload: the arguments cannot be kept exactly as JSON.
            TenantLimitExceeded: the rule ticks more often than the tenant may.
        """
        await self._parts.schedules.upsert(schedule_definition(desired))
        state = await self.schedule(desired.source)
        return state or await self.upsert_schedule(desired)  # deleted by hand between the two statements

    async def upsert_schedules(self, desired: Collection[DesiredSchedule]) -> None:
        """As ``upsert_schedule``, for many in one transaction: all are written, or none is."""
        await self._parts.schedules.upsert_all([schedule_definition(each) for each in desired])

    async def resume_schedule(self, source: Source) -> bool:
        """Let a schedule tick again that people or its failures have suspended; whether there is one.

        No instant before now fires, and what its source says stays as it is but for the suspension.
        """
        return await self._parts.schedules.suspend(schedule_key(source), suspended=False)

    async def delete_schedule(self, source: Source, deletion: Deletion | None = None) -> bool:
        """Forget the schedule and end its jobs as ``deletion`` or else its row says; whether there was one."""
        return await self._parts.schedules.delete(schedule_key(source), deletion)

    async def schedule(self, source: Source) -> ScheduleState | None:
        """The row of this source's uid as it stands, with its counts."""
        return (await self.schedules({source.uid: source}, counted={source.uid})).get(source.uid)

    async def schedules(
        self, sources: Mapping[str, Source], *, counted: Collection[str] = ()
    ) -> Mapping[str, ScheduleState]:
        """The rows that there are of these sources, by uid; with the counts of those that are to be ``counted``."""
        if not sources:
            return {}
        rows = await self._parts.sources.schedules({schedule_key(of): uid in counted for uid, of in sources.items()})
        last = {job.job_id: job for job in await self._jobs([r["run_job_id"] for r in rows if r["run_job_id"]])}
        return {row["source_uid"]: schedule_state(row, last.get(row["run_job_id"])) for row in rows}

    async def changes(self, cluster: str, since: Cursor | None) -> Changes:
        """What may have changed in this cluster's rows; with ``since`` None, what runs, and a first cursor."""
        changed = await self._parts.sources.changed_since(cluster, since.read_at - CURSOR_OVERLAP if since else None)
        return Changes(
            cursor=Cursor(read_at=changed.read_at),
            jobs=await self._jobs(changed.job_ids),
            schedules=schedule_traces(changed.schedules),
        )

    async def open_sources(self, cluster: str) -> Sequence[Source]:
        """Sources of this cluster that still have a schedule, or a job that has not ended: what a sweep compares."""
        return [source_of(row, cluster) for row in await self._parts.sources.open_sources(cluster)]

    async def demand(self, tenant: str, *, ahead_seconds: float = 0) -> Demand:
        """What this tenant's jobs ask of its workers, now and within so many seconds."""
        return await self._parts.demand.demand(tenant, ahead_seconds)

    async def drain(self, tenant: str, pod_uids: Collection[str]) -> None:
        """For a minute the workers of these pods claim nothing; asked for again, it goes on."""
        await self._parts.demand.drain(tenant, pod_uids)

    async def spare(self, tenant: str, pod_uids: Collection[str]) -> None:
        """The workers of these pods claim again."""
        await self._parts.demand.spare(tenant, pod_uids)

    async def pool_records(self, tenant: str) -> Mapping[str, PoolRecord]:
        """What is kept of a tenant's pools of workers, by name."""
        return await self._parts.demand.pool_records(tenant)

    async def keep_pool_record(self, tenant: str, name: str, record: PoolRecord) -> None:
        """Keep this of a pool of workers."""
        await self._parts.demand.keep_pool_record(tenant, name, record)

    async def unknown_tasks(self, tenant: str, tasks: Collection[str]) -> Collection[str]:
        """Those of ``tasks`` that no living worker of the tenant has registered; empty while no worker lives."""
        return await self._parts.sources.unknown_tasks(tenant, tasks)

    async def set_pool(self, source: Source, made_at: datetime, settings: PoolSettings) -> None:
        """Store what a WorkerPool says of queues and tasks, for all workers of its tenant within about a second.

        A queue that an older pool (``made_at``) has set stays that pool's; a higher stored generation stays too.

        Raises:
            OwnedByResource: another cluster has a pool of this name in this namespace.
        """
        if not await self._parts.pools.set(pool_key(source, made_at), settings):
            raise OwnedByResource(
                f"WorkerPool {source.tenant}/{source.name} of another cluster, or a newer generation, is stored",
                fix="let two clusters on one database have different namespaces or names",
            )

    async def pool(self, source: Source, made_at: datetime, wanted: Collection[str]) -> PoolState:
        """What stands of this WorkerPool, and which of the queues that it wants to set are an older pool's."""
        return await self._parts.pools.state(pool_key(source, made_at), wanted)

    async def delete_pool(self, tenant: str, name: str, *, cluster: str, uid: str | None = None) -> bool:
        """Forget what a WorkerPool has said; whether there was one. Without ``uid`` whoever has the name."""
        return await self._parts.pools.delete(tenant, name, cluster, uid)

    async def set_tenant_limits(self, cluster: str, limits: Mapping[str, TenantLimits]) -> Collection[str]:
        """Let these limits hold, by tenant, instead of those that this cluster has set before.

        What is there already stays. The entry of ``tenant_limits.EVERY_OTHER_TENANT`` is that of each tenant without
        one of its own.

        Returns:
            tenants whose limits another cluster has set: those stand.

        Raises:
            DatabaseBusy: jobs are being written for so long that the watch over them could not be set up or ended.
        """
        return await self._parts.limits.set(cluster, limits)

    async def _jobs(self, job_ids: Collection[str]) -> list[JobState]:
        if not job_ids:
            return []
        rows = await self._parts.sources.jobs(
            job_ids, result_bytes_max=RESULT_BYTES_MAX, error_text_max=self._error_text_max
        )
        return [job_state(row) for row in rows]
