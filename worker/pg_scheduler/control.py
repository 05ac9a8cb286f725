"""The side of the operator and the command line: rows written by desired, read back, counted.

Invariants: a row that belongs to a custom resource is written only under its source, and only by a higher generation; a
job that has started is never changed, only asked to stop. Every method may be repeated: the second call changes
nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from pg_scheduler import _wiring
from pg_scheduler._domain import codec, schedules
from pg_scheduler._domain.options import METADATA_BYTES_MAX
from pg_scheduler._store import migrator, roles
from pg_scheduler._store.dsn import checked_dsn
from pg_scheduler._store.pools import PoolKey
from pg_scheduler._store.schedule_rows import stored_schedule
from pg_scheduler._store.sources import JOB_KIND, OwnedJob
from pg_scheduler._store.tls import secured
from pg_scheduler.errors import OwnedByResource
from pg_scheduler.job_status import JobStatus
from pg_scheduler.job_template import Deletion
from pg_scheduler.job_template import JobTemplate as JobTemplate  # noqa: PLC0414 (a name of this module too)
from pg_scheduler.operations import Operations
from pg_scheduler.recurrence import Bounds, History, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from pg_scheduler._store.database import Record
    from pg_scheduler.demand import Demand, PoolRecord
    from pg_scheduler.pool_settings import PoolSettings, PoolState
    from pg_scheduler.recurrence import Rule
    from pg_scheduler.tenant_limits import TenantLimits

KEY_PREFIX = "key:"
"""Ids of jobs with an idempotency key begin so; no other ids do."""
RESULT_BYTES_MAX = 4 * 1024
"""What a resource's status holds of a result; longer ones are in the database only."""
CURSOR_OVERLAP = timedelta(seconds=10)
"""What commits late may lie behind the cursor; the design's figure (page 5 §5.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The custom resource that owns a row.

    Attributes:
        cluster: name of the cluster or folder that the resource lives in; rows of another one are never touched.
        kind: ``ScheduledJob``, ``PeriodicJob`` or ``WorkerPool``.
        tenant: the resource's namespace.
        name: the resource's name, for people and for adoption after a restore.
        uid: identity; a resource made anew under the same name is another one.
        generation: rises with each change of the spec; a lower one never overwrites a higher one.
    """

    cluster: str
    kind: str
    tenant: str
    name: str
    uid: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredJob:
    """One job as its source wants it.

    Attributes:
        run_at: when it is due; None means as soon as it is accepted.
        starting_deadline_seconds: it expires if no worker served its queue from ``run_at`` until so long after.
        deletion: what becomes of it when its source is gone and nobody is there to say.
        digest: what the source asked for, in short: two sources with the same digest want the same job.
    """

    source: Source
    job_id: str
    template: JobTemplate
    run_at: datetime | None = None
    suspended: bool = False
    starting_deadline_seconds: int | None = None
    deletion: Deletion = Deletion.CANCEL_PENDING
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredSchedule:
    """One schedule as its source wants it; ``suspend_reason`` is for people, and empty unless it is suspended."""

    source: Source
    rule: Rule
    template: JobTemplate
    bounds: Bounds = field(default_factory=Bounds)
    policy: Policy = field(default_factory=Policy)
    history: History | None = None
    deletion: Deletion = Deletion.CANCEL_PENDING
    suspended: bool = False
    suspend_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """One job as its row stands now; instants are aware, by the database's clock.

    Attributes:
        source: who owns the row; None for jobs of the library and of schedules.
        attempt: how often it was started, 0 before the first start.
        error_type: type name of the last failure, such as ``KeyError``; None if there was none.
        error_at: when that was.
        stopping: it was cancelled while running and its worker has not yet reported the end.
        run_at: when it is due; a retry has a later one than the first attempt had.
        tick_at: the planned instant, of a schedule's job; it stays through retries.
        deletion: what becomes of it when its source is gone.
        digest: as the source said when the row was written; None for rows that others have made.
        result: what it returned, as JSON text of at most ``RESULT_BYTES_MAX``; None if it is longer or not kept.
        result_bytes: how long that text is; None if nothing is kept.
        result_refused: what it returned could not be kept.
    """

    job_id: str
    source: Source | None
    status: JobStatus
    task: str
    queue: str
    suspended: bool
    run_at: datetime
    tick_at: datetime | None
    attempt: int
    worker_id: str | None
    started_at: datetime | None
    finished_at: datetime | None
    error_type: str | None
    error_at: datetime | None
    stopping: bool
    deletion: Deletion = Deletion.CANCEL_PENDING
    digest: str | None = None
    result: str | None = None
    result_bytes: int | None = None
    result_refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleCounts:
    """What became of a schedule's ticks since it was made, by its ledger, and when its runs last ended.

    Attributes:
        ran: those that ended by themselves; ``failed`` are among them.
        skipped: for the run before them, or while it was suspended.
        missed: that nobody started in time.
        coalesced: that another run stood for.
        succeeded_at: the newest success whose row is still there; ``failed_at`` is that of a failure.
    """

    ran: int
    failed: int
    skipped: int
    missed: int
    coalesced: int
    succeeded_at: datetime | None
    failed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleState:
    """One schedule as its row stands now.

    Attributes:
        suspend_reason: why people have suspended it, in their words.
        halted_at: when it was suspended because its runs failed; None while it is not.
        halted_reason: how many of them, in words.
        anchor_at: where its ticks begin.
        last_tick_at: the planned instant of the newest due tick whose job is still there; None before the first.
        next_tick_at: the next planned instant; None when suspended or halted, and when no further tick comes.
        ticks: how many ticks have been due since the schedule was made, whatever became of them.
        runs: how many of them have, or had, a job.
        last_job: the job of the newest due tick that was not cancelled before its start, as one beside its
            predecessor's run is.
        last_end: how the newest run has ended that has; None while none has. ``last_end_at`` is when.
        missed_at: the planned instant of the newest tick that nobody started in time, if it is the newest of all.
        is_overdue: its next tick has been due for a minute, and nobody has made a job of it.
        is_served: a living worker serves its queue.
        time_zone_data: the version of the zone data that has planned the next tick; None for intervals.
        counts: None where nobody has asked for them.
    """

    source: Source
    rule: Rule
    bounds: Bounds
    policy: Policy
    history: History | None
    deletion: Deletion
    task: str
    queue: str
    suspended: bool
    suspend_reason: str
    halted_at: datetime | None
    halted_reason: str | None
    anchor_at: datetime
    last_tick_at: datetime | None
    next_tick_at: datetime | None
    ticks: int
    runs: int
    last_job: JobState | None
    last_end: JobStatus | None
    last_end_at: datetime | None
    missed_at: datetime | None
    is_overdue: bool
    is_served: bool
    time_zone_data: str | None
    counts: ScheduleCounts | None

    @property
    def is_exhausted(self) -> bool:
        """Whether its bounds or its rule have come to an end; False while nobody lets it tick."""
        return self.next_tick_at is None and not self.suspended and self.halted_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far ``Control.changes`` has read; opaque, made by it."""

    read_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTrace:
    """What may have happened to one schedule, in words to compare with those of another look.

    Attributes:
        runs: one of its jobs is running.
    """

    kind: str
    tenant: str
    name: str
    traces: frozenset[str]
    runs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Jobs whose row may have changed since a cursor, and the cursor to ask with next time.

    A row may come again in the next answer (the cursor overlaps by ten seconds, for transactions that commit late).

    Attributes:
        jobs: owned jobs that ended since, and all owned jobs that run.
        schedules: those of which a job ended since, or runs, or a tick passed without one, and those that were halted
            or have become overdue since.
    """

    cursor: Cursor
    jobs: Sequence[JobState]
    schedules: Sequence[ScheduleTrace]


