"""How far down the due jobs a claim still has to look.

Invariant: what a floor hides is found within five seconds, whatever happens: it is believed only so long after a claim
without one. Without a floor each claim walks the dead entries at the beginning of the index that somebody's long
transaction keeps: 43 ms at 600,000 of them, 0.6 ms with one (design page 2 §2.3).
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic

BELIEVED_SECONDS = 5.0
MARGIN = timedelta(seconds=10)
"""A submission may commit so much later than the time it is due at; longer transactions wait for the belief to end."""


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

    def rise(self, now: datetime) -> None:
        """A claim that began at ``now`` or later, from where the floor was, has taken all that was due."""
        if self.at is None:
            self._believed_until = self._clock() + BELIEVED_SECONDS
        self._at = now - MARGIN

    def drop(self) -> None:
        """Something is due below it."""
        self._at = None
        self._believed_until = 0.0
