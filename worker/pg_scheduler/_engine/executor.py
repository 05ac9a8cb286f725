"""Run claimed jobs: resolve, perform, hand the outcome on.

Invariants: whatever a job does — return, raise, cancel itself, take arguments that do not fit — becomes an outcome;
nothing of it reaches another job.

A task for each job would cost as much as all the rest of Python's work on it (4 µs of 8, design page 2 §2.3). So one
runner runs jobs in turn for as long as they end without waiting. A job that waits keeps the runner as its own task, for
its cancellation; a new runner, asked for before the first job began, goes on with the others.
"""

import asyncio
from collections import deque
from collections.abc import Iterable

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._domain.outcomes import Outcome, WriteNothing
from pg_scheduler._engine.completions import Completions
from pg_scheduler._engine.performing import Performer
from pg_scheduler._engine.slots import HeldJob, Slots

AT_MOST_ONCE = "fail"


class Executor:
    """Starts jobs and sees each to its outcome.

    Attributes:
        started: how many attempts it has begun.
        settled: how many jobs have completed in a transaction of their own.
    """

    def __init__(self, performer: Performer, slots: Slots, completions: Completions) -> None:
        self._perform = performer.perform
        self._slots = slots
        self._completions = completions
        self._queue: deque[HeldJob] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._runner_is_coming = False
        self.started = self.settled = 0

    def start(self, jobs: Iterable[HeldJob]) -> None:
        """Start jobs that have their slot, in this order, once the caller waits for something."""
        self._queue.extend(jobs)
        if not self._runner_is_coming:
            self._start_runner()

    async def run_alone(self, job: ClaimedJob) -> None:
        """See one job to its outcome in a task of its own, also when no slot is free."""
        runner = asyncio.get_running_loop().create_task(self._run_alone(self._slots.hold(job)))
        self._runners.add(runner)
        runner.add_done_callback(self._runners.discard)
        await asyncio.shield(runner)

    async def _run_alone(self, held: HeldJob) -> None:
        await self._run(held, _current_task())

    def _ask_for_runner(self) -> None:
        if not self._runner_is_coming:
            self._runner_is_coming = True
            asyncio.get_running_loop().call_soon(self._start_runner)

    def _start_runner(self) -> None:
        self._runner_is_coming = False
        if self._queue:
            runner = asyncio.get_running_loop().create_task(self._run_in_turn())
            self._runners.add(runner)
            runner.add_done_callback(self._runners.discard)

    async def _run_in_turn(self) -> None:
        me = _current_task()
        self._ask_for_runner()  # comes after my first step: should I wait by then, it goes on without me
        while self._queue and not me.cancelling() and not (await self._run(self._queue.popleft(), me)):
            pass

    async def _run(self, held: HeldJob, me: asyncio.Task[None]) -> bool:
        """See a job to its outcome; whether it has waited for something, so that ``me`` is its task and no other's."""
        if held.stop_reason is None:
            self.started += 1
        self._hand_on(held.job, await self._perform(held, me))
        return held.task is not None

    def _hand_on(self, job: ClaimedJob, outcome: Outcome) -> None:
        if isinstance(outcome, WriteNothing):
            self.settled += 1
        else:
            self._completions.add(job, outcome)
            if job.flush_now or job.on_interrupt == AT_MOST_ONCE:
                self._completions.hurry()
        self._slots.release(job.token)


def _current_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a coroutine of a task runs in a task")
    return task
