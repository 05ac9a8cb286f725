"""How soon a status may be written, and whose comes first when many wait.

Invariants: all objects together keep to one token bucket; what it holds back is a line of keys without statuses, one
entry an object, and leaves it by rank and then by age. A token that was given to a key is used or given back. No more
are called than can write: whoever is called waits for nobody, and the best rank of the moment comes next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pg_scheduler_operator.metrics import STATUS_BACKLOG, STATUS_BACKLOG_AGE, Metrics
from pg_scheduler_operator.status import live_condition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

K = TypeVar("K", bound=Hashable)

COALESCED_SECONDS: Final = 60.0
PER_SECOND: Final = 50.0
BURST: Final = 400.0
CALLED: Final = 20
"""So many may be called and not have written yet."""


class Rank(IntEnum):
    """Whose status is written first when not all can be."""

    FINISHED = 0
    READY = 1
    REST = 2


def rank_of(live: Mapping[str, Any], desired: Mapping[str, Any]) -> Rank:
    """By what a write would tell: an end, whether it is ready (or of another generation), or anything else."""
    if _verdict(live, "Finished") != _verdict(desired, "Finished"):
        return Rank.FINISHED
    same_generation = live.get("observedGeneration") == desired.get("observedGeneration")
    return Rank.REST if same_generation and _verdict(live, "Ready") == _verdict(desired, "Ready") else Rank.READY


def _verdict(status: Mapping[str, Any], name: str) -> bool:
    return live_condition(status, name).get("status") == "True"


class Bucket:
    """A token bucket: ``burst`` at once, then ``per_second``."""

    def __init__(self, *, per_second: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._at = clock()

    def wait_seconds(self) -> float:
        """How long until there is a token; 0 when there is one."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        return max(0.0, (1 - self._tokens) / self._per_second)

    def take(self) -> None:
        """Use up one token; the next ones wait if there was none."""
        self._tokens -= 1

    def give_back(self) -> None:
        """A token was not used."""
        self._tokens += 1


@dataclass(frozen=True, slots=True)
class _Place:
    """A key's place in the line."""

    rank: Rank
    since: float
    number: int

    def __lt__(self, other: _Place) -> bool:
        return (self.rank, self.number) < (other.rank, other.number)


class Pacer(Generic[K]):
    """Who may write a status now.

    Urgent ones at once, four in a row and then one a second for each object; the rest once in ``coalesced_seconds`` for
    each object; all together within one bucket, before which they stand in line.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        metrics: Metrics | None = None,
        coalesced_seconds: float = COALESCED_SECONDS,
        per_second: float = PER_SECOND,
        burst: float = BURST,
    ) -> None:
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._coalesced_seconds = coalesced_seconds
        self._all = Bucket(per_second=per_second, burst=burst, clock=clock)
        self._written: dict[K, tuple[float, Bucket]] = {}
        self._line: dict[K, _Place] = {}
        self._heap: list[tuple[_Place, K]] = []
        self._numbers = count()
        self._called: set[K] = set()
        self._last_served = Rank.REST
        self._somebody_waits = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def wait_seconds(self, key: K, *, urgent: bool, rank: Rank = Rank.REST) -> float | None:
        """0: ``key`` has a token and is to be written now. Else when to ask again; None: it will be called."""
        own_wait = self._own_wait(key, urgent=urgent)
        if own_wait > 0:
            return own_wait
        if key in self._called:
            return 0
        if rank <= self._last_served and not self._line and self._all.wait_seconds() == 0:
            self._give(key)
            return 0
        self._line_up(key, rank)
        return None

    def _own_wait(self, key: K, *, urgent: bool) -> float:
        if key not in self._written:
            return 0
        at, own = self._written[key]
        return own.wait_seconds() if urgent else max(0.0, at + self._coalesced_seconds - self._clock())

    def _line_up(self, key: K, rank: Rank) -> None:
        before = self._line.get(key)
        if before is not None and before.rank <= rank:
            return
        number = next(self._numbers) if before is None else before.number
        place = _Place(rank, self._clock() if before is None else before.since, number)
        self._line[key] = place
        heappush(self._heap, (place, key))
        self._somebody_waits.set()

    def _give(self, key: K) -> None:
        self._all.take()
        self._called.add(key)
        if len(self._called) >= CALLED:
            self._has_room.clear()

    def _take_away(self, key: K) -> None:
        self._called.discard(key)
        if len(self._called) < CALLED:
            self._has_room.set()

    def written(self, key: K) -> None:
        """A write was done with the key's token."""
        _, own = self._written.get(key, (0.0, Bucket(per_second=1, burst=4, clock=self._clock)))
        own.take()
        self._take_away(key)
        self._written[key] = (self._clock(), own)

    def done(self, key: K) -> None:
        """The key's turn has ended; a token that it has not used is another's."""
        if key in self._called:
            self._take_away(key)
            self._all.give_back()

    def forget(self, key: K) -> None:
        """The object is gone."""
        self.done(key)
        self._written.pop(key, None)
        self._line.pop(key, None)

    @contextmanager
    def only(self, last: Rank) -> Iterator[None]:
        """Meanwhile nobody of a later rank is served; they stand in line."""
        self._last_served = last
        try:
            yield
        finally:
            self._last_served = Rank.REST
            self._somebody_waits.set()

    async def called(self) -> K:
        """The key whose turn it is next, as soon as there is a token, which is then the key's."""
        while True:
            self.tell()
            await self._somebody_waits.wait()
            await self._has_room.wait()
            await asyncio.sleep(self._all.wait_seconds())
            key = self.call()
            if key is not None:
                return key

    def call(self) -> K | None:
        """Give the first of the line a token, if there is one; which key it was."""
        while self._heap and self._heap[0][0].rank <= self._last_served:
            if self._all.wait_seconds() > 0 or not self._has_room.is_set():
                return None
            place, key = heappop(self._heap)
            if self._line.get(key) is place:  # else it has left the line, or stands further ahead
                del self._line[key]
                self._give(key)
                return key
        if not self._line:
            self._heap.clear()
        self._somebody_waits.clear()
        return None

    def tell(self) -> None:
        """How many wait, and how long the one has waited that came first."""
        oldest = next(iter(self._line.values()), None)  # in the order in which they came, whatever their rank
        self._metrics.set(STATUS_BACKLOG, len(self._line))
        self._metrics.set(STATUS_BACKLOG_AGE, 0 if oldest is None else self._clock() - oldest.since)
