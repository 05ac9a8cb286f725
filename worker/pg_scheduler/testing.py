"""For tests of jobs and schedules on a database of their own: a clock to set, and a worker to run by hand.

::

    async with SettableClock(pool, at=datetime(2026, 3, 7, tzinfo=UTC)) as clock:
        scheduler = Scheduler(pool)
        await scheduler.schedule(remind, execution_time=clock.now + timedelta(days=1))
        runs = await advance(scheduler, clock, timedelta(days=2))
        assert [run.status for run in runs] == [JobStatus.COMPLETED]

Invariants: time stands while anything runs, and is moved from one instant to the next at which something can happen.
What runs is the engine: its claim, its executor, its ticker, its statements. What happens, and when, follows from the
rows and the jobs, as long as these wait for nothing but ``clock.sleep`` and what answers without it.
"""

import asyncio
import math
from asyncio import sleep as turn  # a test may have put the clock's in its place
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from pg_scheduler._domain import checks
from pg_scheduler._engine.agenda import Agenda, agenda_of_job
from pg_scheduler._engine.by_hand import HandDriven, Run
from pg_scheduler._store.clock import ClockStore
from pg_scheduler._store.connections import require_pool
from pg_scheduler.errors import ClockError, InvalidArgument, WorkerAlive
from pg_scheduler.job_status import JobStatus

if TYPE_CHECKING:
    import asyncpg

    from pg_scheduler.scheduler import Scheduler

__all__ = ["JobRun", "SettableClock", "advance", "run_due_jobs"]

PATIENCE_SECONDS = 30.0
SECONDS_MAX = 10**10
"""Of one step: three centuries, after which a clock still shows a year that it knows."""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """One attempt of a job that has ended; instants by the database's clock, in UTC.

    Attributes:
        job_id: the job.
        task: its task's key.
        tick: the instant of the schedule that made it; None for a job of its own.
        scheduled_at: when this attempt was due.
        started_at: when it started.
        ended_at: when it ended.
        attempt: 1 for the first start, 2 for the next.
        status: of the job right after the attempt: ``pending`` where it is to run again.
        error_type: class name of what it raised; None if it did not fail.
    """

    job_id: str
    task: str
    tick: datetime | None
    scheduled_at: datetime
    started_at: datetime
    ended_at: datetime
    attempt: int
    status: JobStatus
    error_type: str | None


class SettableClock:
    """The clock of a test's database, which stands at an instant until it is moved; an async context manager.

    It replaces the SQL function ``scheduler_now()``, from which alone all time of the scheduler comes, and puts the
    shipped one back at the end. Jobs that still sleep then are handed back to the queue.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, at: datetime) -> None:
        """Nothing is connected yet.

        Args:
            pool: an open asyncpg pool of the test's own database. Its user owns the scheduler's functions.
            at: the aware instant at which the clock stands at first.

        Raises:
            InvalidArgument: no open pool, or no usable instant.
        """
        require_pool(pool)
        self._store = ClockStore(pool)
        self._agenda = Agenda(checks.checked_time(at, "at"))
        self._workers: dict[Scheduler, HandDriven] = {}
        self._is_entered = False
        self._driving = asyncio.Lock()

    @property
    def now(self) -> datetime:
        """Where it stands, in UTC."""
        return self._agenda.now

    async def __aenter__(self) -> "SettableClock":
        """Take the database's clock.

        Raises:
            WorkerAlive: a worker lives in the database: its time would jump.
            SchemaMismatch: the scheduler's tables are missing.
            DatabaseNotReady: the pool's user does not own the function.
            DatabaseUnreachable: no answer.
        """
        try:
            await self._store.take()
            await self._store.stand_at(self.now)
        except BaseException:
            await self._store.give_back()
            raise
        self._is_entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_entered = False
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._store.give_back)
            for worker in self._workers.values():
                stack.push_async_callback(worker.end)
            self._workers = {}

    async def set(self, instant: datetime, *, backwards: bool = False) -> None:
        """Move the clock, and run nothing: as if every worker were down in between.

        What fell due meanwhile is missed or late, as it would be after an outage, for whoever runs jobs next. A job
        that sleeps goes on then, too.

        Args:
            instant: an aware instant.
            backwards: whether it may be earlier than the present one, as no clock should be.

        Raises:
            InvalidArgument: an unusable instant, or an earlier one.
            WorkerAlive: a worker has been started meanwhile.
            DatabaseUnreachable: no answer.
        """
        instant = checks.checked_time(instant, "instant")
        if instant < self.now and not backwards:
            raise InvalidArgument(
                f"the clock stands at {self.now} and would go back to {instant}", fix="pass backwards=True to mean it"
            )
        self._require_entered()
        await self._store.require_nobody_beside([worker.worker_id for worker in self._workers.values()])
        if instant < self.now:
            await self._store.forget_service()
        await self._move(instant)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has come so much farther: for jobs, in place of ``asyncio.sleep``.

        Raises:
            InvalidArgument: no number of seconds, or more than 10 thousand million.
        """
        span = _checked_seconds(seconds)
        if span <= timedelta():
            await turn(0)
        else:
            await (agenda_of_job() or self._agenda).sleep(span)

    @asynccontextmanager
    async def _worker_of(self, scheduler: "Scheduler", until: datetime) -> AsyncIterator[HandDriven]:
        """The worker that runs this scheduler's jobs by this clock, and lives until then."""
        self._require_entered()
        if self._driving.locked():
            raise ClockError("jobs are being run by this clock already", fix="await one run before the next")
        async with self._driving:
            worker = self._workers.get(scheduler)
            await self._store.require_nobody_beside([worker.worker_id for worker in self._workers.values()])
            if worker is None:
                worker = self._workers[scheduler] = await _begun(scheduler, Agenda(self.now), on_this_clock=True)
            await worker.live_on((until - self.now).total_seconds())
            yield worker

    async def _advance(self, scheduler: "Scheduler", target: datetime, patience_seconds: float) -> list[Run]:
        runs: list[Run] = []
        async with self._worker_of(scheduler, target) as worker:
            while True:
                runs += await worker.run_due(patience_seconds=patience_seconds)
                self._require_same_clock(worker)
                if self.now == target:
                    return runs
                await self._move(min(worker.next_at or target, target))

    async def _move(self, instant: datetime) -> None:
        await self._store.stand_at(instant)
        self._agenda.call_due(instant)

    def _require_entered(self) -> None:
        if not self._is_entered:
            raise ClockError("this clock has not been entered", fix="use it in async with SettableClock(…) as clock")

    def _require_same_clock(self, worker: HandDriven) -> None:
        if worker.now != self.now:
            raise ClockError(
                f"the scheduler's database shows {worker.now} and this clock {self.now}",
                why="they are two databases, or somebody else has set the clock",
                fix="give both the same pool",
            )


