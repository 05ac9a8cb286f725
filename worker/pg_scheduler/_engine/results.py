"""Wait for the end of a job, from any process.

Invariant: what the row says is what counts. A notification only ends a pause early, so that one that is lost costs a
second.
"""

import asyncio
from typing import Any

from pg_scheduler._domain import codec
from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._domain.payloads import Payloads
from pg_scheduler._engine.service import sleep
from pg_scheduler._store.results import EndOfJob, ResultStore
from pg_scheduler._store.wakeups import Bell, Wakeups
from pg_scheduler.errors import JobCancelled, JobExpired, JobFailed, NoResult, ResultNotKept, UnknownJob
from pg_scheduler.job_status import JobStatus

PAUSE_SECONDS = 1.0


class Results:
    """``Scheduler.result``."""

    def __init__(self, store: ResultStore, bell: Bell, wakeups: Wakeups, payloads: Payloads) -> None:
        self._store = store
        self._bell = bell
        self._wakeups = wakeups
        self._payloads = payloads
        self._waiting = 0
        self._stop = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    async def wait(self, job_id: str, seconds: float | None) -> Any:
        """As ``Scheduler.result`` says."""
        async with asyncio.timeout(seconds):
            end = await self._store.end_of(job_id)
            if end is None or not end.status.is_final:
                end = await self._wait_for_end(job_id)
        return _value(job_id, end, self._payloads)

    async def _wait_for_end(self, job_id: str) -> EndOfJob | None:
        rung = self._bell.subscribe()
        self._begin_to_listen()
        try:
            while True:
                rung.clear()
                end = await self._store.end_of(job_id)
                if end is None or end.status.is_final:
                    return end
                await sleep(PAUSE_SECONDS, rung)
        finally:
            self._bell.unsubscribe(rung)
            await self._cease_to_listen()

    def _begin_to_listen(self) -> None:
        self._waiting += 1
        if self._waiting == 1:
            self._stop = asyncio.Event()
            self._listening = asyncio.create_task(self._wakeups.run(self._stop), name="pg_scheduler results")

    async def _cease_to_listen(self) -> None:
        self._waiting -= 1
        if not self._waiting and self._listening is not None:
            self._stop.set()
            listening, self._listening = self._listening, None
            await asyncio.gather(listening, return_exceptions=True)  # without it each waiter still polls


def _value(job_id: str, end: EndOfJob | None, payloads: Payloads) -> Any:
    if end is None:
        raise UnknownJob(
            f"there is no job {job_id[:40]!r}", job_id=job_id, why="or the retention has deleted it since it ended"
        )
    if end.status is JobStatus.COMPLETED:
        return _result(job_id, end, payloads)
    raise _no_result(job_id, end)


def _result(job_id: str, end: EndOfJob, payloads: Payloads) -> Any:
    if end.result is not None:
        return codec.decode_result(payloads.opened(end.result))
    raise ResultNotKept(
        f"job {job_id!r} completed and its result is not stored",
        job_id=job_id,
        why=end.refused or "nobody asked for it, or the job completed in its own transaction",
        fix="" if end.refused else "say @task(keep_result=True)",
    )


def _no_result(job_id: str, end: EndOfJob) -> NoResult:
    match end.status:
        case JobStatus.FAILED:
            error = end.error or ErrorRecord("", end.message, "")
            return JobFailed(
                f"job {job_id!r} failed",
                job_id=job_id,
                error_type=error.type,
                error_message=error.message,
                error_traceback=error.traceback,
                attempt=end.attempt,
            )
        case JobStatus.CANCELLED:
            return JobCancelled(f"job {job_id!r} was cancelled", job_id=job_id, why=end.message)
        case JobStatus.EXPIRED:
            return JobExpired(f"job {job_id!r} expired before it was started", job_id=job_id)
        case _:
            raise AssertionError(f"{end.status} is no end without a result")
