"""Rows of ``scheduler_schedules``: written from definitions, ticked by workers.

Invariants: whatever decides on a row holds its lock, and what it writes is committed with the jobs that follow from it.
The suspension of what code declares is written by ``suspend`` alone.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import itemgetter

from pg_scheduler._domain import zones
from pg_scheduler._domain.ledger import Passed
from pg_scheduler._domain.payloads import PLAIN, Payloads
from pg_scheduler._domain.schedules import (
    LIBRARY,
    ScheduleDefinition,
    ScheduleKey,
    StoredSchedule,
    changed,
    declared,
    first_grid,
    is_changed,
    is_planned_otherwise,
    last_made,
    replanned,
    suspension,
)
from pg_scheduler._domain.ticking import Plan
from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Connection
from pg_scheduler._store.limits import require_intervals
from pg_scheduler._store.queries import QUERIES
from pg_scheduler._store.schedule_rows import columns, columns_of, key_columns, schedule_info, stored_schedule
from pg_scheduler.errors import InvalidSchedule
from pg_scheduler.job_template import Deletion
from pg_scheduler.listing import ScheduleInfo, ScheduleLedger


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that a newer release has written, or a person: its rule is none that this release knows."""

    id: int
    name: str
    error: InvalidSchedule


@dataclass(frozen=True, slots=True)
class Due:
    """Schedules locked for ticking, those among them that are left to newer workers, and the transaction's instant."""

    now: datetime
    schedules: Sequence[StoredSchedule]
    unreadable: Sequence[Unreadable] = ()


@dataclass(frozen=True, slots=True)
class Halted:
    """A schedule that ticks no more, since its last runs have all failed."""

    id: int
    name: str
    failures: int

    @property
    def reason(self) -> str:
        """In the words that the row keeps."""
        return "its last run failed" if self.failures == 1 else f"its last {self.failures} runs failed"


@dataclass(frozen=True, slots=True)
class Replanned:
    """A schedule whose next tick lies elsewhere by the zone data of this process."""

    name: str
    before: datetime | None
    after: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleView:
    """One schedule of code as its row stands; instants by the database's clock.

    Attributes:
        runs: whether it ticks: code enables it, nobody has suspended it, and it is neither retired nor halted.
        suspended_at: since when people have suspended it; ``suspended_by`` and ``suspend_reason`` say who and why.
        halted_reason: which failures have made it stop; None while it has not.
        retired_reason: why it ticks no more; None while a worker declares it.
        next_run_at: the next tick, whether its job is there already or not.
        last_run_at: the newest start among the jobs that are still there.
        last_status: what became of that job so far.
    """

    uid: str
    runs: bool
    suspended: bool
    suspended_at: datetime | None
    suspended_by: str | None
    suspend_reason: str
    halted_reason: str | None
    retired_reason: str | None
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_status: str | None


