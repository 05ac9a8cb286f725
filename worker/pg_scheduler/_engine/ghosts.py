"""Claims that were committed and whose reply was lost: held by the table, run by nobody.

Invariant: a token is called a ghost only when the table has listed it in two beats in a row, nobody here knew it at
either, and no claim that might still bring it was under way when the first of them was sent.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from math import inf

from pg_scheduler._domain.jobs import ClaimedJob


class Ghosts:
    """What the table listed without our knowledge, and what we have disowned for it."""

    def __init__(self) -> None:
        self._claims: list[float] = []
        self._suspects: frozenset[int] = frozenset()
        self._suspected_at = 0.0
        self._disowned: set[int] = set()

    @contextmanager
    def claim(self, sent_at: float) -> Iterator[None]:
        """A claim is under way within the block."""
        self._claims.append(sent_at)
        try:
            yield
        finally:
            self._claims.remove(sent_at)

    def observe(self, sent_at: float, unknown: Collection[int]) -> frozenset[int]:
        """The tokens to disown and release, of those that the beat sent at ``sent_at`` listed and nobody here knows."""
        may_still_come = min(self._claims.copy(), default=inf) < self._suspected_at  # a copy: this is the beat's thread
        ghosts = frozenset() if may_still_come else self._suspects.intersection(unknown)
        self._disowned |= ghosts
        if not may_still_come:
            self._suspects, self._suspected_at = frozenset(unknown) - ghosts, sent_at
        return ghosts

    def is_disowned(self, token: int) -> bool:
        """Whether a claim that comes after all must not be started."""
        return token in self._disowned

    def without_disowned(self, jobs: Sequence[ClaimedJob]) -> Sequence[ClaimedJob]:
        """Those of a claim's jobs that may be started."""
        return [job for job in jobs if job.token not in self._disowned] if self._disowned else jobs