class Control:
    """A connection pool with the operator's statements; use it as an async context manager.

    Every method raises ``DatabaseUnreachable`` when the server does not answer and ``SchemaMismatch`` when the tables
    are missing or of another release.
    """

    def __init__(self, dsn: str | Callable[[], str], *, allow_insecure: bool = False) -> None:
        """Keep ``dsn``, a ``postgresql://`` URL, or a function that each connection asks for it; connect when needed.

        Over a network the server has to prove its name, as ``sslmode=verify-full`` says, unless ``allow_insecure``.

        Raises:
            InvalidDsn: the URL cannot be used; the message never repeats it.
        """
        self._dsn = secured(dsn, allow_insecure=allow_insecure)
        checked_dsn(self._dsn if isinstance(self._dsn, str) else self._dsn())
        self._parts: _wiring.ControlParts

    async def __aenter__(self) -> Control:
        self._parts = await _wiring.wire_control(self._dsn)
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
        await self._parts.sources.upsert_job(_owned_job(desired))
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
            await self._parts.sources.release_job(row["job_id"], row["source_uid"], _deletion(row))
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
        return None if tombstone is None else _buried_job(tombstone)

    async def upsert_schedule(self, desired: DesiredSchedule) -> ScheduleState:
        """Make or change the schedule unless its stored generation is higher; the row as it then stands.

        A new rule or bounds, and resuming, set a new anchor now: no earlier instant fires. Changing the template or the
        policy alone keeps it. Ticks inserted ahead of time and not yet started are taken back. Any change lets a
        schedule tick again that was halted since its runs failed.

        Raises:
            InvalidPayload: the arguments cannot be kept exactly as JSON.
            TenantLimitExceeded: the rule ticks more often than the tenant may.
        """
        await self._parts.schedules.upsert(_definition(desired))
        state = await self.schedule(desired.source)
        return state or await self.upsert_schedule(desired)  # deleted by hand between the two statements

    async def upsert_schedules(self, desired: Collection[DesiredSchedule]) -> None:
        """As ``upsert_schedule``, for many in one transaction: all are written, or none is."""
        await self._parts.schedules.upsert_all([_definition(each) for each in desired])

    async def resume_schedule(self, source: Source) -> bool:
        """Let a schedule tick again that people or its failures have suspended; whether there is one.

        No instant before now fires, and what its source says stays as it is but for the suspension.
        """
        return await self._parts.schedules.suspend(_key(source), suspended=False)

    async def delete_schedule(self, source: Source, deletion: Deletion | None = None) -> bool:
        """Forget the schedule and end its jobs as ``deletion`` or else its row says; whether there was one."""
        return await self._parts.schedules.delete(_key(source), deletion)

    async def schedule(self, source: Source) -> ScheduleState | None:
        """The row of this source's uid as it stands, with its counts."""
        return (await self.schedules({source.uid: source}, counted={source.uid})).get(source.uid)

    async def schedules(
        self, sources: Mapping[str, Source], *, counted: Collection[str] = ()
    ) -> Mapping[str, ScheduleState]:
        """The rows that there are of these sources, by uid; with the counts of those that are to be ``counted``."""
        if not sources:
            return {}
        rows = await self._parts.sources.schedules({_key(of): uid in counted for uid, of in sources.items()})
        last = {job.job_id: job for job in await self._jobs([r["run_job_id"] for r in rows if r["run_job_id"]])}
        return {row["source_uid"]: _schedule_state(row, last.get(row["run_job_id"])) for row in rows}

    async def changes(self, cluster: str, since: Cursor | None) -> Changes:
        """What may have changed in this cluster's rows; with ``since`` None, what runs, and a first cursor."""
        changed = await self._parts.sources.changed_since(cluster, since.read_at - CURSOR_OVERLAP if since else None)
        return Changes(
            cursor=Cursor(read_at=changed.read_at),
            jobs=await self._jobs(changed.job_ids),
            schedules=_traces(changed.schedules),
        )

    async def open_sources(self, cluster: str) -> Sequence[Source]:
        """Sources of this cluster that still have a schedule, or a job that has not ended: what a sweep compares."""
        return [_source(row, cluster) for row in await self._parts.sources.open_sources(cluster)]

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
        if not await self._parts.pools.set(_pool(source, made_at), settings):
            raise OwnedByResource(
                f"WorkerPool {source.tenant}/{source.name} of another cluster, or a newer generation, is stored",
                fix="let two clusters on one database have different namespaces or names",
            )

    async def pool(self, source: Source, made_at: datetime, wanted: Collection[str]) -> PoolState:
        """What stands of this WorkerPool, and which of the queues that it wants to set are an older pool's."""
        return await self._parts.pools.state(_pool(source, made_at), wanted)

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
        rows = await self._parts.sources.jobs(job_ids, RESULT_BYTES_MAX) if job_ids else []
        return [_job_state(row) for row in rows]


