"""Rows of ``scheduler_schedules``: written from definitions, ticked by workers.

Invariants: whatever decides on a row holds its lock, and what it writes is committed with the jobs that follow from it.
The suspension of what code declares is written by ``suspend`` alone.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from pg_scheduler._domain.rules import Cron, Interval, Rule
from pg_scheduler._domain.schedules import (
    Grid,
    ScheduleDefinition,
    ScheduleKey,
    StoredSchedule,
    Template,
    changed_grid,
    declared,
    first_grid,
    suspension,
)
from pg_scheduler._domain.walk import Ticks
from pg_scheduler._store.database import Connection, Database, Record
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import InvalidSchedule


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleView:
    """One schedule of code as its row stands; instants by the database's clock.

    Attributes:
        runs: whether it ticks: code enables it, nobody has suspended it, and it is not retired.
        retired_reason: why it ticks no more; None while a worker declares it.
        next_run_at: the next tick, whether its job is there already or not.
        last_run_at: the newest start among the jobs that are still there.
        last_status: what became of that job so far.
    """

    uid: str
    runs: bool
    suspended: bool
    retired_reason: str | None
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_status: str | None


class ScheduleStore:
    """The statements of ``sql/schedules.sql`` and ``sql/periodic.sql``."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def upsert(self, definition: ScheduleDefinition) -> bool:
        """Make the row or change it to the definition; whether anything was written. Workers are woken when it was."""
        async with self._db.transaction() as connection:
            written = await _write(connection, definition)
            if written:
                await connection.execute(QUERIES["wake_tickers"])
        return written

    async def suspend(self, key: ScheduleKey, *, suspended: bool) -> bool:
        """Set or lift the fleet-wide suspension; whether there is such a schedule. Ticks ahead are taken back."""
        async with self._db.transaction() as connection:
            now = await connection.fetchval(QUERIES["now"])
            row = await connection.fetchrow(QUERIES["lock_schedule"], *_key(key))
            if row is None:
                return False
            stored = stored_schedule(row)
            if await _change(connection, stored, suspension(stored, suspended=suspended), now):
                await connection.execute(QUERIES["wake_tickers"])
        return True

    async def run_extra(self, key: ScheduleKey, job_id: str) -> bool:
        """Make one job beside the ticks, due now; False when the schedule does not exist, or is retired."""
        return await self._db.fetchrow(QUERIES["insert_extra_run"], *_key(key), job_id) is not None

    async def views(self, tenant: str, uids: Collection[str]) -> list[ScheduleView]:
        """How these schedules of code stand."""
        async with self._db.connection() as connection:
            return await self.views_on(connection, tenant, uids)

    async def views_on(self, connection: Connection, tenant: str, uids: Collection[str]) -> list[ScheduleView]:
        """As ``views``, in the caller's transaction."""
        return [ScheduleView(**row) for row in await connection.fetch(QUERIES["schedule_views"], tenant, list(uids))]

    async def delete(self, key: ScheduleKey) -> bool:
        """Forget the schedule, take back its ticks ahead and cancel the due ones; whether there was one."""
        async with self._db.transaction() as connection:
            schedule_id = await connection.fetchval(QUERIES["delete_schedule"], *_key(key))
            if schedule_id is None:
                return False
            now = await connection.fetchval(QUERIES["now"])
            await connection.execute(QUERIES["take_back_ticks"], schedule_id, now)
            await connection.execute(QUERIES["cancel_ticks"], schedule_id)
        return True

    async def lock_due(self, connection: Connection, tenant: str, horizon_seconds: float, limit: int) -> Due:
        """Lock schedules that tick within the horizon; those that another worker holds are left to it."""
        now = await connection.fetchval(QUERIES["now"])
        rows = await connection.fetch(QUERIES["due_schedules"], tenant, horizon_seconds, limit)
        schedules, unreadable = [], []
        for row in rows:  # one that cannot be read fails alone
            try:
                schedules.append(stored_schedule(row))
            except InvalidSchedule as error:
                unreadable.append(Unreadable(row["id"], row["source_name"], error))
        return Due(now, schedules, unreadable)

    async def record_ticks(self, connection: Connection, ticked: Sequence[tuple[StoredSchedule, Ticks]]) -> int:
        """Insert the jobs of these ticks and move each high-water mark; how many jobs are new."""
        made = await connection.fetch(
            QUERIES["insert_ticks"],
            [_job_id(schedule, at) for schedule, ticks in ticked for at in ticks.at],
            [schedule.id for schedule, ticks in ticked for _ in ticks.at],
            [at for _, ticks in ticked for at in ticks.at],
        )
        new = [row["schedule_id"] for row in made]
        await connection.execute(
            QUERIES["advance_schedules"],
            [schedule.id for schedule, _ in ticked],
            [max(ticks.at, default=None) for _, ticks in ticked],
            [ticks.next_at for _, ticks in ticked],
            [new.count(schedule.id) for schedule, _ in ticked],
        )
        if new:
            await connection.execute(QUERIES["wake_workers"])
        return len(new)

    async def next_tick(self, tenant: str) -> float | None:
        """Seconds until the first tick of the tenant, negative when it is late; None when nothing ticks."""
        seconds: float | None = await self._db.fetchval(QUERIES["next_tick"], tenant)
        return seconds


