"""Which claim comes next: jobs with a concurrency key have a statement of their own.

Invariant: it is sent only while such a job is known to be due within the prefetch, and then the two take turns to be
first, so that neither kind keeps the other from the slots. It is sent once more at the instant of a job that could not
be claimed ahead.
"""

from math import inf
from time import monotonic

from pg_scheduler._engine.config import PREFETCH_SECONDS


class Turns:
    """Whether and when jobs with a key are asked for."""

    def __init__(self, prefetch_seconds: float = PREFETCH_SECONDS) -> None:
        self._prefetch_seconds = prefetch_seconds
        self._keyed_at = inf
        self._keyed_first = False
        self._asked_at = -inf

    def observe(self, keyed_in: float | None) -> None:
        """A look has seen the first job with a key due in so many seconds, or none."""
        self._keyed_at = inf if keyed_in is None else monotonic() + keyed_in

    def take(self) -> tuple[bool, ...]:
        """The claims of this pass in their order; True stands for the one of jobs with keys."""
        now = monotonic()
        if now < self._keyed_at - self._prefetch_seconds:
            self._asked_at = -inf
            return (False,)
        self._asked_at = now
        self._keyed_first = not self._keyed_first
        return (self._keyed_first, not self._keyed_first)

    def within(self, pause: float) -> float:
        """The pause, cut short where the first job with a key can be claimed: ahead, or else at its instant.

        Not for one that was asked for since it is due: it is not ours to have, as another worker holds the row's lock,
        or the key's.
        """
        moments = (self._keyed_at - self._prefetch_seconds, self._keyed_at)
        claimable_at = next((at for at in moments if at > self._asked_at), inf)
        return min(pause, max(0.0, claimable_at - monotonic()))
