"""Rows of ``scheduled_jobs`` as the engine moves them: in, claimed, ended, rescued.

Invariant: every write of an outcome is fenced by id, token and worker; what does not come back was not ours any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pg_scheduler._domain.jobs import ClaimedJob, NewJob
from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._store.database import Database
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.job_status import JobStatus

ORPHANS_MAX = 500
"""How many jobs one ``requeue_orphans`` takes; the statement says why it names the number itself."""


@dataclass(frozen=True, slots=True)
class TakenId:
    """What stands under a job id that is taken; ``owner`` names the custom resource that it belongs to, if one does."""

    status: JobStatus
    owner: str | None


class NextDue(NamedTuple):
    """Seconds until the first claimable job, negative when it is due already; None when there is none. Jobs with a
    concurrency key are claimed by another statement, so they are counted apart.
    """

    unkeyed: float | None
    keyed: float | None

    @property
    def first(self) -> float | None:
        """Of the two the sooner."""
        return min((seconds for seconds in self if seconds is not None), default=None)


class JobStore:
    """The statements of ``sql/jobs.sql``."""

    def __init__(self, database: Database, *, wake_within_seconds: float) -> None:
        self._db = database
        self._wake_within = wake_within_seconds

    async def insert(self, job: NewJob) -> bool:
        """Whether the id was free and the row is committed."""
        return await self._db.fetchrow(QUERIES["insert_job"], *job, self._wake_within) is not None

    async def replace(self, job: NewJob) -> bool:
        """Insert or overwrite; False when a custom resource owns the row."""
        return await self._db.fetchrow(QUERIES["replace_job"], *job, self._wake_within) is not None

    async def taken(self, job_id: str) -> TakenId | None:
        """What stands under the id."""
        row = await self._db.fetchrow(QUERIES["job_status"], job_id)
        if row is None:
            return None
        owner = f"{row['source_kind']} {row['source_name']}" if row["source_kind"] else None
        return TakenId(JobStatus(row["status"]), owner)

    async def cancel(self, job_id: str) -> bool:
        """Whether the row was still open and is now cancelled."""
        return await self._db.fetchrow(QUERIES["cancel_job"], job_id) is not None

    async def run_again(self, job_id: str) -> bool:
        """Whether the row had ended without success, belongs to no custom resource, and is now pending."""
        return await self._db.fetchrow(QUERIES["run_job_again"], job_id) is not None

    async def next_due(self, tenant: str, queues: Sequence[str], tasks: Sequence[str]) -> NextDue:
        """When the first jobs that this worker could run fall due."""
        row = await self._db.fetchrow(QUERIES["next_due"], tenant, queues, tasks)
        return NextDue(None, None) if row is None else NextDue(row["unkeyed"], row["keyed"])

    async def claim(
        self, worker_id: str, tenant: str, queues: Sequence[str], tasks: Sequence[str], limit: int
    ) -> list[ClaimedJob]:
        """At most ``limit`` due jobs, earlier named queues first, now running under this worker; in no order."""
        each = [limit] * len(queues)
        rows = await self._db.fetch(QUERIES["claim_jobs"], worker_id, tenant, queues, tasks, each, limit)
        return [ClaimedJob(*row) for row in rows]

    async def claim_keyed(
        self, worker_id: str, tenant: str, queues: Sequence[str], tasks: Sequence[str], limit: int
    ) -> list[ClaimedJob]:
        """As ``claim``, of the jobs with a concurrency key; those whose key is full wait, are skipped, or replace."""
        rows = await self._db.fetch(QUERIES["claim_keyed_jobs"], worker_id, tenant, queues, tasks, limit)
        return [ClaimedJob(*row) for row in rows]

    async def promote_waiting(self) -> int:
        """Put back into the queue what waits for a key that has free slots; how many jobs."""
        promoted: int = await self._db.fetchval(QUERIES["promote_waiting"])
        return promoted

    async def complete(self, jobs: Sequence[ClaimedJob], worker_id: str) -> set[int]:
        """Tokens of the jobs that were still ours and are now completed."""
        return await self._fenced("complete_jobs", jobs, worker_id)

    async def release(self, jobs: Sequence[ClaimedJob], worker_id: str) -> set[int]:
        """Tokens of the jobs that were still ours and are pending again."""
        return await self._fenced("release_jobs", jobs, worker_id)

    async def fail(self, job: ClaimedJob, error: ErrorRecord) -> bool:
        """Whether the job was still ours and has now failed."""
        return await self._db.fetchrow(QUERIES["fail_job"], *_fence(job), *_error(error)) is not None

    async def retry(self, job: ClaimedJob, error: ErrorRecord, seconds: float) -> bool:
        """Whether the job was still ours and is pending again, due after ``seconds``."""
        return await self._db.fetchrow(QUERIES["retry_job"], *_fence(job), *_error(error), seconds) is not None

    async def report_stopped(self, job: ClaimedJob) -> None:
        """Say that the coroutine of a cancelled or replaced job has ended."""
        await self._db.fetchrow(QUERIES["report_stopped"], job.id, job.worker_id)

    async def requeue_orphans(self, max_interruptions: int) -> list[JobStatus]:
        """Take up to ``ORPHANS_MAX`` jobs from dead workers: the status that each now has, pending or failed."""
        rows = await self._db.fetch(QUERIES["requeue_orphans"], max_interruptions)
        return [JobStatus(row["status"]) for row in rows]

    async def forget_stopping(self) -> int:
        """Stop waiting for the word of dead workers, and of slow ones; how many rows waited."""
        return len(await self._db.fetch(QUERIES["forget_stopping"]))

    async def wake_workers(self) -> None:
        """Ring every listening worker."""
        await self._db.fetchrow(QUERIES["wake_workers"])

    async def _fenced(self, query: str, jobs: Sequence[ClaimedJob], worker_id: str) -> set[int]:
        ids, tokens = [job.id for job in jobs], [job.token for job in jobs]
        return {row["token"] for row in await self._db.fetch(QUERIES[query], ids, tokens, worker_id)}


def _fence(job: ClaimedJob) -> tuple[int, int, str]:
    return (job.id, job.token, job.worker_id)


def _error(error: ErrorRecord) -> tuple[str, str, str]:
    return (error.type, error.message, error.traceback)