class ScheduleStore:
    """The statements of ``sql/schedules.sql`` and ``sql/periodic.sql``."""

    def __init__(self, database: Database, payloads: Payloads = PLAIN) -> None:
        self._db = database
        self._payloads = payloads

    async def upsert(self, definition: ScheduleDefinition) -> bool:
        """Make the row or change it to the definition; whether anything was written. Workers are woken when it was."""
        async with self._db.transaction() as connection:
            written = await _write(connection, definition, self._payloads)
            if written:
                await connection.execute(QUERIES["wake_tickers"])
        return written

    async def upsert_all(self, definitions: Collection[ScheduleDefinition]) -> None:
        """As ``upsert``, for many in one transaction; a row that another process makes meanwhile is left to it."""
        async with self._db.transaction() as connection:
            now = await connection.fetchval(QUERIES["now"])
            rows = await connection.fetch(QUERIES["lock_schedules"], *columns_of([each.key for each in definitions]))
            stored = {schedule.definition.key: schedule for schedule in map(stored_schedule, rows)}
            new = sorted((each for each in definitions if each.key not in stored), key=lambda each: each.key.uid)
            await require_intervals(connection, new)
            await connection.executemany(
                QUERIES["insert_schedule"], [columns(each, first_grid(each, now), zones.version()) for each in new]
            )
            written = bool(new)
            for definition in definitions:
                if row := stored.get(definition.key):
                    written |= await _change(connection, row, declared(row, definition), now)
            if written:
                await connection.execute(QUERIES["wake_tickers"])

    async def suspend(self, key: ScheduleKey, *, suspended: bool, reason: str = "", by: str | None = None) -> bool:
        """Set or lift the fleet-wide suspension; whether there is such a schedule. Ticks ahead are taken back.

        Lifting it lets a schedule tick again that was halted after failures, too.
        """
        async with self._db.transaction() as connection:
            now = await connection.fetchval(QUERIES["now"])
            row = await connection.fetchrow(QUERIES["lock_schedule"], *key_columns(key))
            if row is None:
                return False
            stored = stored_schedule(row)
            wanted = suspension(stored, suspended=suspended, reason=reason)
            if await _change(connection, stored, wanted, now, resumes=not suspended, by=by):
                await connection.execute(QUERIES["wake_tickers"])
        return True

    async def run_extra(self, key: ScheduleKey, job_id: str) -> bool:
        """Make one job beside the ticks, due now; False when the schedule does not exist, or is retired."""
        return await self._db.fetchrow(QUERIES["insert_extra_run"], *key_columns(key), job_id) is not None

    async def views(self, tenant: str, uids: Collection[str]) -> list[ScheduleView]:
        """How these schedules of code stand."""
        async with self._db.connection() as connection:
            return await self.views_on(connection, tenant, uids)

    async def views_on(self, connection: Connection, tenant: str, uids: Collection[str]) -> list[ScheduleView]:
        """As ``views``, in the caller's transaction."""
        return [ScheduleView(**row) for row in await connection.fetch(QUERIES["schedule_views"], tenant, list(uids))]

    async def infos(self, tenant: str, key: ScheduleKey | None = None) -> list[ScheduleInfo]:
        """All schedules of the tenant by name, or that of one source; without those that this release cannot read."""
        of_source = (None, None, None) if key is None else key_columns(key)[1:]
        rows = await self._db.fetch(QUERIES["list_schedules"], tenant, *of_source)
        return [schedule_info(row) for row in rows]

    async def ledger(self, key: ScheduleKey) -> ScheduleLedger | None:
        """What became of its ticks; None where there is no such schedule."""
        row = await self._db.fetchrow(QUERIES["schedule_ledger"], *key_columns(key))
        return None if row is None else ScheduleLedger(**row)

    async def delete(self, key: ScheduleKey, deletion: Deletion | None = None) -> bool:
        """Forget the schedule and take back its ticks ahead; whether there was one.

        What becomes of its other jobs is said by ``deletion``, else by the row.
        """
        async with self._db.transaction() as connection:
            row = await connection.fetchrow(QUERIES["delete_schedule"], *key_columns(key))
            if row is None:
                return False
            now = await connection.fetchval(QUERIES["now"])
            await connection.execute(QUERIES["take_back_ticks"], row["id"], now)
            for name in _ENDING[deletion or Deletion(row["deletion"])]:
                await connection.execute(QUERIES[name], row["id"])
        return True

    async def lock_due(self, connection: Connection, tenant: str, horizon_seconds: float, limit: int) -> Due:
        """Lock schedules that tick within the horizon; those that another worker holds are left to it.

        So are those that newer zone data has planned, until they are a minute late.
        """
        now = await connection.fetchval(QUERIES["now"])
        rows = await connection.fetch(QUERIES["due_schedules"], tenant, horizon_seconds, limit, zones.version())
        schedules, unreadable = [], []
        for row in rows:  # one that cannot be read fails alone
            try:
                schedules.append(stored_schedule(row))
            except InvalidSchedule as error:
                unreadable.append(Unreadable(row["id"], row["source_name"], error))
        return Due(now, schedules, unreadable)

    async def record_ticks(self, connection: Connection, planned: Sequence[tuple[StoredSchedule, Plan]]) -> int:
        """Insert the jobs of these plans, tell of the others, and move each high-water mark; how many jobs are new."""
        made = await connection.fetch(
            QUERIES["insert_ticks"],
            [_job_id(schedule, tick.at) for schedule, plan in planned for tick in plan.ticks],
            [schedule.id for schedule, plan in planned for _ in plan.ticks],
            [tick.at for _, plan in planned for tick in plan.ticks],
            [tick.due_at for _, plan in planned for tick in plan.ticks],
            [tick.previous_at for _, plan in planned for tick in plan.ticks],
        )
        new = Counter(row["schedule_id"] for row in made)
        await _record_passed(connection, [(schedule.id, each) for schedule, plan in planned for each in plan.passed])
        await connection.execute(
            QUERIES["advance_schedules"],
            [schedule.id for schedule, _ in planned],
            [plan.last_at for _, plan in planned],
            [plan.ticks[-1].at if plan.ticks else None for _, plan in planned],
            [plan.next_at for _, plan in planned],
            [new[schedule.id] for schedule, _ in planned],
            [sum(each.ticks for each in plan.passed) for _, plan in planned],
            zones.version(),
        )
        if new:
            await connection.execute(QUERIES["wake_workers"])
        return new.total()

    async def halt_failing(self, connection: Connection, tenant: str, ids: Collection[int] | None) -> list[Halted]:
        """Halt those whose last runs have all failed, as often as they allow; of these ids, or of the whole tenant."""
        now = await connection.fetchval(QUERIES["now"])
        rows = await connection.fetch(QUERIES["failing_schedules"], tenant, None if ids is None else list(ids))
        halted = [Halted(row["id"], row["source_name"], row["suspend_after_failures"]) for row in rows]
        for row, schedule in zip(rows, halted, strict=True):
            left = await _take_back(connection, stored_schedule(row), now)
            await connection.execute(QUERIES["halt_schedule"], schedule.id, schedule.reason, last_made(left, now))
        return halted

    async def replan(self, tenant: str, limit: int) -> tuple[int, list[Replanned]]:
        """Plan anew what older zone data has planned, at most so many: how many, and those that have moved."""
        moved = []
        async with self._db.transaction() as connection:
            now = await connection.fetchval(QUERIES["now"])
            rows = await connection.fetch(QUERIES["schedules_of_older_zones"], tenant, zones.version(), limit)
            for schedule in filter(is_planned_otherwise, map(stored_schedule, rows)):
                grid = replanned(await _take_back(connection, schedule, now), now)
                await connection.execute(QUERIES["move_grid"], schedule.id, grid.last_tick_at, grid.next_tick_at)
                moved.append(Replanned(schedule.definition.name, schedule.next_tick_at, grid.next_tick_at))
            await connection.execute(QUERIES["stamp_zones"], [row["id"] for row in rows], zones.version())
        return len(rows), moved

    async def next_tick(self, tenant: str) -> float | None:
        """Seconds until the first tick of the tenant, negative when it is late; None when nothing ticks."""
        seconds: float | None = await self._db.fetchval(QUERIES["next_tick"], tenant, zones.version())
        return seconds


