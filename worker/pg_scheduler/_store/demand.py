"""The statements of ``sql/demand.sql``: what a tenant asks of its workers, who drains, what is kept of a pool."""

import json
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from math import ceil

from pg_scheduler._domain.schedules import StoredSchedule
from pg_scheduler._domain.ticking import plan_ticks
from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Record
from pg_scheduler._store.migration_files import migrations
from pg_scheduler._store.queries import QUERIES
from pg_scheduler._store.schedule_rows import stored_schedule
from pg_scheduler.demand import Demand, PoolRecord, QueueLimit, Running, Waiting, WorkerLoad
from pg_scheduler.errors import InvalidSchedule


class DemandStore:
    """What the operator reads and writes to scale a tenant's workers."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def demand(self, tenant: str, ahead_seconds: float) -> Demand:
        """Jobs, and the ticks that nobody has made jobs of, with the workers there are."""
        row = await self._db.fetchrow(QUERIES["demand"], tenant, ahead_seconds)
        if row is None:
            raise AssertionError("a SELECT without FROM has one row")
        schedules = await self._db.fetch(QUERIES["schedules_ahead"], tenant, ahead_seconds)
        jobs = [Waiting(*each) for each in json.loads(row["waiting"])]
        return Demand(
            at=row["at"],
            waiting=[*jobs, *_ticks(schedules, row["at"], timedelta(seconds=ahead_seconds))],
            late_seconds=row["late_seconds"],
            running=[Running(*each) for each in json.loads(row["running"])],
            workers=[_worker(each) for each in json.loads(row["workers"])],
            median_seconds=json.loads(row["medians"]),
            paused=row["paused"],
            limits=[QueueLimit(*each) for each in json.loads(row["limits"])],
            has_schedules=row["has_schedules"],
            schema_version=row["schema_version"],
            is_schema_current=row["schema_version"] == migrations()[-1].version,
        )

    async def drain(self, tenant: str, pod_uids: Collection[str]) -> None:
        """For a minute the workers of these pods claim nothing."""
        await self._db.fetch(QUERIES["drain_pods"], tenant, list(pod_uids))

    async def spare(self, tenant: str, pod_uids: Collection[str]) -> None:
        """The workers of these pods claim again."""
        await self._db.fetch(QUERIES["spare_pods"], tenant, list(pod_uids))

    async def pool_records(self, tenant: str) -> dict[str, PoolRecord]:
        """What is kept of a tenant's pools, by name."""
        return {row["name"]: _record(row) for row in await self._db.fetch(QUERIES["pool_records"], tenant)}

    async def keep_pool_record(self, tenant: str, name: str, record: PoolRecord) -> None:
        """Keep this of a pool."""
        strangers = json.dumps({each: at.isoformat() for each, at in record.strangers.items()})
        starts = json.dumps(dict(record.start_seconds))
        await self._db.fetch(
            QUERIES["keep_pool_record"], tenant, name, list(record.queues), list(record.tasks), strangers, starts
        )


def _record(row: Record) -> PoolRecord:
    return PoolRecord(
        queues=row["queues"],
        tasks=row["tasks"],
        strangers={each: datetime.fromisoformat(at) for each, at in json.loads(row["strangers"]).items()},
        start_seconds=json.loads(row["starts"]),
    )


def _ticks(rows: Collection[Record], now: datetime, ahead: timedelta) -> Iterator[Waiting]:
    for row in rows:
        try:
            schedule = stored_schedule(row)
        except InvalidSchedule:  # of a newer release: its workers will make jobs of it, and those count
            continue
        yield from _ticks_of(schedule, now, ahead)


def _ticks_of(schedule: StoredSchedule, now: datetime, ahead: timedelta) -> Iterator[Waiting]:
    """What any worker would make of it; one run where its runs must not overlap."""
    definition = schedule.definition
    ticks = plan_ticks(schedule, now, ahead).ticks
    for tick in ticks if definition.policy.overlap == "allow" else ticks[:1]:
        in_seconds = max(0, ceil((tick.due_at - now).total_seconds()))
        yield Waiting(definition.template.queue, definition.template.task, in_seconds, 1)


def _worker(told: dict[str, object]) -> WorkerLoad:
    return WorkerLoad(**{**told, "started_at": datetime.fromisoformat(str(told["started_at"]))})  # type: ignore[arg-type]
