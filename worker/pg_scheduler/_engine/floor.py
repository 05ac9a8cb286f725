"""How far down the due jobs a claim still has to look.

Invariant: what a floor hides is found within five seconds, whatever happens: it is believed only so long after a look
without one. Without a floor each claim walks the dead entries at the beginning of the index that the claims before it
have left, or that somebody's long transaction keeps: 43 ms at 600,000 of them, 0.6 ms with one (design page 2 §2.3).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic

BELIEVED_SECONDS = 5.0
MARGIN = timedelta(seconds=10)
"""A submission may commit so much later than the time it is due at; longer transactions wait for the belief to end."""

ROUNDING = timedelta(milliseconds=1)
"""An instant that comes as seconds from another one is not exact."""
EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
"""The database knows earlier instants, and gives all of them as the day before."""


class Floor:
    """Nothing that this worker could claim is known below it."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._at: datetime | None = None
        self._believed_until = 0.0

    @property
    def at(self) -> datetime | None:
        """Where it is; None for a claim that is to look at everything."""
        return self._at if self._clock() < self._believed_until else None

    def rise(self, first: datetime, *, now: datetime, looked_from: datetime | None) -> None:
        """A look that began at ``now``, from the floor of then, has seen nothing before ``first``."""
        if first < EARLIEST:
            self.drop()
            return
        if looked_from is None:
            self._believed_until = self._clock() + BELIEVED_SECONDS
        self._at = min(first - ROUNDING, now - MARGIN)

    def drop(self) -> None:
        """Something is due below it."""
        self._at = None
        self._believed_until = 0.0
