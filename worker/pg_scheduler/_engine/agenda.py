"""What waits for an instant of a clock that stands until somebody moves it.

Invariants: what waits for one instant is called in the order in which it began to wait. A job sleeps from when it
begins to wait until it is called or told to end: then it is about to run, although its coroutine has had no turn yet.
"""

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

_NOBODY = 0
"""Stands for the token of code that is part of no job."""


@dataclass(slots=True, eq=False)
class _Wait:
    at: datetime
    call: Callable[[], None]
    token: int
    is_asleep: bool
    is_over: bool = False


class Agenda:
    """The waits of one worker's jobs, or of code outside of any.

    Attributes:
        now: what the clock shows, as far as this agenda has been told.
        stirred: set whenever a job falls asleep, for who waits until all do.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.stirred = asyncio.Event()
        self._waits: list[tuple[datetime, int, _Wait]] = []
        self._order = count()
        self._asleep: Counter[int] = Counter()

    @property
    def next_at(self) -> datetime | None:
        """The first instant that something waits for."""
        while self._waits and self._waits[0][2].is_over:
            heapq.heappop(self._waits)
        return self._waits[0][0] if self._waits else None

    def call_due(self, now: datetime) -> int:
        """The clock shows ``now``: call what has waited for that; how many."""
        self.now, called = now, 0
        while (at := self.next_at) is not None and at <= now:
            wait = heapq.heappop(self._waits)[2]
            self._end(wait)
            wait.call()
            called += 1
        return called

    def is_asleep(self, token: int) -> bool:
        """Whether this job does nothing but wait for its instant."""
        return self._asleep[token] > 0

    def rouse(self, token: int) -> None:
        """The job has been told to end, and is about to learn of it."""
        for _, _, wait in self._waits:
            if wait.token == token and wait.is_asleep and not wait.is_over:
                self._wake(wait)

    async def sleep(self, span: timedelta) -> None:
        """Until the clock has come so much farther."""
        called = asyncio.Event()
        with self._waiting(span, called.set, is_asleep=True):
            self.stirred.set()
            await called.wait()

    @asynccontextmanager
    async def time_limit(self, seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
        """As ``asyncio.timeout``, on this clock."""
        async with asyncio.timeout(None) as limit:
            if seconds is None:
                yield limit
                return
            token = _token()

            def strike() -> None:
                limit.reschedule(asyncio.get_running_loop().time())
                self.rouse(token)

            with self._waiting(timedelta(seconds=seconds), strike, is_asleep=False):
                yield limit

    @contextmanager
    def job(self, token: int) -> Iterator[None]:
        """What begins in this block is part of this job, in every task that it makes."""
        outer = _current.set((self, token))
        try:
            yield
        finally:
            _current.reset(outer)

    @contextmanager
    def _waiting(self, span: timedelta, call: Callable[[], None], *, is_asleep: bool) -> Iterator[None]:
        at = self.now + span
        wait = _Wait(at, call, _token(), is_asleep)
        heapq.heappush(self._waits, (at, next(self._order), wait))
        self._asleep[wait.token] += is_asleep
        try:
            yield
        finally:
            self._end(wait)

    def _end(self, wait: _Wait) -> None:
        wait.is_over = True
        self._wake(wait)

    def _wake(self, wait: _Wait) -> None:
        self._asleep[wait.token] -= wait.is_asleep
        wait.is_asleep = False


_current: ContextVar[tuple[Agenda, int] | None] = ContextVar("pg_scheduler_job_on_agenda", default=None)


def _token() -> int:
    current = _current.get()
    return _NOBODY if current is None else current[1]


def agenda_of_job() -> Agenda | None:
    """The agenda of the job that this code is part of; None outside of one."""
    current = _current.get()
    return None if current is None else current[0]