async def run_due_jobs(
    scheduler: "Scheduler", clock: SettableClock | None = None, *, patience_seconds: float = PATIENCE_SECONDS
) -> list[JobRun]:
    """Run what is due now: ticks of schedules, and jobs in the order in which a worker would start them.

    It comes back when nothing more is due and every job has ended or sleeps on the clock. What jobs raise is recorded
    as always, and not raised here.

    Args:
        scheduler: one that is not started. Its settings, tasks and slots count, and its ``@periodic`` schedules are
            declared as ``start`` declares them, when it is first run by this clock.
        clock: the database's clock if a test has set it, so that jobs may sleep on it; else real time counts.
        patience_seconds: how long, in real time, a job may wait for something else than the clock.

    Returns:
        The attempts that ended, in the order of their starts.

    Raises:
        WorkerAlive: the scheduler is started, or with a clock, another worker lives in the database.
        TimeStandsStill: a job neither ends nor sleeps on the clock.
        DatabaseUnreachable: no answer.
    """
    if clock is not None:
        return await advance(scheduler, clock, timedelta(), patience_seconds=patience_seconds)
    worker = await _begun(scheduler, Agenda(_LONG_AGO), on_this_clock=False)
    try:
        return _shown(await worker.run_due(patience_seconds=patience_seconds))
    finally:
        await worker.end()


async def advance(
    scheduler: "Scheduler", clock: SettableClock, by: timedelta, *, patience_seconds: float = PATIENCE_SECONDS
) -> list[JobRun]:
    """Let this much time pass, from each instant at which something happens to the next, and run what falls due.

    Nothing waits in real time. A job that sleeps on the clock goes on at its instant, beside what falls due meanwhile,
    and its timeout strikes by the clock too. Time limits apart, a job takes no time by it. Retries wait as their policy
    says, in the middle of its jitter.

    Args:
        scheduler: one that is not started, as in ``run_due_jobs``.
        clock: the clock of its database.
        by: how far; what is due at the last instant runs.
        patience_seconds: as in ``run_due_jobs``.

    Returns:
        The attempts that ended, in the order of their starts. One that still sleeps is returned by the call in which
        it ends.

    Raises:
        InvalidArgument: a negative time, or one that leads out of the years 2 to 9998.
        WorkerAlive: the scheduler is started, or another worker lives in the database.
        TimeStandsStill: a job neither ends nor sleeps on the clock.
        DatabaseUnreachable: no answer.
    """
    target = checks.checked_time(clock.now + _checked_span(by), "the instant to come to")
    return _shown(await clock._advance(scheduler, target, patience_seconds))  # noqa: SLF001  two halves of one module


async def _begun(scheduler: "Scheduler", agenda: Agenda, *, on_this_clock: bool) -> HandDriven:
    if scheduler.is_running:
        raise WorkerAlive("this scheduler is started: it runs its jobs by itself", fix="leave out start()")
    limit = agenda.time_limit if on_this_clock else asyncio.timeout
    return await scheduler._by_hand(agenda, limit)  # noqa: SLF001  what start() makes, without what it sets going


def _checked_seconds(seconds: object) -> timedelta:
    if not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds > SECONDS_MAX:
        raise InvalidArgument(f"seconds is {str(seconds)[:40]!r}", fix="give a number of seconds")
    return timedelta(seconds=max(0, seconds))


def _checked_span(by: object) -> timedelta:
    if not isinstance(by, timedelta) or not timedelta() <= by <= timedelta(seconds=SECONDS_MAX):
        raise InvalidArgument(f"by is {str(by)[:40]!r}", fix="give a timedelta that is not negative")
    return by


def _shown(runs: Iterable[Run]) -> list[JobRun]:
    return [_job_run(run) for run in sorted(runs, key=lambda run: run.place)]


def _job_run(run: Run) -> JobRun:
    return JobRun(
        job_id=run.job.job_id,
        task=run.job.task,
        tick=run.job.tick_at,
        scheduled_at=run.job.execution_time,
        started_at=run.started_at,
        ended_at=run.started_at if run.ended_at is None else run.ended_at,
        attempt=run.job.attempt,
        status=run.status,
        error_type=run.error_type,
    )
