"""What is still to come in a simulation.

Invariant: it comes in the order of its instants and, of those at one instant, in this order: ends of runs
first, then what is planned, what happens and what falls due.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    Action = Callable[[datetime, Any, int], None]
    """What an event does: at an instant, to something, with a number."""

END, BACK, PLAN, HAPPEN, DUE = range(5)
"""The order of events at one instant."""
OF_WORKERS = frozenset({END, PLAN})
"""Those that wait until an outage is over."""


class Events:
    """All that is known of so far."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, int, int, Action, Any, int]] = []
        self._places = count()

    @property
    def next_at(self) -> datetime | None:
        """When the next one comes; None when nothing is left."""
        return self._heap[0][0] if self._heap else None

    def at(self, at: datetime, order: int, action: Action, subject: Any, number: int = 0) -> None:
        """One more, behind those of its instant and order."""
        heappush(self._heap, (at, order, next(self._places), action, subject, number))

    def take(self, at: datetime) -> Iterator[tuple[int, Action, Any, int]]:
        """Those of this instant, also what the ones before have added to it."""
        while self._heap and self._heap[0][0] == at:
            _, order, _, action, subject, number = heappop(self._heap)
            yield order, action, subject, number