def _owned_job(desired: DesiredJob) -> OwnedJob:
    source = desired.source
    return OwnedJob(
        job_id=desired.job_id,
        template=_template(desired.template),
        run_at=desired.run_at,
        misfire_grace_time=desired.starting_deadline_seconds,
        suspended=desired.suspended,
        deletion=desired.deletion,
        digest=desired.digest,
        tenant=source.tenant,
        cluster=source.cluster,
        uid=source.uid,
        name=source.name,
        generation=source.generation,
    )


def _definition(desired: DesiredSchedule) -> schedules.ScheduleDefinition:
    return schedules.ScheduleDefinition(
        key=_key(desired.source),
        name=desired.source.name,
        generation=desired.source.generation,
        rule=desired.rule,
        template=_template(desired.template),
        bounds=desired.bounds,
        policy=desired.policy,
        history=desired.history,
        deletion=desired.deletion,
        suspended=desired.suspended,
        suspend_reason=desired.suspend_reason,
    )


def _template(template: JobTemplate) -> schedules.Template:
    policy, labels = template.retry_policy, template.labels
    return schedules.Template(
        task=template.task,
        job_name=template.task,
        payload=codec.encode_with_names(template.args, template.kwargs, template.args_from),
        queue=template.queue,
        priority=template.priority.db_value,
        max_retries=template.max_retries,
        timeout_seconds=template.timeout_seconds,
        retry_policy=None if policy is None else policy.to_json(),
        metadata=codec.encode_object(labels, "labels", METADATA_BYTES_MAX) if labels else None,
        concurrency_key=template.concurrency_key,
        concurrency_limit=template.concurrency_limit,
        keep_result=template.keep_result,
    )


