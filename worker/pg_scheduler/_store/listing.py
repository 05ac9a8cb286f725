"""Jobs and queues as people and tools get to see them.

Invariant: a listing holds one page in memory, however many jobs it goes over.
"""

import json
from collections.abc import AsyncIterator

from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Record
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import OwnedByResource
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.job_status import JobStatus
from pg_scheduler.listing import JobFilter, JobInfo, QueueInfo

PAGE = 500


class ListingStore:
    """What one tenant has."""

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._db = database
        self._tenant = tenant

    async def jobs(self, wanted: JobFilter) -> AsyncIterator[JobInfo]:
        """Those that the filter lets through, in the descending order of their ids."""
        left, after = wanted.limit, wanted.after
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = await self._page(wanted, after, size)
            for row in page:
                yield _job_info(row)
            if len(page) < size:
                return
            left, after = left if left is None else left - size, page[-1]["job_id"]

    async def job(self, job_id: str) -> JobInfo | None:
        """One job, or None where there is none by that id."""
        rows = await self._page(JobFilter(ids=[job_id]), None, 1)
        return _job_info(rows[0]) if rows else None

    async def _page(self, wanted: JobFilter, after: str | None, size: int) -> list[Record]:
        return await self._db.fetch(
            QUERIES["list_jobs"],
            self._tenant,
            after,
            list(wanted.statuses),
            None if wanted.ids is None else list(wanted.ids),
            wanted.task,
            wanted.queue,
            list(wanted.tags),
            wanted.schedule,
            wanted.created_from,
            wanted.created_until,
            wanted.due_from,
            wanted.due_until,
            size,
        )


class QueueStore:
    """The queues of one tenant: held back, let go, listed."""

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._db = database
        self._tenant = tenant

    async def pause(self, queue: str, *, by: str | None, reason: str | None) -> None:
        """Nothing of it is claimed from now on."""
        await self._db.fetch(QUERIES["pause_queue"], self._tenant, queue, by, reason)

    async def resume(self, queue: str) -> bool:
        """Whether it was paused, and is no more.

        Raises:
            OwnedByResource: a WorkerPool says that it is paused.
        """
        row = await self._db.fetchrow(QUERIES["resume_queue"], self._tenant, queue)
        if row is not None and row["held_by"] is not None:
            raise OwnedByResource(
                f"queue {queue!r} is paused by WorkerPool {row['held_by']}", fix="take paused out of its spec.queues"
            )
        return row is not None

    async def all(self) -> list[QueueInfo]:
        """Those that were ever paused or served, by name."""
        return [QueueInfo(**row) for row in await self._db.fetch(QUERIES["list_queues"], self._tenant)]


def _job_info(row: Record) -> JobInfo:
    return JobInfo(
        job_id=row["job_id"],
        status=JobStatus(row["status"]),
        task=row["task"],
        job_name=row["job_name"],
        queue=row["queue"],
        priority=JobPriority.from_db_value(row["priority"]),
        execution_time=row["execution_time"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        expires_at=row["expires_at"],
        worker_id=row["worker_id"],
        attempt=row["attempt"],
        retry_count=row["retry_count"],
        max_retries=row["max_retries"],
        interruptions=row["interruptions"],
        suspended=row["suspended"],
        concurrency_key=row["concurrency_key"],
        timeout_seconds=row["timeout_seconds"],
        schedule=row["schedule"],
        tick_at=row["tick_at"],
        error=row["error"],
        tags=tuple(json.loads(row["tags"] or "[]")),
        metadata=json.loads(row["metadata"] or "{}"),
    )
