"""What a running job may know and do: ``JobContext``, and the three ways to end other than by returning or raising.

Invariant: a context belongs to one attempt of one job, and all it does is fenced by that attempt's token. The worker
stands behind it as a ``Runtime``, the one seam between this vocabulary and the engine; users never make either.
"""

import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.job_spec import _UNSET

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[Any]

_logger = logging.getLogger("pg_scheduler.job")


class Snooze(Exception):
    """Return or raise it in a job: run me again after ``seconds``; no retry is charged.

    Args:
        seconds: 0 to 366 days.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds} s")
        self.seconds = seconds


class Cancel(Exception):
    """Return or raise it in a job: there is nothing left to do; the job ends ``cancelled``, with this reason."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Fail(Exception):
    """Return or raise it in a job: no further attempt can help; the job ends ``failed``, whatever retries are left."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Runtime(Protocol):
    """What the worker does for one attempt of a job. Private: the engine implements it, tests of users may."""

    @property
    def cancel_requested(self) -> bool: ...

    def transaction(self) -> "AbstractAsyncContextManager[Connection]": ...

    async def enqueue(
        self,
        func: Callable[..., Any],
        execution_time: datetime | None,
        conflict: ConflictResolution,
        options: Mapping[str, Any],
    ) -> str: ...

    async def progress(self, fraction: float, note: str) -> None: ...


class JobContext:
    """The running attempt, given to every parameter of a task that is annotated ``JobContext``.

    Attributes:
        job_id: the job's id.
        token: rises with every start of any job; write it beside what you store to fence off an older attempt.
        attempt: 1 for the first start, 2 for the next, whatever the reason.
        scheduled_at: when this attempt was due, in UTC.
        tick: the instant of the schedule that made the job, in UTC; None for a job of its own.
        previous_tick: the last instant before it for which the schedule made a job, so that a run that makes up for
            missed ones knows what it stands for; None for the first, and for a job of its own.
        deadline: when the job's timeout strikes, in seconds of the event loop's clock (``asyncio.timeout_at``
            takes it); None without a timeout.
    """

    __slots__ = ("_log", "_runtime", "attempt", "deadline", "job_id", "previous_tick", "scheduled_at", "tick", "token")

    def __init__(
        self,
        runtime: Runtime,
        *,
        job_id: str,
        token: int,
        attempt: int,
        scheduled_at: datetime,
        tick: datetime | None = None,
        previous_tick: datetime | None = None,
        deadline: float | None = None,
    ) -> None:
        self._runtime = runtime
        self._log: logging.LoggerAdapter[logging.Logger] | None = None
        self.job_id = job_id
        self.token = token
        self.attempt = attempt
        self.scheduled_at = scheduled_at
        self.tick = tick
        self.previous_tick = previous_tick
        self.deadline = deadline

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this job: hand it to services outside the database."""
        return self.job_id

    @property
    def cancel_requested(self) -> bool:
        """Whether this attempt has been told to end: cancelled, replaced, timed out, or its worker shuts down.

        A coroutine learns it by its ``CancelledError``; a function in a thread has to look.
        """
        return self._runtime.cancel_requested

    @property
    def logger(self) -> "logging.LoggerAdapter[logging.Logger]":
        """The logger ``pg_scheduler.job``; each record carries ``job_id``, ``token`` and ``attempt``."""
        if self._log is None:
            self._log = _JobLogger(_logger, {"job_id": self.job_id, "token": self.token, "attempt": self.attempt})
        return self._log

    def transaction(self) -> "AbstractAsyncContextManager[Connection]":
        """A block whose database work and this job's completion are one commit, or neither is.

        ::

            async with ctx.transaction() as connection:
                await connection.execute("UPDATE orders SET paid = true WHERE id = $1", order_id)

        The connection comes from the scheduler's pool. The block's last statement completes the job under its token.
        PostgreSQL ends the transaction when it idles for longer than a third of the lease: call other services before
        the block. After the block the job is completed; what the function raises from there on is only logged. A
        block that was rolled back may be tried again.

        Raises:
            LostClaim: at the end of the block: the job is no longer this attempt's; everything was rolled back.
            TransactionRefused: another block of this job has been committed, or is still open.
            TransactionLost: the connection was lost; nothing was committed. The message says why, if that is known.
            DatabaseUnreachable: no connection to be had.
        """
        return self._runtime.transaction()

    async def enqueue(
        self,
        func: Callable[..., Any],
        *,
        execution_time: datetime | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: JobPriority = JobPriority.NORMAL,
        max_retries: int = 0,
        job_id: str | None = None,
        conflict_resolution: ConflictResolution = ConflictResolution.RAISE,
        misfire_grace_time: int | None | object = _UNSET,
        **options: Any,
    ) -> str:
        """Schedule another job, with the options of ``Scheduler.schedule``.

        Inside a ``transaction()`` block it is part of that commit; outside it is committed when this returns.

        Args:
            func: an async function or a task.
            execution_time: aware instant; now, by the database's clock, if not given.
            args: positional arguments.
            kwargs: keyword arguments.
            priority: among the due jobs of the queue.
            max_retries: attempts after the first that fails.
            job_id: an id of your own.
            conflict_resolution: what to do when the id is taken.
            misfire_grace_time: seconds; the scheduler's if not given, None never expires.
            options: what else ``Scheduler.schedule`` takes.

        Returns:
            The job id.

        Raises:
            What ``Scheduler.schedule`` raises.
        """
        given = {
            "args": args,
            "kwargs": kwargs or {},
            "priority": priority,
            "max_retries": max_retries,
            "job_id": job_id,
            "misfire_grace_time": misfire_grace_time,
        }
        return await self._runtime.enqueue(func, execution_time, conflict_resolution, given | options)

    async def progress(self, fraction: float, note: str = "") -> None:
        """Say how far this attempt is, in ``scheduler_results``: one statement, committed at once.

        Args:
            fraction: 0 to 1.
            note: up to 1,000 characters.

        Raises:
            InvalidArgument: out of range.
            LostClaim: the job is no longer this attempt's.
            DatabaseUnreachable: no answer.
        """
        await self._runtime.progress(fraction, note)

    def snooze(self, seconds: float) -> NoReturn:
        """End this attempt and run the job again after ``seconds``; no retry is charged. Raises ``Snooze``."""
        raise Snooze(seconds)


class _JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds to what the caller gives as ``extra`` instead of overwriting it."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs
