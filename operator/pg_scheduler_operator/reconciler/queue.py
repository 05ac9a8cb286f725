"""The queue of keys.

Invariants: a key is with one worker at a time; one that is put while its object is worked on is worked on again, unless
that was told of what the work itself has made; one that failed comes back, at most ``BACKOFF_MAX_SECONDS`` later.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pg_scheduler_operator.resources import Key

BACKOFF_MAX_SECONDS: Final = 15.0
BACKOFF_FIRST_SECONDS: Final = 0.25


def backoff_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return min(BACKOFF_FIRST_SECONDS * 2.0 ** min(failures - 1, 10), BACKOFF_MAX_SECONDS)


class KeyQueue:
    """Keys to work on, each at most once, each by one worker at a time."""

    def __init__(self, *, is_own: Callable[[Key, str], bool] = lambda *_: False) -> None:
        """``is_own`` says of an object's version whether we have made it, so that there is nothing to be done."""
        self._is_own = is_own
        self._told: dict[Key, str] = {}
        self._ready: asyncio.PriorityQueue[tuple[bool, int, Key]] = asyncio.PriorityQueue()
        self._numbers = count()
        self._waiting: set[Key] = set()
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._later: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}

    def put(self, key: Key) -> None:
        """Have a key worked on; nothing new when it waits already."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._line_up(key, is_late=True)

    def tell(self, key: Key, version: str) -> None:
        """The object has this version now.

        While it is worked on, that is judged when the work is done: the watch tells of a write before it is answered.
        """
        if key in self._active:
            self._told[key] = version
        elif not self._is_own(key, version):
            self.put(key)

    def put_first(self, key: Key) -> None:
        """Have a key worked on before all others that wait."""
        if key in self._active:
            self._again.add(key)
        else:
            self._line_up(key, is_late=False)

    def _line_up(self, key: Key, *, is_late: bool) -> None:
        self._waiting.add(key)
        self._ready.put_nowait((is_late, next(self._numbers), key))

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put_later(self, key: Key, seconds: float) -> None:
        """Have a key worked on after a while; the earlier of two such wishes counts."""
        loop = asyncio.get_running_loop()
        planned = self._later.get(key)
        if planned is not None and planned.when() <= loop.time() + seconds:
            return
        if planned is not None:
            planned.cancel()
        self._later[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: Key) -> None:
        del self._later[key]
        self.put(key)

    async def get(self) -> Key:
        """The next key; it is this worker's until ``done`` or ``failed``."""
        while True:
            _, _, key = await self._ready.get()
            if key in self._waiting:  # else it has overtaken itself, or was taken meanwhile
                self._waiting.discard(key)
                self._active.add(key)
                return key

    def take_all(self, *, if_more_than: int) -> Collection[Key]:
        """All that wait, each as if by ``get``; none while they are not ``if_more_than`` so many."""
        if len(self._waiting) <= if_more_than:
            return ()
        taken, self._waiting = self._waiting, set()
        self._active |= taken
        return taken

    def done(self, key: Key, *, again_in_seconds: float | None = None) -> None:
        """The key was worked on."""
        self._failures.pop(key, None)
        if again_in_seconds is not None:
            self.put_later(key, again_in_seconds)
        self._leave(key)

    def failed(self, key: Key, *, at_least_seconds: float = 0) -> int:
        """The key has to be tried again; how often it has failed in a row."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.put_later(key, max(backoff_seconds(failures), at_least_seconds))
        self._leave(key)
        return failures

    def retry_failed(self) -> None:
        """What has failed waits no longer: the reason is gone."""
        for key in self._failures:
            self.put(key)

    def _leave(self, key: Key) -> None:
        self._active.discard(key)
        told = self._told.pop(key, None)
        if key in self._again or (told is not None and not self._is_own(key, told)):
            self._again.discard(key)
            self.put(key)

    def close(self) -> None:
        """Drop the timers."""
        for handle in self._later.values():
            handle.cancel()
        self._later.clear()