def _key(source: Source) -> schedules.ScheduleKey:
    return schedules.ScheduleKey(tenant=source.tenant, kind=source.kind, cluster=source.cluster, uid=source.uid)


def _pool(source: Source, made_at: datetime) -> PoolKey:
    return PoolKey(
        tenant=source.tenant,
        name=source.name,
        cluster=source.cluster,
        uid=source.uid,
        generation=source.generation,
        made_at=made_at,
    )


def _source(row: Record, cluster: str) -> Source:
    return Source(
        cluster=cluster,
        kind=row["source_kind"],
        tenant=row["tenant"],
        name=row["source_name"],
        uid=row["source_uid"],
        generation=row["source_generation"],
    )


def _job_state(row: Record) -> JobState:
    return JobState(
        job_id=row["job_id"],
        source=_source(row, row["source_cluster"]) if row["source_kind"] == JOB_KIND else None,
        status=JobStatus(row["status"]),
        task=row["task"],
        queue=row["queue"],
        suspended=row["suspended"],
        run_at=row["execution_time"],
        tick_at=row["tick_at"],
        attempt=row["attempt"],
        worker_id=row["worker_id"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error_type=row["error_type"],
        error_at=row["error_at"],
        stopping=row["stopping_worker"] is not None,
        deletion=_deletion(row),
        digest=row["source_digest"],
        result=row["result"],
        result_bytes=row["result_bytes"],
        result_refused=row["result_refused"],
    )


def _deletion(row: Record) -> Deletion:
    return Deletion(row["source_deletion"] or Deletion.CANCEL_PENDING)  # release 0.3 says nothing


def _buried_job(row: Record) -> JobState:
    return JobState(
        job_id=row["job_id"],
        source=None,
        status=JobStatus(row["status"]),
        task=row["task"],
        queue=row["queue"],
        suspended=False,
        run_at=row["execution_time"],
        tick_at=None,
        attempt=row["attempt"],
        worker_id=None,
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error_type=None,
        error_at=None,
        stopping=False,
        digest=row["source_digest"],
    )


def _schedule_state(row: Record, last_job: JobState | None) -> ScheduleState:
    stored = stored_schedule(row)
    definition = stored.definition
    return ScheduleState(
        source=_source(row, row["source_cluster"]),
        rule=definition.rule,
        bounds=definition.bounds,
        policy=definition.policy,
        history=definition.history,
        deletion=definition.deletion,
        task=definition.template.task,
        queue=definition.template.queue,
        suspended=definition.suspended,
        suspend_reason=definition.suspend_reason,
        halted_at=row["halted_at"],
        halted_reason=row["halted_reason"],
        anchor_at=stored.anchor_at,
        last_tick_at=row["due_tick_at"],
        next_tick_at=row["ahead_tick_at"] or stored.next_tick_at,
        ticks=stored.ticks - row["ahead_ticks"],
        runs=stored.runs - row["ahead_ticks"],
        last_job=last_job,
        last_end=None if row["ended_status"] is None else JobStatus(row["ended_status"]),
        last_end_at=row["ended_at"],
        missed_at=_newest_missed(row),
        is_overdue=bool(row["is_overdue"]),
        is_served=row["is_served"],
        time_zone_data=row["time_zone_data"],
        counts=None if row["ran"] is None else _counts(row),
    )


def _newest_missed(row: Record) -> datetime | None:
    """What the rule before the anchor has missed is no concern of this one."""
    missed: datetime | None = row["missed_at"]
    if missed is None or missed <= row["anchor_at"] or (row["due_tick_at"] and missed < row["due_tick_at"]):
        return None
    return missed


def _counts(row: Record) -> ScheduleCounts:
    return ScheduleCounts(
        ran=row["ran"],
        failed=row["failed"],
        skipped=row["skipped"],
        missed=row["missed_ticks"],
        coalesced=row["coalesced"],
        succeeded_at=row["succeeded_at"],
        failed_at=row["failed_at"],
    )


def _traces(rows: Iterable[Record]) -> list[ScheduleTrace]:
    by_schedule: defaultdict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for row in rows:
        by_schedule[row["source_kind"], row["tenant"], row["source_name"]].append(row)
    return [
        ScheduleTrace(
            kind=kind,
            tenant=tenant,
            name=name,
            traces=frozenset(row["trace"] for row in rows),
            runs=any(row["runs"] for row in rows),
        )
        for (kind, tenant, name), rows in by_schedule.items()
    ]
