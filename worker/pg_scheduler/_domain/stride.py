"""Ticks one after the other, cheap in great numbers.

Invariant: they are the steps that ``next_after`` takes. On a day that no change of clocks is near, the ticks are the
wall minutes that match: a step finds the first of them, and the others are read off.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from pg_scheduler._domain.rules import Cron, Interval, Rule
from pg_scheduler._domain.walk import END, next_after
from pg_scheduler._domain.walls import MINUTE
from pg_scheduler._domain.zones import REACH, changes_between, wall_at

_DAY = timedelta(days=1)


def ticks_after(rule: Rule, instant: datetime, *, anchor: datetime) -> Iterator[datetime]:
    """The ticks later than ``instant`` and than ``anchor``, ascending."""
    tick = next_after(rule, instant, anchor=anchor)
    while tick:
        yield tick
        for later in _rest_of_day(rule, tick):  # one by one: whoever plans a single tick must not pay for a day
            yield later
            tick = later
        tick = next_after(rule, tick, anchor=anchor)


def _rest_of_day(rule: Rule, tick: datetime) -> Iterator[datetime]:
    """The ticks of the day after one of them, where they are known without a step."""
    if tick > END - 2 * _DAY:
        return iter(())
    if isinstance(rule, Interval):
        return (tick + n * rule.every for n in range(1, _DAY // rule.every))
    wall = wall_at(rule.zone, tick)
    midnight = tick - (wall - wall.replace(hour=0, minute=0, second=0))
    if _is_near_a_change(rule, midnight):
        return iter(())
    matching = frozenset(n for n, each in enumerate(rule.parsed) if wall.day in each.days_in(wall.year, wall.month))
    return _later(rule, midnight, tick, _minutes(rule, matching))


def _later(rule: Cron, midnight: datetime, tick: datetime, minutes: Sequence[timedelta]) -> Iterator[datetime]:
    since, seconds = tick - midnight, rule.in_minute
    for n in range(bisect_left(minutes, since - MINUTE), len(minutes)):
        for second in seconds:
            if minutes[n] + second > since:
                yield midnight + minutes[n] + second


def _is_near_a_change(rule: Cron, midnight: datetime) -> bool:
    """Whether the clock is changed that day, or shows a part of it a second time before or after."""
    changes = changes_between(rule.zone, midnight - REACH, midnight + _DAY + REACH)
    shifts = ((change.at, abs(change.after - change.before)) for change in changes)
    return any(midnight - shift <= at <= midnight + _DAY + shift for at, shift in shifts)


@lru_cache(maxsize=256)
def _minutes(rule: Cron, expressions: frozenset[int]) -> tuple[timedelta, ...]:
    """The minutes of a day that these expressions match, counted from its midnight."""
    return tuple(
        minute * MINUTE for minute in sorted({minute for n in expressions for minute in rule.parsed[n].minutes})
    )
