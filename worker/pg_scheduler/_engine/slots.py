"""What this worker holds at the moment, and how much more it may take.

Invariant: a job holds its slot from its claim until its outcome lies with the completions, and what a claim under way
may bring is reserved; ``free`` is never negative.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

from pg_scheduler._domain.jobs import ClaimedJob


class StopReason(Enum):
    """Why the engine ends a job; without one a cancellation is the job's own doing."""

    LOST = auto()
    SHUTDOWN = auto()


@dataclass(slots=True)
class HeldJob:
    """A claimed job; ``task`` is the asyncio task that runs it, None until the job has waited for something.

    ``settled`` from when the job begins to complete itself in its own transaction: from then on a row that is no longer
    listed as running is no sign that somebody took it away.
    """

    job: ClaimedJob
    task: asyncio.Task[None] | None = None
    stop_reason: StopReason | None = None
    settled: bool = False

    def stop(self, reason: StopReason) -> None:
        """Ask the coroutine to end, or not to start at all; the first reason stays."""
        if self.stop_reason is None and not (self.settled and reason is StopReason.LOST):
            self.stop_reason = reason
            if self.task is not None:
                self.task.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsView:
    """How many jobs a worker may run at the same time, and how many it holds."""

    capacity: int
    held: int

    @property
    def free(self) -> int:
        """How many more it may take."""
        return self.capacity - self.held

    def locked(self) -> bool:
        """Whether it may take none."""
        return self.free <= 0


class Slots:
    """The held jobs by token."""

    def __init__(self, capacity: int, *, on_release: Callable[[], None]) -> None:
        self._capacity = capacity
        self._on_release = on_release
        self._held: dict[int, HeldJob] = {}
        self._reserved = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def free(self) -> int:
        """How many more jobs may be claimed now."""
        return self._capacity - len(self._held) - self._reserved

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held, and nothing may come."""
        return not self._held and not self._reserved

    @contextmanager
    def reserved(self, number: int) -> Iterator[None]:
        """Keep so many free slots for a claim that is under way within the block."""
        self._reserved += number
        try:
            yield
        finally:
            self._reserved -= number

    def has_room_for(self, number: int) -> bool:
        """Whether so many jobs could be held beside those that are."""
        return self._capacity - len(self._held) >= number

    def holds(self, token: int) -> bool:
        """Whether this job holds a slot."""
        return token in self._held

    def tokens(self) -> frozenset[int]:
        """Tokens of the held jobs; may be called from the heartbeat's thread."""
        return frozenset(self._held.copy())

    def held(self) -> list[HeldJob]:
        """The held jobs, oldest claim first."""
        return list(self._held.values())

    def hold(self, job: ClaimedJob) -> HeldJob:
        """Take a slot."""
        if not self._held:
            self._idle.clear()
        held = self._held[job.token] = HeldJob(job)
        return held

    def release(self, token: int) -> None:
        """Give the slot back and let the claim loop know."""
        del self._held[token]
        if not self._held:
            self._idle.set()
        self._on_release()

    def stop(self, tokens: Collection[int], reason: StopReason) -> None:
        """Ask those of these jobs that are still held to end."""
        for token in tokens:
            if token in self._held:
                self._held[token].stop(reason)

    def stop_all(self, reason: StopReason) -> int:
        """Ask every job to end; how many are held."""
        for held in self._held.values():
            held.stop(reason)
        return len(self._held)

    async def wait_idle(self) -> None:
        """Until nothing is held."""
        await self._idle.wait()
