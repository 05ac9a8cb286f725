"""Whether the main loop still turns, seen from the heartbeat's thread.

Invariant: the beats of a worker whose main loop stands still for ``max_stall`` end, so that its jobs go to others. Only
time in which this thread ran counts: a process that was stopped or suspended has not stalled, and goes on.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from pg_scheduler.errors import MainLoopStalled

STALL_SECONDS = 5.0
"""A main loop that has not turned for so long is worth a warning."""
LOOK_SECONDS = 1.0
CALLS_MAX = 30

_LOOP_STANDS_STILL = "the main loop has not turned for %.1f s: a job blocks it; its thread is in %s"
_PROCESS_STOOD_STILL = (
    "this process stood still for %.1f s: stopped, or in code that holds the GIL; the main loop's thread is in %s"
)

logger = logging.getLogger("pg_scheduler.engine")


class MainLoopWatch:
    """A question to the main loop, and how long the answer takes."""

    def __init__(self, *, max_stall_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_stall_seconds = max_stall_seconds
        self._warn_seconds = min(STALL_SECONDS, max_stall_seconds)
        self._look_seconds = min(LOOK_SECONDS, self._warn_seconds / 2)
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle
        self._thread_id: int | None = None
        self._answered = True
        self._warned = False
        self._stalled_seconds = 0.0
        self._looked_at = 0.0

    def attach(self) -> None:
        """Watch the running loop, and its thread."""
        self._loop, self._thread_id = asyncio.get_running_loop(), threading.get_ident()

    async def run(self, stopping: asyncio.Event) -> None:
        """Look about once a second, in the heartbeat's thread, until ``stopping``.

        Raises:
            MainLoopStalled: it has not turned for ``max_stall_seconds``.
        """
        stalled: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        stop: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
        self._looked_at = self._clock()
        self._look_later(stalled)
        try:
            await asyncio.wait([stalled, stop], return_when=asyncio.FIRST_COMPLETED)
            if stalled.done():
                stalled.result()
        finally:
            self._timer.cancel()
            stop.cancel()

    def look(self) -> None:
        """Ask the loop, or count on while it owes the answer.

        Raises:
            MainLoopStalled: it has not turned for ``max_stall_seconds``.
        """
        passed, self._looked_at = self._clock() - self._looked_at, self._clock()
        if passed - self._look_seconds > STALL_SECONDS:
            self._warn(_PROCESS_STOOD_STILL, passed)
        if self._answered:
            self._ask()
            return
        self._stalled_seconds += min(passed, 2 * self._look_seconds)
        if self._stalled_seconds >= self._warn_seconds:
            self._warn(_LOOP_STANDS_STILL, self._stalled_seconds)
        if self._stalled_seconds >= self._max_stall_seconds:
            raise MainLoopStalled(
                f"the main loop has not turned for {self._stalled_seconds:.0f} s",
                why="a job blocks it, or it is deadlocked; the warning before has its stack",
                fix="await instead of blocking, or give the work to a thread or process; max_stall allows more",
            )

    def _look_later(self, stalled: "asyncio.Future[Any]") -> None:
        # A callback and not a task, which would look only after the next select(): there the GIL is let go, and a main
        # thread that has held it leaves the line at fault.
        self._timer = asyncio.get_running_loop().call_later(self._look_seconds, self._look_on_time, stalled)

    def _look_on_time(self, stalled: "asyncio.Future[Any]") -> None:
        try:
            self.look()
        except MainLoopStalled as error:
            stalled.set_exception(error)
        else:
            self._look_later(stalled)

    def _ask(self) -> None:
        self._answered, self._warned, self._stalled_seconds = False, False, 0.0
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop is closed: nobody stops us any more, and nobody is left to beat for
            raise MainLoopStalled(
                "the main loop has ended without shutdown()", fix="await scheduler.shutdown()"
            ) from None

    def _answer(self) -> None:
        self._answered = True

    def _warn(self, text: str, seconds: float) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(text, seconds, self._stack())

    def _stack(self) -> str:
        """In one line, the innermost call first."""
        frame = sys._current_frames().get(self._thread_id or 0)  # noqa: SLF001  the documented way to another thread's stack
        if frame is None:
            return "(the thread has ended)"
        calls = reversed(traceback.extract_stack(frame, CALLS_MAX))
        return ", called by ".join(f"{call.name} ({call.filename}:{call.lineno})" for call in calls)
