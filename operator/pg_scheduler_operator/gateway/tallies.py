"""What became of the ticks of each schedule, counted once a minute at most.

Invariant: counting reads every job of a schedule that is still there, so that its cost is a minute's and not a tick's;
whoever was told an older count learns when to ask again.
"""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pg_scheduler.control import ScheduleCounts, ScheduleState

COUNTED_SECONDS: Final = 60.0


class Tallies:
    """The counts of schedules by uid, and when they were made."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._counted: dict[str, tuple[float, ScheduleCounts]] = {}
        self._told_older: set[str] = set()

    def due(self, uids: Collection[str]) -> Collection[str]:
        """Those that are to be counted now."""
        return {uid for uid in uids if uid not in self._counted or self._age(uid) >= COUNTED_SECONDS}

    def completed(self, state: ScheduleState) -> ScheduleState:
        """The state with its counts, from now or from the last time."""
        uid = state.source.uid
        if state.counts is not None:
            self._counted[uid] = (self._clock(), state.counts)
            self._told_older.discard(uid)
            return state
        self._told_older.add(uid)
        return replace(state, counts=self._counted[uid][1])

    def renewed_in_seconds(self, uid: str) -> float | None:
        """When to ask again; None where the counts that were told last were new."""
        return max(0.0, COUNTED_SECONDS - self._age(uid)) if uid in self._told_older else None

    def forget(self, uid: str) -> None:
        """The schedule is gone."""
        self._counted.pop(uid, None)
        self._told_older.discard(uid)

    def _age(self, uid: str) -> float:
        return self._clock() - self._counted[uid][0]
