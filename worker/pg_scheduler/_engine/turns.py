"""Which claim comes next: jobs with a concurrency key have a statement of their own.

Invariant: it is sent only while such a job is known to be due, and then the two take turns to be first, so that neither
kind keeps the other from the slots.
"""

from math import inf
from time import monotonic


class Turns:
    """Whether and when jobs with a key are asked for."""

    def __init__(self) -> None:
        self._keyed_at = inf
        self._keyed_first = False
        self._asked = False

    def observe(self, keyed_in: float | None) -> None:
        """A look has seen the first job with a key due in so many seconds, or none."""
        self._keyed_at = inf if keyed_in is None else monotonic() + keyed_in

    def take(self) -> tuple[bool, ...]:
        """The claims of this pass in their order; True stands for the one of jobs with keys."""
        self._asked = monotonic() >= self._keyed_at
        if not self._asked:
            return (False,)
        self._keyed_first = not self._keyed_first
        return (self._keyed_first, not self._keyed_first)

    def within(self, pause: float) -> float:
        """The pause, cut short at the instant of the first job with a key; none if it is due and was not asked for."""
        if self._asked and self._keyed_at <= monotonic():
            return pause  # due, but not ours to have: another worker holds the row's lock, or the key's
        return min(pause, max(0.0, self._keyed_at - monotonic()))
