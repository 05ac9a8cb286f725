"""Instants of the database on this process's own clock.

Invariant: an instant of the database is never mapped to an earlier moment than its own. A reply arrives after its time
was read, so each one bounds the distance of the two clocks from above; the least bound of late is the best, and keeps
following, since clocks drift.
"""

from collections import deque
from collections.abc import Callable
from datetime import datetime
from time import monotonic

WINDOW_SECONDS = 10.0
"""How long a bound is believed: at 50 ppm, a usual crystal, the clocks part by half a millisecond meanwhile."""
STEP_SECONDS = 0.5
"""A bound that is worse by this was not a slow reply: the database's clock was set back."""


class DatabaseClock:
    """The distance between the monotonic clock of this process and the database's clock."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._bounds: deque[tuple[float, float]] = deque()
        self._last_seen: datetime | None = None

    def observe(self, now: datetime, *, took_seconds: float = 0.0) -> None:
        """The database has said what time it was, so long before it sent the reply that has just arrived."""
        received = self._clock()
        bound = received - now.timestamp() - took_seconds
        if self._bounds and bound - self._bounds[0][1] > STEP_SECONDS:
            self._bounds.clear()
        while self._bounds and self._bounds[-1][1] >= bound:
            self._bounds.pop()
        self._bounds.append((received, bound))
        while self._bounds[0][0] < received - WINDOW_SECONDS:
            self._bounds.popleft()
        self._last_seen = now

    def has_passed(self, instant: datetime) -> bool:
        """Whether the database's clock is known to have reached the instant."""
        return self._last_seen is not None and instant <= self._last_seen

    def monotonic_of(self, instant: datetime) -> float | None:
        """The moment of the monotonic clock, in seconds; None while the database has not said anything."""
        return self._bounds[0][1] + instant.timestamp() if self._bounds else None
