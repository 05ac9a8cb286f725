"""Rows as the custom resources that own them see them: written under a source, read back, counted."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pg_scheduler._domain.schedules import ScheduleKey, Template
from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Record
from pg_scheduler._store.queries import QUERIES
from pg_scheduler._store.schedule_rows import columns_of
from pg_scheduler.job_template import Deletion

JOB_KIND = "ScheduledJob"
_RELEASE = {
    Deletion.CANCEL_PENDING: "withdraw_owned_job",
    Deletion.CANCEL: "cancel_owned_job",
    Deletion.ORPHAN: "orphan_owned_job",
}

OVERDUE_SECONDS = 60.0
"""A tick that no worker has made a job of for so long is told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedJob:
    """One row to write for a source; ``run_at`` None means now."""

    job_id: str
    template: Template
    run_at: datetime | None
    misfire_grace_time: int | None
    suspended: bool
    deletion: Deletion
    digest: str
    tenant: str
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

    async def upsert_job(self, job: OwnedJob) -> None:
        """Make the row, or change what may still be changed of it while its generation is lower."""
        template = job.template
        row = await self._db.fetchrow(
            QUERIES["upsert_owned_job"],
            job.job_id,
            job.tenant,
            template.queue,
            template.task,
            template.payload,
            job.run_at,
            template.priority,
            job.suspended,
            job.cluster,
            JOB_KIND,
            job.uid,
            job.name,
            job.generation,
            job.digest,
            job.deletion,
            job.misfire_grace_time,
            template.max_retries,
            template.retry_policy,
            template.timeout_seconds,
            template.concurrency_key,
            template.concurrency_limit,
            template.keep_result,
            template.metadata,
            self._wake_within,
        )
        if row is None:
            await self._db.fetch(
                QUERIES["change_started_job"],
                job.job_id,
                job.uid,
                job.digest,
                job.suspended,
                job.deletion,
                job.generation,
            )

    async def cancel_job(self, job_id: str, uid: str) -> None:
        """Cancel while open, for the row's own source only."""
        await self._db.fetch(QUERIES["cancel_owned_job"], job_id, uid)

    async def release_job(self, job_id: str, uid: str, deletion: Deletion) -> None:
        """Do what is to become of a row whose own source is deleted."""
        await self._db.fetch(QUERIES[_RELEASE[deletion]], job_id, uid)

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

    async def adopt_job(
        self,
        job_id: str,
        *,
        tenant: str,
        cluster: str,
        uid: str,
        name: str,
        generation: int,
        deletion: Deletion,
        suspended: bool,
    ) -> bool:
        """Give an open row another source, if it has none or one that is gone; whether that was so."""
        rows = await self._db.fetch(
            QUERIES["adopt_owned_job"],
            job_id,
            cluster,
            JOB_KIND,
            uid,
            name,
            generation,
            deletion,
            suspended,
            tenant,
        )
        return bool(rows)

    async def expire_job(self, job_id: str, uid: str) -> bool:
        """Expire a row that no worker could have started in time; whether it was such a one."""
        return bool(await self._db.fetch(QUERIES["expire_owned_job"], job_id, uid))

    async def jobs(self, job_ids: Collection[str], *, result_bytes_max: int, error_text_max: int) -> list[Record]:
        """Rows by id, with results of so many bytes at most and so many characters of an error's text."""
        return await self._db.fetch(QUERIES["job_states"], list(job_ids), result_bytes_max, error_text_max)

    async def jobs_of(self, cluster: str, uids: Collection[str]) -> list[Record]:
        """Ids of open rows of these sources, and what their rows say becomes of them."""
        return await self._db.fetch(QUERIES["jobs_of_sources"], cluster, list(uids))

    async def tombstone(self, job_id: str) -> Record | None:
        """How a job ended whose row is gone."""
        return await self._db.fetchrow(QUERIES["tombstone"], job_id)

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