_ENDING: dict[Deletion, tuple[str, ...]] = {
    Deletion.CANCEL_PENDING: ("cancel_ticks",),
    Deletion.CANCEL: ("cancel_ticks", "stop_ticks"),
    Deletion.ORPHAN: (),
}
"""The statements that end the jobs of a deleted schedule."""


async def _write(connection: Connection, definition: ScheduleDefinition, payloads: Payloads) -> bool:
    now = await connection.fetchval(QUERIES["now"])
    row = await connection.fetchrow(QUERIES["lock_schedule"], *key_columns(definition.key))
    if row is None:
        await require_intervals(connection, [definition])
        sealed = _with_payload(definition, payloads.sealed(definition.template.payload))
        new = columns(sealed, first_grid(definition, now), zones.version())
        if await connection.fetchval(QUERIES["insert_schedule"], *new):
            return True
        row = await connection.fetchrow(QUERIES["lock_schedule"], *key_columns(definition.key))  # another was first
        if row is None:
            return False
    stored = stored_schedule(row)
    payload = payloads.resealed(definition.template.payload, stored.definition.template.payload)
    return await _change(connection, stored, declared(stored, _with_payload(definition, payload)), now)


def _with_payload(definition: ScheduleDefinition, payload: str) -> ScheduleDefinition:
    return replace(definition, template=replace(definition.template, payload=payload))


async def _change(
    connection: Connection,
    row: StoredSchedule,
    definition: ScheduleDefinition,
    now: datetime,
    *,
    resumes: bool = False,
    by: str | None = None,
) -> bool:
    if not is_changed(row, definition, resumes=resumes):
        return False
    if definition.rule != row.definition.rule:
        await require_intervals(connection, [definition])
    row = await _take_back(connection, row, now)
    change = changed(row, definition, now)
    await connection.execute(
        QUERIES["update_schedule"], *columns(definition, change.grid, zones.version()), by or definition.key.kind
    )
    for each in change.passed:
        await connection.execute(QUERIES["count_passed"], row.id, each.ticks)
    await _record_passed(connection, [(row.id, each) for each in change.passed])
    return True


async def _take_back(connection: Connection, row: StoredSchedule, now: datetime) -> StoredSchedule:
    """Delete the jobs of ticks that are still to come; the row without them."""
    jobs = await connection.fetch(QUERIES["take_back_ticks"], row.id, now)
    if not jobs:
        return row
    before = min(jobs, key=itemgetter("tick_at"))["previous_tick_at"]
    await connection.execute(QUERIES["forget_ticks"], row.id, len(jobs), before)
    return replace(row, ticks=row.ticks - len(jobs), runs=row.runs - len(jobs), last_run_tick_at=before)


async def _record_passed(connection: Connection, passed: Sequence[tuple[int, Passed]]) -> None:
    if passed:
        await connection.execute(
            QUERIES["record_passed"],
            [schedule_id for schedule_id, _ in passed],
            [each.outcome for _, each in passed],
            [each.first_at for _, each in passed],
            [each.last_at for _, each in passed],
            [each.ticks for _, each in passed],
            [each.reason for _, each in passed],
        )


def _job_id(schedule: StoredSchedule, tick_at: datetime) -> str:
    prefix = "periodic" if schedule.definition.key.kind in LIBRARY else "pj"
    return f"{prefix}-{schedule.id}-{int(tick_at.timestamp())}"
