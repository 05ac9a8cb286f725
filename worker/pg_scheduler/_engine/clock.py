"""Instants of the database on this process's own clock.

Invariant: an instant of the database is never mapped to an earlier moment than its own. A reply arrives after its time
was read, so each one bounds the distance of the two clocks from above; the least bound of late is the best, and keeps
following, since clocks drift.
"""

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from time import monotonic, time

WINDOW_SECONDS = 10.0
"""How long a bound is believed: at 50 ppm, a usual crystal, the clocks part by half a millisecond meanwhile."""
STEP_SECONDS = 0.5
"""A bound that is worse by this was not a slow reply: the database's clock was set back."""

SKEW_SECONDS = 5.0
"""A difference of the machines' clocks that people should know of. All here goes by the database's."""

logger = logging.getLogger("pg_scheduler.engine")


class DatabaseClock:
    """The distance between the monotonic clock of this process and the database's clock."""

    def __init__(self, *, clock: Callable[[], float] = monotonic, wall: Callable[[], float] = time) -> None:
        self._clock = clock
        self._wall = wall
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

    @property
    def seconds_ahead(self) -> float | None:
        """How far the database's clock is ahead of this machine's, by a reply's latency at most too little.

        None while the database has not said anything.
        """
        return self._clock() - self._bounds[0][1] - self._wall() if self._bounds else None

    def has_passed(self, instant: datetime) -> bool:
        """Whether the database's clock is known to have reached the instant."""
        return self._last_seen is not None and instant <= self._last_seen

    def monotonic_of(self, instant: datetime) -> float | None:
        """The moment of the monotonic clock, in seconds; None while the database has not said anything."""
        return self._bounds[0][1] + instant.timestamp() if self._bounds else None


class SkewWatch:
    """Says once that this machine's clock and the database's are apart, and again after they have agreed."""

    def __init__(self, clock: DatabaseClock) -> None:
        self._database_clock = clock
        self._are_apart = False

    def look(self) -> None:
        """Compare them."""
        ahead = self._database_clock.seconds_ahead
        are_apart = ahead is not None and abs(ahead) > SKEW_SECONDS
        if ahead is not None and are_apart and not self._are_apart:
            logger.warning(
                "the database's clock is %.0f s %s of this machine's: jobs go by the database's, and log lines by this "
                "one; let both follow one time server",
                abs(ahead),
                "ahead" if ahead > 0 else "short",
            )
        self._are_apart = are_apart