async def _write(connection: Connection, definition: ScheduleDefinition) -> bool:
    now = await connection.fetchval(QUERIES["now"])
    row = await connection.fetchrow(QUERIES["lock_schedule"], *_key(definition.key))
    if row is None:
        if await connection.fetchval(QUERIES["insert_schedule"], *_columns(definition, first_grid(definition, now))):
            return True
        row = await connection.fetchrow(QUERIES["lock_schedule"], *_key(definition.key))  # another process was first
        if row is None:
            return False
    stored = stored_schedule(row)
    return await _change(connection, stored, declared(stored, definition), now)


async def _change(connection: Connection, row: StoredSchedule, definition: ScheduleDefinition, now: datetime) -> bool:
    grid = changed_grid(row, definition, now)
    if grid is None:
        return False
    taken_back = await connection.fetch(QUERIES["take_back_ticks"], row.id, now)
    await connection.execute(
        QUERIES["update_schedule"], *_columns(definition, grid), grid.last_tick_at, len(taken_back)
    )
    return True


def stored_schedule(row: Record) -> StoredSchedule:
    """The row as a value; ``payload`` and what ends in ``_text`` is JSON as text, whatever codec a pool has."""
    definition = ScheduleDefinition(
        key=ScheduleKey(
            tenant=row["tenant"], kind=row["source_kind"], cluster=row["source_cluster"], uid=row["source_uid"]
        ),
        name=row["source_name"],
        generation=row["source_generation"],
        rule=_rule(row),
        template=Template(
            task=row["task"],
            job_name=row["job_name"],
            payload=row["payload"],
            queue=row["queue"],
            priority=row["priority"],
            max_retries=row["max_retries"],
            timeout_seconds=row["timeout_seconds"],
            retry_policy=row["retry_text"],
            on_interrupt=row["on_interrupt"],
            tags=row["tags_text"],
            metadata=row["metadata_text"],
            concurrency_key=row["concurrency_key"],
        ),
        enabled=row["enabled"],
        suspended=row["suspended"],
    )
    return StoredSchedule(
        id=row["id"],
        definition=definition,
        anchor_at=row["anchor_at"],
        last_tick_at=row["last_tick_at"],
        next_tick_at=row["next_tick_at"],
        ticks=row["ticks"],
        retired=row["retired_at"] is not None,
    )


def _rule(row: Record) -> Rule:
    if row["interval_seconds"] is not None:
        return Interval(row["interval_seconds"])
    return Cron(tuple(row["cron"]), row["time_zone"])


def _key(key: ScheduleKey) -> tuple[str, str, str, str]:
    return (key.tenant, key.kind, key.cluster, key.uid)


def _columns(definition: ScheduleDefinition, grid: Grid) -> tuple[object, ...]:
    rule, template = definition.rule, definition.template
    if isinstance(rule, Cron) and rule != Cron(rule.expressions, rule.time_zone):
        # There is no column for them yet: a row without would tick otherwise than was asked.
        raise InvalidSchedule("seconds and choices for changes of clocks are not stored yet", field="cron")
    return (
        *_key(definition.key),
        definition.name,
        definition.generation,
        rule.every_seconds if isinstance(rule, Interval) else None,
        None if isinstance(rule, Interval) else list(rule.expressions),
        "Etc/UTC" if isinstance(rule, Interval) else rule.time_zone,
        grid.anchor_at,
        grid.next_tick_at,
        definition.enabled,
        definition.suspended,
        template.task,
        template.job_name,
        template.payload,
        template.queue,
        template.priority,
        template.max_retries,
        template.timeout_seconds,
        template.retry_policy,
        template.on_interrupt,
        template.tags,
        template.metadata,
        template.concurrency_key,
    )


def _job_id(schedule: StoredSchedule, tick_at: datetime) -> str:
    prefix = "periodic" if schedule.definition.key.kind == "code" else "pj"
    return f"{prefix}-{schedule.id}-{int(tick_at.timestamp())}"
