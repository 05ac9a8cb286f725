"""Which claim comes next: jobs with a concurrency key, and jobs of limited queues, have statements of their own.

Invariant: one of those is sent only while such a job is known to be due, keyed ones within the prefetch. The plain
claim and the keyed one take turns to be first, so that neither kind keeps the other from the slots; the one of limited
queues is first where it is the turn of such a queue. What could not be claimed ahead is asked for once more at its
instant.
"""

from enum import Enum, auto
from math import inf
from time import monotonic

from pg_scheduler._engine.config import PREFETCH_SECONDS

IN_VAIN_SECONDS = 0.05
"""How soon a limited queue is asked again that had something and gave nothing: another worker was just asking it."""


class Turn(Enum):
    """The claims."""

    PLAIN = auto()
    KEYED = auto()
    LIMITED = auto()


class Turns:
    """Whether and when each is sent."""

    def __init__(self, prefetch_seconds: float = PREFETCH_SECONDS) -> None:
        self._prefetch_seconds = prefetch_seconds
        self._keyed_at = self._limited_at = inf
        self._keyed_first = self._limited_waits = self._asked_in_vain = False
        self._asked_at = -inf

    def observe(self, keyed_in: float | None, limited_in: float | None = None) -> None:
        """A look has seen the first job with a key, and the first that a limited queue lets start, due in so long."""
        self._keyed_at = inf if keyed_in is None else monotonic() + keyed_in
        soonest = IN_VAIN_SECONDS if self._asked_in_vain else -inf
        self._limited_at = inf if limited_in is None else monotonic() + max(limited_in, soonest)
        self._limited_waits, self._asked_in_vain = limited_in is not None, False

    @property
    def asks_limited(self) -> bool:
        """Whether a limited queue may start something now."""
        return monotonic() >= self._limited_at

    def take(self, *, limited_first: bool = False) -> tuple[Turn, ...]:
        """The claims of this pass in their order."""
        turns = self._keyed_and_plain(monotonic())
        if not self.asks_limited:
            return turns
        return (Turn.LIMITED, *turns) if limited_first else (*turns, Turn.LIMITED)

    def _keyed_and_plain(self, now: float) -> tuple[Turn, ...]:
        if now < self._keyed_at - self._prefetch_seconds:
            self._asked_at = -inf
            return (Turn.PLAIN,)
        self._asked_at = now
        self._keyed_first = not self._keyed_first
        return (Turn.KEYED, Turn.PLAIN) if self._keyed_first else (Turn.PLAIN, Turn.KEYED)

    def came_short(self, turn: Turn, taken: int) -> None:
        """A claim has brought all that it could: limited queues are asked again once a look has seen more."""
        if turn is Turn.LIMITED:
            self._limited_at, self._asked_in_vain = inf, not taken

    def ask_limited(self) -> bool:
        """A job of a limited queue has ended, which may let another one start; whether one waits."""
        if self._limited_waits:
            self._limited_at = monotonic()
        return self._limited_waits

    def within(self, pause: float) -> float:
        """The pause, cut short where the first job with a key can be claimed: ahead, or else at its instant.

        Not for one that was asked for since it is due: it is not ours to have, as another worker holds the row's lock,
        or the key's. The first job of a limited queue cuts it short too.
        """
        moments = (self._keyed_at - self._prefetch_seconds, self._keyed_at)
        claimable_at = next((at for at in moments if at > self._asked_at), inf)
        return min(pause, max(0.0, min(claimable_at, self._limited_at) - monotonic()))
