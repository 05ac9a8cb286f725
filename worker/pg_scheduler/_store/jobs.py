"""Rows of ``scheduled_jobs`` as the engine moves them: in, claimed, ended, rescued.

Invariant: every write of an outcome is fenced by id, token and worker; what does not come back was not ours any more.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import NamedTuple

from pg_scheduler._domain.jobs import ClaimedJob, NewJob
from pg_scheduler._domain.options import UniqueKey
from pg_scheduler._domain.outcomes import ErrorRecord, KeptResult
from pg_scheduler._domain.shares import WorkerSettings
from pg_scheduler._store.database import Answered, Statements
from pg_scheduler._store.driver import Connection, Record
from pg_scheduler._store.driver_errors import NOTIFY_QUEUE_FULL, translated
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import DatabaseBusy
from pg_scheduler.job_status import JobStatus

ORPHANS_MAX = 500
"""How many jobs one ``requeue_orphans`` takes; the statement says why it names the number itself."""

_claimed = partial(tuple.__new__, ClaimedJob)
"""A row of a claim as its job: ``_make`` without its look at the length, of which each claim says the columns."""


@dataclass(frozen=True, slots=True)
class TakenId:
    """What stands under a job id that is taken; ``owner`` names the custom resource that it belongs to, if one does."""

    status: JobStatus
    owner: str | None


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a worker sees when it looks; seconds are from ``now`` on, negative when late, None when there is nothing.

    Attributes:
        now: the database's time.
        due_in: until the first claimable job.
        tick_in: until the tenant's first tick.
        keyed_in: until the first claimable job with a concurrency key.
        limited_in: until a job of a limited queue could start.
        alone: a job that has outlived two workers is due.
        missing: a worker's heartbeat has lost its backend.
        took_seconds: how long after ``now`` the answer was ready.
        settings: what pools say of this worker and its queues.
    """

    now: datetime
    due_in: float | None
    tick_in: float | None
    keyed_in: float | None
    limited_in: float | None
    alone: bool
    missing: bool
    took_seconds: float
    settings: WorkerSettings


class Stored(NamedTuple):
    """The job that a submission stands for: its own with its status, or an equal or older one and None."""

    job_id: str
    status: JobStatus | None


