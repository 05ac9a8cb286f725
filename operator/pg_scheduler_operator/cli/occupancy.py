"""How many jobs run, how many wait to start, and how late they start, over the time of a simulation.

Invariant: what is kept of a run is three numbers, and what comes out is as wide as a picture, however many there are.
"""

from __future__ import annotations

from array import array
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from pg_scheduler.simulation import Run

COLUMNS: Final = 1200


class Occupancy:
    """Gathers runs, and answers in columns of equal time."""

    def __init__(self, begins_at: datetime, ends_at: datetime) -> None:
        self._begins, self._ends = begins_at.timestamp(), ends_at.timestamp()
        self._dues = array("d")
        self._starts = array("d")
        self._stops = array("d")

    def note(self, run: Run) -> None:
        """One run; one that never started is none."""
        if run.started_at is not None:
            self._dues.append(run.due_at.timestamp())
            self._starts.append(run.started_at.timestamp())
            self._stops.append(self._ends if run.ended_at is None else run.ended_at.timestamp())

    def running(self) -> list[int]:
        """The most that run at a time in each column."""
        return self._most(self._starts, self._stops)

    def due_or_running(self) -> list[int]:
        """The same with those that are due and will start later."""
        return self._most(self._dues, self._stops)

    def lateness(self) -> list[float]:
        """The longest lateness, in seconds, of what starts in each column."""
        columns = [0.0] * COLUMNS
        for due, start in zip(self._dues, self._starts, strict=True):
            column = self._column(start)
            columns[column] = max(columns[column], start - due)
        return columns

    def _most(self, begins: Iterable[float], ends: Iterable[float]) -> list[int]:
        """Of those that begin and end at one instant the ends count first, as in the simulation."""
        columns = [0] * COLUMNS
        count = last = 0
        for at, step in sorted(chain(((at, 1) for at in begins), ((at, -1) for at in ends))):
            column = self._column(at)
            if column > last:
                columns[last + 1 : column + 1] = [count] * (column - last)
            count, last = count + step, column
            columns[column] = max(columns[column], count)
        columns[last + 1 :] = [count] * (COLUMNS - last - 1)
        return columns

    def _column(self, at: float) -> int:
        width = max(self._ends - self._begins, 1.0)
        return min(COLUMNS - 1, max(0, int((at - self._begins) / width * COLUMNS)))
