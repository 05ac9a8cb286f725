"""How many ticks lie in a window, and which are its last, without a walk through it.

Invariant: ``count_within`` is the number of steps that ``next_after`` takes through the window, wherever clocks differ
from UTC by whole minutes, as they all do since 1972. From one change of a zone's clocks to the next the wall goes on
evenly: there the ticks are the wall minutes that match, and months of one shape have the same ones.
"""

from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise, starmap
from typing import assert_never

from pg_scheduler._domain.cron_fields import Expression
from pg_scheduler._domain.rules import Cron, Interval, Rule
from pg_scheduler._domain.walk import BEGIN, END, INSTANT, latest_until, utc
from pg_scheduler._domain.walls import MINUTE, floor
from pg_scheduler._domain.zones import REACH, Change, changes_between, wall_at

_FIRST_WALL, _END_WALL = BEGIN.replace(tzinfo=None), END.replace(tzinfo=None)


def count_within(rule: Rule, after: datetime, until: datetime, *, anchor: datetime) -> int:
    """How many ticks are later than ``after`` and than ``anchor``, and not later than ``until``."""
    anchor = utc(anchor)
    since, until = max(utc(after), anchor, BEGIN), min(utc(until), END - INSTANT)
    if until <= since:
        return 0
    match rule:
        case Interval():
            return rule.steps(until - anchor) - rule.steps(since - anchor)
        case Cron():
            return _Count(rule, since + INSTANT, until + INSTANT).ticks()
        case _:
            assert_never(rule)


def last_within(rule: Rule, after: datetime, until: datetime, n: int, *, anchor: datetime) -> tuple[datetime, ...]:
    """The last ``n`` of the ticks that ``count_within`` counts, ascending; all of them if they are fewer."""
    after, found = utc(after), list[datetime]()
    while len(found) < n and (tick := latest_until(rule, until, anchor=anchor)) and tick > after:
        found.append(tick)
        until = tick - INSTANT
    return tuple(reversed(found))


class _Calendar:
    """The ticks on the wall of one or several expressions, each minute of them once.

    A day is a number: its bit ``n`` is the minute ``n`` from midnight.
    """

    def __init__(self, expressions: Iterable[Expression], in_minute: Sequence[timedelta]) -> None:
        self._expressions = [(expression, _bits(expression.minutes)) for expression in expressions]
        self._in_minute = in_minute
        self._months: dict[tuple[int, int, int], list[int]] = {}

    def count(self, first: datetime, end: datetime) -> int:
        """How many ticks the wall shows from ``first`` to before ``end``."""
        first, end = max(first, _FIRST_WALL), min(end, _END_WALL)
        if end <= first or not self._expressions:
            return 0
        months = range(first.year * 12 + first.month - 1, end.year * 12 + end.month - 1)
        whole = sum(_minutes(self._days(month // 12, month % 12 + 1)) for month in months)
        return whole * len(self._in_minute) + self._in_month_before(end) - self._in_month_before(first)

    def _in_month_before(self, wall: datetime) -> int:
        days, minute = self._days(wall.year, wall.month), wall.hour * 60 + wall.minute
        today = days[wall.day]
        whole = _minutes(days[: wall.day]) + (today & ((1 << minute) - 1)).bit_count()
        begun = bisect_left(self._in_minute, wall - floor(wall)) if today >> minute & 1 else 0
        return whole * len(self._in_minute) + begun

    def _days(self, year: int, month: int) -> list[int]:
        """The days of a month by their number; there is no day 0."""
        shape = (month, *monthrange(year, month))
        if shape not in self._months:
            days = self._months[shape] = [0] * 32
            for expression, minutes in self._expressions:
                for day in expression.days_in(year, month):
                    days[day] |= minutes
        return self._months[shape]


class _Count:
    """The ticks of a rule from the instant ``first`` to before ``end``."""

    def __init__(self, rule: Cron, first: datetime, end: datetime) -> None:
        self._rule, self._first, self._end = rule, first, end
        self._changes = changes_between(rule.zone, first - REACH, end + REACH)
        expressions = rule.parsed
        self._all = _Calendar(expressions, rule.in_minute)
        self._real_time = _Calendar((each for each in expressions if each.is_real_time), rule.in_minute)
        self._fixed_time = _Calendar((each for each in expressions if not each.is_real_time), rule.in_minute)

    def ticks(self) -> int:
        stretches = starmap(self._of_stretch, pairwise([None, *self._changes, None]))
        return sum(stretches) + sum(map(self._of_gap, self._changes))

    def _of_stretch(self, opening: Change | None, closing: Change | None) -> int:
        """What ticks from change to change; a fixed time that is shown in two stretches only in the chosen one."""
        begin = max(self._first, opening.at) if opening else self._first
        end = min(self._end, closing.at) if closing else self._end
        if end <= begin:
            return 0
        first = wall_at(self._rule.zone, begin)
        last = first + (end - begin)
        chosen, over = first, last
        if self._rule.ambiguous == "first" and opening:
            chosen = min(last, max(first, opening.stops))
        if self._rule.ambiguous == "last" and closing:
            over = max(first, min(last, closing.resumes))
        repeated = self._real_time.count(first, chosen) + self._real_time.count(over, last)
        return repeated + self._all.count(chosen, over)

    def _of_gap(self, change: Change) -> int:
        """What ticks at the end of a gap for the fixed times in it, if that minute does not tick anyway."""
        if self._rule.nonexistent == "skip" or self._all.count(change.resumes, change.resumes + MINUTE):
            return 0
        if not self._fixed_time.count(change.stops, change.resumes):
            return 0
        return sum(self._first <= change.at + second < self._end for second in self._rule.in_minute)


def _minutes(days: Iterable[int]) -> int:
    return sum(map(int.bit_count, days))


@lru_cache(maxsize=1024)
def _bits(minutes: tuple[int, ...]) -> int:
    return sum(1 << minute for minute in minutes)
