"""What the workers of both sides run.

Invariant: the bare loop and the library call the same functions, so that what these cost is on both sides.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pg_scheduler import JobContext  # noqa: TC001  the engine finds it by the annotation

if TYPE_CHECKING:
    from collections.abc import Callable


_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


class Tally:
    """How many jobs this process has run, and when each that says so was due and began, in µs since 1970."""

    def __init__(self) -> None:
        self.ran = 0
        self.starts: list[tuple[int, int]] = []
        self.on_start: Callable[[], None] | None = None

    def take_starts(self) -> list[tuple[int, int]]:
        """Those since the last call."""
        taken, self.starts = self.starts, []
        return taken


TALLY = Tally()


async def noop() -> None:
    """Nothing but being counted."""
    TALLY.ran += 1


async def stamp(due_us: int) -> None:
    """Keep when the job was due and when it began."""
    TALLY.starts.append((due_us, time.time_ns() // 1000))
    TALLY.ran += 1
    if TALLY.on_start is not None:
        TALLY.on_start()


async def stamp_tick(ctx: JobContext) -> None:
    """Keep when the run of a schedule was due and when it began."""
    began_ns = time.time_ns()
    TALLY.starts.append(((ctx.scheduled_at - _EPOCH) // _MICROSECOND, began_ns // 1000))
