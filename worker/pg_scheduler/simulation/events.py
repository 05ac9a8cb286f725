"""What is still to come in a simulation.

Invariant: it comes in the order of its instants and, of those at one instant, in this order: ends of runs
first, then what is planned, what happens and what falls due.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    Action = Callable[[datetime, Any, int], None]
    """What an event does: at an instant, to something, with a number."""

END, BACK, PLAN, HAPPEN, DUE = range(5)
"""The order of events at one instant."""
OF_WORKERS = frozenset({END, PLAN})
"""Those that wait until an outage is over."""


class Event(NamedTuple):
    """What comes at one instant; ``place`` keeps those of one order as they were told."""

    at: datetime
    order: int
    place: int
    action: Action
    subject: Any
    number: int


class Events:
    """All that is known of so far."""

    def __init__(self) -> None:
        self._heap: list[Event] = []
        self._places = count()

    @property
    def next_at(self) -> datetime | None:
        """When the next one comes; None when nothing is left."""
        return self._heap[0].at if self._heap else None

    def at(self, at: datetime, order: int, action: Action, subject: Any, number: int = 0) -> None:
        """One more."""
        heappush(self._heap, Event(at, order, next(self._places), action, subject, number))

    def postpone(self, event: Event, at: datetime) -> None:
        """Have one that was taken come later."""
        self.at(at, event.order, event.action, event.subject, event.number)

    def take(self, at: datetime) -> Iterator[Event]:
        """Those of this instant, also what the ones before have added to it."""
        while self._heap and self._heap[0].at == at:
            yield heappop(self._heap)
