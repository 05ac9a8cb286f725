"""What this worker runs at the moment, and how much more it may take.

Invariant: a job holds its slot from its claim until its outcome lies with the completions; ``free`` is never negative.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum, auto

from pg_scheduler._domain.jobs import ClaimedJob


class StopReason(Enum):
    """Why the engine cancels a coroutine; without one the cancellation is the job's own doing."""

    LOST = auto()
    SHUTDOWN = auto()


@dataclass(slots=True)
class RunningJob:
    """A claimed job and the task that runs it."""

    job: ClaimedJob
    task: asyncio.Task[None]
    stop_reason: StopReason | None = field(default=None)

    def stop(self, reason: StopReason) -> None:
        """Ask the coroutine to end; the first reason stays."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.task.cancel()


class Slots:
    """The running jobs by token."""

    def __init__(self, capacity: int, *, on_release: Callable[[], None]) -> None:
        self._capacity = capacity
        self._on_release = on_release
        self._running: dict[int, RunningJob] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def free(self) -> int:
        """How many more jobs may start now."""
        return self._capacity - len(self._running)

    def tokens(self) -> frozenset[int]:
        """Tokens of the running jobs; may be called from the heartbeat's thread."""
        return frozenset(self._running.copy())

    def running(self) -> list[RunningJob]:
        """The running jobs, oldest claim first."""
        return list(self._running.values())

    def find(self, token: int) -> RunningJob | None:
        """The running job of a token."""
        return self._running.get(token)

    def hold(self, running: RunningJob) -> None:
        """Take a slot."""
        self._running[running.job.token] = running
        self._idle.clear()

    def release(self, token: int) -> None:
        """Give the slot back and let the claim loop know."""
        self._running.pop(token, None)
        if not self._running:
            self._idle.set()
        self._on_release()

    def stop_all(self, reason: StopReason, tokens: Collection[int] | None = None) -> int:
        """Ask these coroutines to end, or all; how many were still running."""
        asked = [r for token, r in self._running.items() if tokens is None or token in tokens]
        for running in asked:
            running.stop(reason)
        return len(asked)

    async def wait_idle(self) -> None:
        """Until nothing runs."""
        await self._idle.wait()
