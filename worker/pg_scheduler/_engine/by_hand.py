"""A worker of which nothing runs by itself: whoever holds it says when it looks, and moves the clock in between.

Invariants: what decides is the shipped services, each by its one pass. ``run_due`` comes back when nothing more can
happen at this instant: no job runs but those that sleep on the agenda, and what has ended is written. So what happens,
and when, follows from the rows and the jobs alone.
"""

import asyncio
import contextlib
from asyncio import sleep as turn  # a test may have put the clock's in its place
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._domain.outcomes import Fail, Outcome, RetryIn
from pg_scheduler._domain.payloads import Payloads
from pg_scheduler._engine.agenda import Agenda
from pg_scheduler._engine.calls import Calls
from pg_scheduler._engine.claim_loop import ClaimLoop
from pg_scheduler._engine.completions import Completions
from pg_scheduler._engine.environment import Environment
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.performing import Performer, TimeLimit
from pg_scheduler._engine.periodic_jobs import PeriodicJobs
from pg_scheduler._engine.rescuer import Rescuer
from pg_scheduler._engine.slots import HeldJob, Slots, StopReason
from pg_scheduler._engine.ticker import Ticker
from pg_scheduler._store.database import Database
from pg_scheduler._store.jobs import Ahead, JobStore
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler._store.workers import LeaseStore, WorkerCard
from pg_scheduler.errors import TimeStandsStill, WorkerAlive
from pg_scheduler.job_status import JobStatus
from pg_scheduler.tasks import Registry

RUNS_MAX = 1_000
"""A job that runs so often at one instant would do so for ever."""
END_SECONDS = 2.0
"""How long a coroutine may take at the end to notice that it was cancelled."""
TURNS = 25
"""So many turns of the loop a wake-up may take from a job's innermost task to its outermost."""


@dataclass(slots=True, eq=False)
class Run:
    """One attempt, from its start; ``place`` is its own among them, ``status`` what the job's row said after it."""

    job: ClaimedJob
    place: int
    started_at: datetime
    ended_at: datetime | None = None
    status: JobStatus = JobStatus.RUNNING
    error_type: str | None = None


class Runs:
    """What runs, and what has run."""

    def __init__(self) -> None:
        self._places = count()
        self._runs: list[Run] = []

    def begin(self, job: ClaimedJob, now: datetime) -> Run:
        """One more."""
        run = Run(job, next(self._places), now)
        self._runs.append(run)
        return run

    def take_ended(self) -> list[Run]:
        """Those that have ended since the last time."""
        ended = [run for run in self._runs if run.ended_at is not None]
        self._runs = [run for run in self._runs if run.ended_at is None]
        return ended


class Witness(Performer):
    """Notes what runs. A delay has no chance in it: it is the middle of its jitter."""

    def __init__(
        self,
        calls: Calls,
        *,
        environment: Environment,
        payloads: Payloads,
        runs: Runs,
        agenda: Agenda,
        time_limit: TimeLimit,
    ) -> None:
        super().__init__(calls, environment=environment, payloads=payloads, time_limit=time_limit, chance=lambda: 0.5)
        self._runs = runs
        self._agenda = agenda

    async def perform(self, held: HeldJob, me: asyncio.Task[None]) -> Outcome:
        """As the shipped one."""
        if held.stop_reason is not None:  # it does not start
            return await super().perform(held, me)
        run = self._runs.begin(held.job, self._agenda.now)
        with self._agenda.job(held.job.token):
            outcome = await super().perform(held, me)
        run.ended_at = self._agenda.now
        run.error_type = outcome.error.type if isinstance(outcome, Fail | RetryIn) else None
        return outcome


