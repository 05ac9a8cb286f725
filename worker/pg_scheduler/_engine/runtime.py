"""What stands behind a ``JobContext``: the worker's side of one attempt.

Invariant: all it writes is fenced by the attempt's token, or is part of a transaction that is.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pg_scheduler._engine.slots import HeldJob
from pg_scheduler._engine.submission import Submission
from pg_scheduler._store.database import Database
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.queries import QUERIES
from pg_scheduler._store.transactions import JobTransactions
from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.context import JobContext
from pg_scheduler.errors import InvalidArgument, LostClaim, TransactionRefused
from pg_scheduler.job_spec import JobSpec

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

NOTE_CHARACTERS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobServices:
    """What the attempts of a worker share, on the caller's pool.

    Attributes:
        submission: how jobs submit jobs.
        database: where they do.
        jobs: their rows there.
        transactions: those that complete their job.
        on_submitted: rung once a job that was submitted in a transaction is committed.
    """

    submission: Submission
    database: Database
    jobs: JobStore
    transactions: JobTransactions
    on_submitted: Callable[[], None]


class AttemptRuntime:
    """The ``Runtime`` of one held job."""

    def __init__(self, held: HeldJob, services: JobServices, deadline: float | None) -> None:
        self._held = held
        self._services = services
        self._deadline = deadline
        self._block: PoolConnectionProxy[Any] | None = None
        self._enqueued_in_block = False

    @property
    def cancel_requested(self) -> bool:
        """Whether the job has been told to end, or its time is up; may be asked from any thread."""
        return self._held.stop_reason is not None or (self._deadline is not None and time.monotonic() >= self._deadline)

    def transaction(self) -> "AbstractAsyncContextManager[PoolConnectionProxy[Any]]":
        """As ``JobContext.transaction`` says."""
        if self._held.settled or self._block is not None:
            state = "has completed in a transaction already" if self._held.settled else "is in a transaction already"
            raise TransactionRefused(
                f"job {self._held.job.job_id!r} {state}",
                why="the end of the block completes the job, and a job completes once",
                fix="do all of the job's writes in one block",
            )
        return self._transaction()

    async def enqueue(
        self,
        func: Callable[..., Any],
        execution_time: datetime | None,
        conflict: ConflictResolution,
        options: Mapping[str, Any],
    ) -> str:
        """Submit in the open block, or else on its own."""
        due_at, block = execution_time, self._block
        if due_at is None:
            due_at = await (self._services.database if block is None else block).fetchval(QUERIES["now"])
        self._enqueued_in_block = block is not None
        return await self._services.submission.schedule(JobSpec(func, due_at, **options), conflict, block)

    async def progress(self, fraction: float, note: str) -> None:
        """Write it, or learn that the job is somebody else's."""
        if not 0 <= fraction <= 1:  # nor is NaN
            raise InvalidArgument(f"progress is {str(fraction)[:40]!r}", fix="give a number from 0 to 1")
        if len(note) > NOTE_CHARACTERS_MAX or "\x00" in note:
            raise InvalidArgument(
                "the note of a progress holds a NUL or is too long", fix="give up to 1,000 characters"
            )
        if not await self._services.jobs.set_progress(self._held.job, float(fraction), note):
            raise LostClaim(f"job {self._held.job.job_id!r} is no longer this attempt's")

    @asynccontextmanager
    async def _transaction(self) -> "AsyncIterator[PoolConnectionProxy[Any]]":
        try:
            async with self._services.transactions.completing(self._held.job, self._set_settled) as connection:
                self._block = connection
                yield connection
        finally:
            self._block = None
        if self._enqueued_in_block:
            self._services.on_submitted()

    def _set_settled(self, settled: bool) -> None:
        self._held.settled = settled


def context_of(held: HeldJob, services: JobServices, deadline: float | None) -> JobContext:
    """The context of a held job."""
    job = held.job
    return JobContext(
        AttemptRuntime(held, services, deadline),
        job_id=job.job_id,
        token=job.token,
        attempt=job.attempt,
        scheduled_at=job.execution_time,
        tick=job.tick_at,
        previous_tick=job.previous_tick_at,
        deadline=deadline,
    )