class JobStore:
    """The statements of ``sql/jobs.sql``; with ``wake_within_seconds=None`` a submission wakes nobody."""

    def __init__(self, database: Statements, *, wake_within_seconds: float | None) -> None:
        self._db = database
        self._wake_within = wake_within_seconds

    async def insert(self, job: NewJob, connection: "Connection | None" = None) -> JobStatus | None:
        """The status that the row has now; None where the id was taken."""
        return (await self.insert_unique(job, None, connection)).status

    async def insert_unique(self, job: NewJob, unique: UniqueKey | None, connection: "Connection | None") -> Stored:
        """Insert unless an equal job is there; in the caller's own transaction on a ``connection``."""
        if unique is None:
            row = await self._submitted("insert_job", connection, job)
        else:
            row = await self._submitted("insert_unequal_job", connection, job, *unique)
        if row is None:  # the id is taken
            return Stored(job.job_id, None)
        return Stored(row["job_id"], JobStatus(row["status"]) if row["status"] else None)

    async def insert_claimed(
        self, job: NewJob, worker_id: str, *, within_seconds: float, on_claimed: Callable[[ClaimedJob], None]
    ) -> JobStatus | None:
        """As ``insert``; a job without a concurrency key that is due ``within_seconds`` is stored as claimed by this
        worker if it lives, does not drain, and the queue is not paused.

        Then ``on_claimed`` gets it as soon as it is known, before the connection is given back.
        """

        def answered(row: Record | None) -> None:
            if row is not None and row["status"] == JobStatus.RUNNING:
                on_claimed(ClaimedJob._make(row[: len(ClaimedJob._fields)]))

        row = await self._submitted("insert_claimed_job", None, job, worker_id, within_seconds, answered=answered)
        return None if row is None else JobStatus(row["status"])

    async def replace(self, job: NewJob, connection: "Connection | None" = None) -> JobStatus | None:
        """Insert or overwrite, and the status that the row has now; None when a custom resource owns it."""
        row = await self._submitted("replace_job", connection, job)
        return None if row is None else JobStatus(row["status"])

    async def taken(self, job_id: str, connection: "Connection | None" = None) -> TakenId | None:
        """What stands under the id."""
        row = await self._submit("job_status", connection, job_id)
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

    async def reschedule(self, job_id: str, execution_time: datetime) -> bool:
        """Whether the row had not started, belongs to no custom resource, and is now due then."""
        values = (job_id, execution_time, self._wake_within)
        return await self._db.fetchrow(QUERIES["reschedule_job"], *values) is not None

    async def look_ahead(
        self,
        tenant: str,
        queues: Sequence[str],
        tasks: Sequence[str],
        *,
        floor: datetime | None = None,
        worker_id: str = "",
        server_started_at: datetime | None = None,
        pool: str | None = None,
    ) -> Ahead:
        """What is due next; ``floor`` as in ``claim``. Without the server's start no worker is found missing."""
        values = (tenant, queues, tasks, floor, worker_id, server_started_at, pool)
        row = await self._db.fetchrow(QUERIES["look_ahead"], *values)
        if row is None:
            raise AssertionError("a SELECT without FROM has one row")
        allowed = row["allowed"]
        settings = WorkerSettings(
            weights=json.loads(row["weights"] or "{}"),
            limited=frozenset(row["limited"]),
            allowed_tasks=None if allowed is None else tuple(allowed),
        )
        return Ahead(
            now=row["now"],
            due_in=row["due_in"],
            tick_in=row["tick_in"],
            keyed_in=row["keyed_in"],
            limited_in=row["limited_in"],
            alone=row["alone"],
            missing=row["missing"],
            took_seconds=row["took"],
            settings=settings,
        )

    async def claim(
        self,
        worker_id: str,
        tenant: str,
        queues: Sequence[str],
        tasks: Sequence[str],
        limit: int,
        *,
        within_seconds: float = 0.0,
        floor: datetime | None = None,
    ) -> list[ClaimedJob]:
        """At most ``limit`` jobs that are due ``within_seconds``, earlier named queues first, now running under this
        worker; in no order. Nothing that was due before ``floor`` is looked at.

        Those with attempt 0 are not running: they were too late at their first claim, and have expired.
        """
        each = [limit] * len(queues)
        rows = await self._db.fetch(
            QUERIES["claim_jobs"], worker_id, tenant, queues, tasks, each, limit, within_seconds, floor
        )
        return list(map(_claimed, rows))

    async def claim_keyed(
        self,
        worker_id: str,
        tenant: str,
        queues: Sequence[str],
        tasks: Sequence[str],
        limit: int,
        *,
        within_seconds: float = 0.0,
        alone: bool = False,
    ) -> list[ClaimedJob]:
        """As ``claim``, of the jobs with a concurrency key; those due whose key is full wait, are skipped, or replace.

        The expired ones come beyond the limit. ``alone`` takes those that have outlived two workers, and only those,
        and none that is not due.
        """
        values = (worker_id, tenant, queues, tasks, limit, alone, within_seconds)
        rows = await self._db.fetch(QUERIES["claim_keyed_jobs"], *values)
        return list(map(_claimed, rows))

    async def claim_limited(
        self,
        worker_id: str,
        tenant: str,
        queues: Sequence[str],
        tasks: Sequence[str],
        limit: int,
        *,
        alone: bool = False,
    ) -> list[ClaimedJob]:
        """As ``claim``, of the jobs of limited queues, as many as their settings let start now; none ahead of its time.

        ``alone`` and the expired ones as in ``claim_keyed``.
        """
        values = (worker_id, tenant, queues, tasks, limit, alone)
        return list(map(_claimed, await self._db.fetch(QUERIES["claim_limited_jobs"], *values)))

    async def claim_poison(
        self, worker_id: str, tenant: str, queues: Sequence[str], tasks: Sequence[str]
    ) -> ClaimedJob | None:
        """One due job that has outlived two workers, now running under this worker, which must hold nothing else."""
        row = await self._db.fetchrow(QUERIES["claim_poison_job"], worker_id, tenant, queues, tasks)
        if row is not None:
            return _claimed(row)
        others = await self.claim_keyed(worker_id, tenant, queues, tasks, 1, alone=True)
        others = others or await self.claim_limited(worker_id, tenant, queues, tasks, 1, alone=True)
        return others[0] if others else None

    async def promote_waiting(self) -> int:
        """Put back into the queue what waits for a key that has free slots; how many jobs."""
        promoted: int = await self._db.fetchval(QUERIES["promote_waiting"])
        return promoted

    async def must_make_room(self, worker_id: str, tenant: str, queues: Sequence[str], tasks: Sequence[str]) -> bool:
        """Whether such a job waits, and it is this worker that is to hold nothing for it."""
        return bool(await self._db.fetchval(QUERIES["must_make_room"], worker_id, tenant, queues, tasks))

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

    async def complete_with(self, job: ClaimedJob, result: KeptResult) -> bool:
        """Whether the job was still ours and is now completed, with its result beside it."""
        query = QUERIES["complete_job_with_result"]
        return await self._db.fetchrow(query, *_fence(job), result.value, result.refused) is not None

    async def snooze(self, job: ClaimedJob, seconds: float) -> bool:
        """Whether the job was still ours and is pending again, due after ``seconds``."""
        return await self._db.fetchrow(QUERIES["snooze_job"], *_fence(job), seconds) is not None

    async def cancel_running(self, job: ClaimedJob, reason: str) -> bool:
        """Whether the job was still ours and is now cancelled, with this reason."""
        return await self._db.fetchrow(QUERIES["cancel_running_job"], *_fence(job), reason) is not None

    async def was_completed(self, job: ClaimedJob) -> bool:
        """Whether the job has been completed under this token; waits for a transaction that may just do so."""
        return bool(await self._db.fetchval(QUERIES["was_completed"], job.job_id, job.token, job.worker_id))

    async def set_progress(self, job: ClaimedJob, fraction: float, note: str) -> bool:
        """Whether the job was still ours and its progress is written."""
        return await self._db.fetchrow(QUERIES["set_progress"], *_fence(job), fraction, note) is not None

    async def report_stopped(self, job: ClaimedJob) -> None:
        """Say that the coroutine of a cancelled or replaced job has ended."""
        await self._db.fetchrow(QUERIES["report_stopped"], job.id, job.worker_id, job.token)

    async def requeue_orphans(self, max_interruptions: int) -> list[JobStatus]:
        """Take up to ``ORPHANS_MAX`` jobs from dead workers: the status that each now has, pending or failed."""
        rows = await self._db.fetch(QUERIES["requeue_orphans"], max_interruptions)
        return [JobStatus(row["status"]) for row in rows]

    async def forget_stopping(self) -> int:
        """Stop waiting for the word of dead workers, and of slow ones; how many rows waited."""
        return len(await self._db.fetch(QUERIES["forget_stopping"]))

    async def statuses(self, job_ids: Collection[str]) -> dict[str, JobStatus]:
        """What has become of these jobs; nothing is said of one whose row is gone."""
        rows = await self._db.fetch(QUERIES["statuses"], list(job_ids))
        return {row["job_id"]: JobStatus(row["status"]) for row in rows}

    async def wake_workers(self) -> None:
        """Ring every listening worker."""
        await self._db.fetchrow(QUERIES["wake_workers"])

    async def _submitted(
        self,
        query: str,
        connection: "Connection | None",
        job: NewJob,
        *more: object,
        answered: Answered | None = None,
    ) -> Record | None:
        try:
            return await self._submit(query, connection, *job, self._wake_within, *more, answered=answered)
        except DatabaseBusy as error:
            if connection is not None or error.sqlstate != NOTIFY_QUEUE_FULL:
                raise
            # The notification undid the insert too. Without one, the next poll finds the job.
            return await self._submit(query, None, *job, None, *more, answered=answered)

    async def _submit(
        self,
        query: str,
        connection: "Connection | None",
        *values: object,
        answered: Answered | None = None,
    ) -> Record | None:
        if answered is not None:
            return await self._db.fetchrow(QUERIES[query], *values, answered=answered)
        if connection is None:
            return await self._db.fetchrow(QUERIES[query], *values)
        with translated(self._db.place, connection):
            return await connection.fetchrow(QUERIES[query], *values)

    async def _fenced(self, query: str, jobs: Sequence[ClaimedJob], worker_id: str) -> set[int]:
        ids, tokens = [job.id for job in jobs], [job.token for job in jobs]
        return {row[0] for row in await self._db.fetch(QUERIES[query], ids, tokens, worker_id)}


def _fence(job: ClaimedJob) -> tuple[int, int, str]:
    return (job.id, job.token, job.worker_id)


def _error(error: ErrorRecord) -> tuple[str, str, str]:
    return (error.type, error.message, error.traceback)
