"""Rows of ``scheduler_schedules``: written from definitions, ticked by workers.

Invariant: whatever decides on a row holds its lock, and what it writes is committed with the jobs that follow from it.
"""

from collections.abc import Sequence
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
    first_grid,
)
from pg_scheduler._domain.walk import Ticks
from pg_scheduler._store.database import Connection, Database, Record
from pg_scheduler._store.queries import QUERIES


@dataclass(frozen=True, slots=True)
class Due:
    """Schedules locked for ticking, and the transaction's instant."""

    now: datetime
    schedules: Sequence[StoredSchedule]


class ScheduleStore:
    """The statements of ``sql/schedules.sql``."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def upsert(self, definition: ScheduleDefinition) -> bool:
        """Make the row or change it to the definition; whether anything was written. Workers are woken when it was."""
        async with self._db.transaction() as connection:
            written = await _write(connection, definition)
            if written:
                await connection.execute(QUERIES["wake_tickers"])
        return written

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
        return Due(now, [stored_schedule(row) for row in rows])

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
    return await _change(connection, stored_schedule(row), definition, now)


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
    """The row as a value; ``payload`` is ``task_data`` as text."""
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
    )


def _rule(row: Record) -> Rule:
    if row["interval_seconds"] is not None:
        return Interval(row["interval_seconds"])
    return Cron(tuple(row["cron"]), row["time_zone"])


def _key(key: ScheduleKey) -> tuple[str, str, str, str]:
    return (key.tenant, key.kind, key.cluster, key.uid)


def _columns(definition: ScheduleDefinition, grid: Grid) -> tuple[object, ...]:
    rule, template = definition.rule, definition.template
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
        template.concurrency_key,
    )


def _job_id(schedule: StoredSchedule, tick_at: datetime) -> str:
    prefix = "periodic" if schedule.definition.key.kind == "code" else "pj"
    return f"{prefix}-{schedule.id}-{int(tick_at.timestamp())}"
