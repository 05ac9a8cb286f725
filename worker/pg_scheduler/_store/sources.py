"""Rows as the custom resources that own them see them: written under a source, read back, counted."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pg_scheduler._domain.schedules import ScheduleKey
from pg_scheduler._store.database import Database, Record
from pg_scheduler._store.queries import QUERIES
from pg_scheduler._store.schedule_rows import columns_of

JOB_KIND = "ScheduledJob"

OVERDUE_SECONDS = 60.0
"""A tick that no worker has made a job of for so long is told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedJob:
    """One row to write for a source; ``run_at`` None means now."""

    job_id: str
    tenant: str
    task: str
    payload: str
    run_at: datetime | None
    priority: int
    suspended: bool
    queue: str
    cluster: str
    uid: str
    name: str
    generation: int


@dataclass(frozen=True, slots=True)
class Changed:
    """What may have changed since a cursor, read in one snapshot with the next cursor."""

    read_at: datetime
    job_ids: Sequence[str]
    schedules: Sequence[Record]


class SourceStore:
    """The statements of ``sql/sources.sql``."""

    def __init__(self, database: Database, *, wake_within_seconds: float) -> None:
        self._db = database
        self._wake_within = wake_within_seconds

    async def upsert_job(self, job: OwnedJob) -> bool:
        """Make the row, or change it while it is pending and its generation lower; whether anything was written."""
        row = await self._db.fetchrow(
            QUERIES["upsert_owned_job"],
            job.job_id,
            job.tenant,
            job.queue,
            job.task,
            job.payload,
            job.run_at,
            job.priority,
            job.suspended,
            job.cluster,
            JOB_KIND,
            job.uid,
            job.name,
            job.generation,
            self._wake_within,
        )
        return row is not None

    async def cancel_job(self, job_id: str, uid: str) -> None:
        """Cancel while open, for the row's own source only."""
        await self._db.fetch(QUERIES["cancel_owned_job"], job_id, uid)

    async def withdraw_job(self, job_id: str, uid: str) -> None:
        """Cancel while it has not started, for the row's own source only."""
        await self._db.fetch(QUERIES["withdraw_owned_job"], job_id, uid)

    async def settle_job(
        self,
        job_id: str,
        uid: str,
        status: str,
        *,
        attempt: int,
        worker_id: str | None,
        started_at: datetime | None,
        finished_at: datetime | None,
    ) -> None:
        """End it as it is known to have ended, for the row's own source only."""
        values = (job_id, uid, status, attempt, worker_id, started_at, finished_at)
        await self._db.fetch(QUERIES["settle_owned_job"], *values)

    async def jobs(self, job_ids: Collection[str]) -> list[Record]:
        """Rows by id."""
        return await self._db.fetch(QUERIES["job_states"], list(job_ids))

    async def schedules(self, keys: Mapping[ScheduleKey, bool]) -> list[Record]:
        """The rows that there are of these sources, each with the id of its newest run; True: with its ledger."""
        return await self._db.fetch(QUERIES["schedule_states"], *columns_of(keys), list(keys.values()), OVERDUE_SECONDS)

    async def changed_since(self, cluster: str, since: datetime | None) -> Changed:
        """What ended after ``since`` or runs; with None, what runs."""
        async with self._db.transaction() as connection:
            now: datetime = await connection.fetchval(QUERIES["now"])
            jobs = await connection.fetch(QUERIES["changed_jobs"], cluster, since or now)
            schedules = await connection.fetch(QUERIES["changed_schedules"], cluster, since or now, OVERDUE_SECONDS)
        return Changed(now, [row["job_id"] for row in jobs], schedules)

    async def open_sources(self, cluster: str) -> list[Record]:
        """Sources that still have a schedule, or a job that has not ended."""
        return await self._db.fetch(QUERIES["open_sources"], cluster)

    async def unknown_tasks(self, tenant: str, tasks: Collection[str]) -> set[str]:
        """Those that no living worker knows; empty while none lives."""
        rows = await self._db.fetch(QUERIES["unknown_tasks"], tenant, list(tasks))
        return {row["task"] for row in rows}
