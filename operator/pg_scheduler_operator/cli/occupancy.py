"""How many jobs run, and how late they start, over the time of a simulation.

Invariant: what is kept of a run is three numbers, and what comes out is as wide as a picture, however many runs there are.
"""

from __future__ import annotations

from array import array
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pg_scheduler.simulation import Run

COLUMNS: Final = 1200


class Occupancy:
    """Gathers runs, and answers in columns of equal time."""

    def __init__(self, begins_at: datetime, ends_at: datetime) -> None:
        self._begins, self._ends = begins_at.timestamp(), ends_at.timestamp()
        self._starts = array("d")
        self._stops = array("d")
        self._lateness = array("d")

    def note(self, run: Run) -> None:
        """One run; one that never started is none."""
        if run.started_at is not None:
            self._starts.append(run.started_at.timestamp())
            self._stops.append(self._ends if run.ended_at is None else run.ended_at.timestamp())
            self._lateness.append(run.lateness_seconds)

    def most_running(self) -> list[int]:
        """The most that run at a time in each column."""
        columns = [0] * COLUMNS
        running = last = 0
        for at, step in self._steps():
            column = self._column(at)
            for between in range(last, column + 1):
                columns[between] = max(columns[between], running)
            running, last = running + step, column
            columns[column] = max(columns[column], running)
        for between in range(last + 1, COLUMNS):
            columns[between] = running
        return columns

    def latest_start(self) -> list[float]:
        """The longest lateness, in seconds, of what starts in each column."""
        columns = [0.0] * COLUMNS
        for start, seconds in zip(self._starts, self._lateness, strict=True):
            column = self._column(start)
            columns[column] = max(columns[column], seconds)
        return columns

    def _steps(self) -> Iterator[tuple[float, int]]:
        """Starts and ends in order; of those at one instant the ends come first, as in the simulation."""
        ups, downs = ((at, 1) for at in self._starts), ((at, -1) for at in self._stops)
        return iter(sorted(chain(ups, downs)))

    def _column(self, at: float) -> int:
        width = max(self._ends - self._begins, 1.0)
        return min(COLUMNS - 1, max(0, int((at - self._begins) / width * COLUMNS)))
