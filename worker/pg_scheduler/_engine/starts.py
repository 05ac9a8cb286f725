"""Jobs that were claimed a little ahead of their time wait here for it.

Invariants: no job starts before its instant by the database's clock, and none without a valid lease: a process that was
frozen between claim and start may find its jobs rescued. What waits here holds a slot and counts as held under the
lease; it is handed back when the worker stops.
"""

import asyncio
import heapq
from collections.abc import Sequence
from itertools import count
from time import monotonic

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._engine.alarm import Alarm
from pg_scheduler._engine.clock import DatabaseClock
from pg_scheduler._engine.config import PREFETCH_SECONDS
from pg_scheduler._engine.executor import Executor
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.slots import HeldJob, Slots, StopReason


class Starts:
    """The way from a claim to the executor."""

    def __init__(self, executor: Executor, slots: Slots, clock: DatabaseClock, *, lease: Lease) -> None:
        self._executor = executor
        self._slots = slots
        self._lease = lease
        self._clock = clock
        self._ahead: list[tuple[float, int, HeldJob]] = []
        self._order = count()
        self._alarm: Alarm | None = None

    @property
    def has_waiting(self) -> bool:
        """Whether a job waits here for its time."""
        return bool(self._ahead)

    def start(self, jobs: Sequence[ClaimedJob]) -> None:
        """Give each job its slot, start what is due in this order, and the others at their time."""
        due = [self._slots.hold(job) for job in jobs]
        if due and not self._clock.has_passed(max(job.execution_time for job in jobs)):
            due = [held for held in due if self._is_due(held)]
        if due:
            self._start(due)
        if self._ahead and self._alarm is not None:
            self._alarm.set(self._ahead[0][0])

    async def run(self, stopping: asyncio.Event) -> None:
        """Start each job at its time until ``stopping``, then hand back those that still wait."""
        with Alarm(self._ring) as self._alarm:
            await stopping.wait()
        self._alarm = None
        waiting = [held for _, _, held in self._ahead]
        self._ahead.clear()
        for held in waiting:
            held.stop(StopReason.SHUTDOWN)
        self._executor.start(waiting)

    def _is_due(self, held: HeldJob) -> bool:
        """Whether the job may begin, or may not at all; else it waits from now on."""
        instant = held.job.execution_time
        if self._clock.has_passed(instant):
            return True
        at, now = self._clock.monotonic_of(instant), monotonic()
        if at is None or at <= now:
            return True
        if self._alarm is None:
            held.stop(StopReason.SHUTDOWN)
            return True
        heapq.heappush(self._ahead, (min(at, now + PREFETCH_SECONDS), next(self._order), held))
        return False

    def _start(self, due: list[HeldJob]) -> None:
        if not self._lease.is_valid:  # handed back: the fence refuses what others have taken meanwhile
            for held in due:
                held.stop(StopReason.SHUTDOWN)
        self._executor.start(due)

    def _ring(self) -> None:
        now, due = monotonic(), []
        while self._ahead and self._ahead[0][0] <= now:
            due.append(heapq.heappop(self._ahead)[2])
        if due:
            self._start(due)
        if self._ahead and self._alarm is not None:
            self._alarm.set(self._ahead[0][0])
