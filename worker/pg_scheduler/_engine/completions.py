"""Outcomes on their way to the database, in batches.

Invariant: an outcome that was added stays here until the database has answered; a flush that failed is sent again,
which changes nothing the second time, since every write is fenced. A crash between is a second run of those jobs,
never a loss.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import assert_never

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._domain.outcomes import (
    DISCARDED,
    WORDS,
    Cancel,
    Complete,
    CompleteWith,
    Fail,
    Outcome,
    Release,
    ReportStopped,
    RetryIn,
    SnoozeFor,
    WriteNothing,
)
from pg_scheduler._engine.service import OUTAGE_PAUSES, keep_running, sleep
from pg_scheduler._store.jobs import JobStore
from pg_scheduler.errors import DatabaseUnreachable

BATCH_SECONDS = 0.01
BATCH_JOBS = 200

WriteMany = Callable[[Sequence[ClaimedJob], str], Awaitable[set[int]]]

logger = logging.getLogger("pg_scheduler.engine")


class Completions:
    """The buffer and the service that empties it.

    Attributes:
        ended: how many attempts have ended in each way, by the words of ``_domain.outcomes``.
    """

    def __init__(
        self,
        jobs: JobStore,
        *,
        on_tick_failed: Callable[[], None] = lambda: None,
        on_written: Callable[[Iterable[ClaimedJob]], None] = lambda _: None,
    ) -> None:
        self._jobs = jobs
        self._on_tick_failed = on_tick_failed
        self._on_written = on_written
        self.ended = dict.fromkeys((*WORDS.values(), DISCARDED), 0)
        self._waiting: dict[int, tuple[ClaimedJob, Outcome]] = {}
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()

    def add(self, job: ClaimedJob, outcome: Outcome) -> None:
        """Take an outcome over."""
        if not self._waiting:
            self._wake.set()  # with something waiting the service does not sleep for long
        self._waiting[job.token] = (job, outcome)

    def hurry(self) -> None:
        """Write what waits at once: a job that must not run twice does not wait for company, nor where none comes."""
        if self._waiting:
            self._urgent.set()

    def tokens(self) -> frozenset[int]:
        """Tokens of the outcomes that wait; may be called from the heartbeat's thread."""
        return frozenset(self._waiting.copy())

    async def run_once(self) -> int:
        """Write what waits; how many outcomes were written or had become somebody else's."""
        batch = list(self._waiting.values())
        completed = [job for job, outcome in batch if isinstance(outcome, Complete)]
        await self._write_many(self._jobs.complete, completed, Complete)
        if len(completed) < len(batch):
            released = [job for job, outcome in batch if isinstance(outcome, Release)]
            await self._write_many(self._jobs.release, released, Release)
            for job, outcome in batch:
                if job.token in self._waiting:
                    await self._write_one(job, outcome)
        self._on_written(job for job, _ in batch)
        return len(batch)

    async def run(self, stopping: asyncio.Event) -> None:
        """Flush 10 ms after the first outcome, or at once when many wait, until ``stopping``."""
        await keep_running("completions", self._pass, wake=self._wake, stopping=stopping)

    def wake(self) -> None:
        """End the present sleep."""
        self._wake.set()

    async def drain(self, seconds: float) -> int:
        """Write all that waits, trying again for ``seconds``; how many outcomes are still unwritten then."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._waiting:
                    with contextlib.suppress(DatabaseUnreachable):
                        await self.run_once()
                        continue
                    await asyncio.sleep(OUTAGE_PAUSES[0])
        return len(self._waiting)

    async def _pass(self) -> float:
        if self._waiting and len(self._waiting) < BATCH_JOBS:
            await sleep(BATCH_SECONDS, self._urgent)
        self._urgent.clear()
        if self._waiting:
            await self.run_once()
        return 0.0 if self._waiting else 60.0

    async def _write_many(self, write: WriteMany, jobs: Sequence[ClaimedJob], outcome: type[Outcome]) -> None:
        for worker_id in {job.worker_id for job in jobs}:  # one, but for what a buried incarnation left behind
            batch = [job for job in jobs if job.worker_id == worker_id]
            written = await write(batch, worker_id)
            for token in written:
                del self._waiting[token]
            self.ended[WORDS[outcome]] += len(written)
            if len(written) < len(batch):
                for job in batch:
                    if job.token not in written:
                        await self._refused(job)

    async def _write_one(self, job: ClaimedJob, outcome: Outcome) -> None:
        match outcome:
            case Fail(error):
                held = await self._jobs.fail(job, error)
                if job.tick_at is not None:
                    self._on_tick_failed()
            case RetryIn(seconds, error):
                held = await self._jobs.retry(job, error, seconds)
            case CompleteWith(result):
                held = await self._jobs.complete_with(job, result)
            case SnoozeFor(seconds):
                held = await self._jobs.snooze(job, seconds)
            case Cancel(reason):
                held = await self._jobs.cancel_running(job, reason)
            case ReportStopped():
                held = False
            case Complete() | Release() | WriteNothing():
                raise AssertionError("written in batches before, or in the job's own transaction")
            case _:
                assert_never(outcome)
        if held:
            del self._waiting[job.token]
            self.ended[WORDS[type(outcome)]] += 1
        else:
            await self._refused(job)

    async def _refused(self, job: ClaimedJob) -> None:
        # Cancelled or replaced before it was told: whoever took it away waits for the word that it has ended.
        await self._jobs.report_stopped(job)
        logger.info("job %s ended under token %d, which is no longer current: discarded", job.job_id, job.token)
        del self._waiting[job.token]
        self.ended[DISCARDED] += 1