class HandDriven:
    """One worker."""

    def __init__(
        self,
        database: Database,
        card: WorkerCard,
        registry: Registry,
        *,
        agenda: Agenda,
        runs: Runs,
        lease: Lease,
        slots: Slots,
        claim_loop: ClaimLoop,
        ticker: Ticker,
        completions: Completions,
        rescuer: Rescuer,
        jobs: JobStore,
        schedules: ScheduleStore,
        periodic: PeriodicJobs,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._card = card
        self._registry = registry
        self._agenda = agenda
        self._runs = runs
        self._lease = lease
        self._slots = slots
        self._claim_loop = claim_loop
        self._ticker = ticker
        self._completions = completions
        self._rescuer = rescuer
        self._jobs = jobs
        self._schedules = schedules
        self._periodic = periodic
        self._close = close
        self._ahead: Ahead | None = None
        self._ended: list[Run] = []
        self._runs_now: Counter[str] = Counter()

    @property
    def worker_id(self) -> str:
        """Its name."""
        return self._card.worker_id

    @property
    def now(self) -> datetime:
        """What time it was at its last look."""
        return self._agenda.now

    @property
    def next_at(self) -> datetime | None:
        """The first instant later than the last look at which something can happen; None if nothing is planned."""
        instants = [] if self._agenda.next_at is None else [self._agenda.next_at]
        if self._ahead is not None:
            instants += [self._ahead.now + timedelta(seconds=left) for left in _waits(self._ahead) if left > 0]
        return min(instants, default=None)

    async def begin(self) -> None:
        """Register, declare schedules and take over from the dead, as a start does."""
        async with self._heart() as heart:
            await heart.register(self._card, self._registry.claimable(), self._lease.seconds)
            self._lease.begin(self.worker_id, 0.0, heart.server_started_at)
        await self._periodic.declare(self._schedules)
        await self._rescuer.take_from_the_dead()

    async def live_on(self, seconds: float) -> None:
        """Renew the lease, to be as alive until so many seconds from now as if there were a beat now and then.

        Raises:
            WorkerAlive: somebody has marked this worker dead.
        """
        async with self._heart() as heart:
            listed = await heart.beat(self.worker_id, seconds + self._lease.seconds, self._registry.claimable())
        if listed is None:
            raise WorkerAlive(
                "a worker has swept this database, whose clock is a test's: it took the test's own worker for dead",
                fix="shut it down, or give the test a database of its own",
            )

    async def run_due(self, *, patience_seconds: float) -> list[Run]:
        """Let happen what is due, until nothing more is; the attempts that have ended.

        Raises:
            TimeStandsStill: a job has waited for something else than its clock for so long, in real time, or is due
                again at this instant without end.
        """
        self._runs_now.clear()
        ahead = await self._look()
        if self._agenda.call_due(ahead.now) or self._slots.tokens():
            await self._propagated()
            await self._go_on(patience_seconds)
            ahead = await self._look()
        while _is_due(ahead):
            before, moved = ahead, await self._act(ahead, patience_seconds)
            ahead = await self._look()
            if not moved and _waits(ahead) == _waits(before):
                break  # it is not ours to have: no slot is free, or somebody holds the row's lock
        ended, self._ended = self._ended, []
        return ended

    async def end(self) -> None:
        """Hand back what still sleeps, retire and close, as a shutdown does."""
        try:
            self._stop(self._slots.tokens(), StopReason.SHUTDOWN)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._slots.wait_idle()
            await self._completions.run_once()
            async with self._heart() as heart:
                await heart.retire(self.worker_id)
        finally:
            await self._close()

    @asynccontextmanager
    async def _heart(self) -> AsyncIterator[LeaseStore]:
        async with self._database.connection() as connection:
            yield LeaseStore(connection, place=self._database.place)

    async def _look(self) -> Ahead:
        await self._periodic.write_wishes(self._schedules)
        self._ahead = await self._claim_loop.look()
        self._agenda.now = self._ahead.now
        return self._ahead

    async def _act(self, ahead: Ahead, patience_seconds: float) -> bool:
        """One pass of every service that has something to do; whether anything has come of it."""
        made = await self._ticker.run_once() if ahead.tick_in is not None and ahead.tick_in <= 0 else 0
        taken = await self._claim_loop.run_once()
        written = await self._go_on(patience_seconds)
        return bool(made or taken or written)

    async def _go_on(self, patience_seconds: float) -> int:
        """Let jobs run until all have ended or sleep, those that were taken from us too; how many have ended."""
        await self._all_asleep(patience_seconds)
        while await self._stop_lost():
            await self._all_asleep(patience_seconds)
        await self._completions.run_once()
        if self._ticker.must_judge:
            await self._ticker.run_once()
        ended = self._runs.take_ended()
        statuses = await self._jobs.statuses([run.job.job_id for run in ended]) if ended else {}
        for run in ended:
            run.status = statuses.get(run.job.job_id, JobStatus.CANCELLED)  # whoever deletes a row wants no more of it
            self._count(run.job)
        self._ended += ended
        return len(ended)

    def _count(self, job: ClaimedJob) -> None:
        self._runs_now[job.job_id] += 1
        if self._runs_now[job.job_id] >= RUNS_MAX:
            raise TimeStandsStill(
                f"job {job.job_id} ({job.task}) has run {RUNS_MAX:,} times at one instant",
                why="each run asks for another one at once",
                fix="let it snooze, or its retries wait, for longer than nothing",
            )

    async def _propagated(self) -> None:
        """What ends in a task of a job's own has to reach the job, which counts as asleep for its other tasks."""
        for _ in range(TURNS):
            await turn(0)

    async def _all_asleep(self, patience_seconds: float) -> None:
        while awake := [held for held in self._slots.held() if not self._agenda.is_asleep(held.job.token)]:
            self._agenda.stirred.clear()
            try:
                async with asyncio.timeout(patience_seconds):
                    await self._agenda.stirred.wait()
            except TimeoutError:
                job = awake[0].job
                raise TimeStandsStill(
                    f"job {job.job_id} ({job.task}) neither ends nor sleeps on the test's clock",
                    why=f"it has waited for something else for {patience_seconds:g} s, and time stands meanwhile",
                    fix="let it await clock.sleep(…) instead of asyncio.sleep(…), or give more patience_seconds",
                ) from None

    async def _stop_lost(self) -> bool:
        """Tell the jobs that were cancelled, replaced or rescued, as the heartbeat does within a second."""
        held = self._slots.tokens()
        if not held:
            return False
        async with self._heart() as heart:
            lost = held - await heart.held_tokens(self.worker_id)
        return self._stop(lost, StopReason.LOST)

    def _stop(self, tokens: frozenset[int], reason: StopReason) -> bool:
        untold = [held for held in self._slots.held() if held.job.token in tokens and held.stop_reason is None]
        self._slots.stop(tokens, reason)
        told = [held.job.token for held in untold if held.stop_reason is not None]
        for token in told:
            self._agenda.rouse(token)
        return bool(told)


def _waits(ahead: Ahead) -> list[float]:
    waits = (ahead.due_in, ahead.tick_in, ahead.keyed_in, ahead.limited_in)
    return [left for left in waits if left is not None]


def _is_due(ahead: Ahead) -> bool:
    return ahead.alone or any(left <= 0 for left in _waits(ahead))
