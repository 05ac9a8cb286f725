"""Ticks one after the other, cheap in great numbers.

Invariant: they are the steps that ``next_after`` takes. On a day that no change of clocks is near, the ticks are the
wall minutes that match: a step finds the first of them, and the others are read off.
"""

from bisect import bisect_right
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
        rest = _rest_of_day(rule, tick)
        yield from rest
        tick = next_after(rule, rest[-1] if rest else tick, anchor=anchor)


def _rest_of_day(rule: Rule, tick: datetime) -> Sequence[datetime]:
    """The ticks of the day after one of them, where they are known without a step."""
    if tick > END - 2 * _DAY:
        return ()
    if isinstance(rule, Interval):
        return [tick + n * rule.every for n in range(1, _DAY // rule.every)]
    wall = wall_at(rule.zone, tick)
    midnight = tick - (wall - wall.replace(hour=0, minute=0, second=0))
    if _is_near_a_change(rule, midnight):
        return ()
    in_day = _in_day(
        rule, frozenset(n for n, each in enumerate(rule.parsed) if wall.day in each.days_in(*_month(wall)))
    )
    return [midnight + each for each in in_day[bisect_right(in_day, tick - midnight) :]]


def _is_near_a_change(rule: Cron, midnight: datetime) -> bool:
    """Whether the clock is changed that day, or shows a part of it a second time before or after."""
    changes = changes_between(rule.zone, midnight - REACH, midnight + _DAY + REACH)
    shifts = ((change.at, abs(change.after - change.before)) for change in changes)
    return any(midnight - shift <= at <= midnight + _DAY + shift for at, shift in shifts)


def _month(wall: datetime) -> tuple[int, int]:
    return wall.year, wall.month


@lru_cache(maxsize=256)
def _in_day(rule: Cron, expressions: frozenset[int]) -> tuple[timedelta, ...]:
    """When a day ticks that these expressions match, counted from its midnight."""
    minutes = sorted({minute for n in expressions for minute in rule.parsed[n].minutes})
    return tuple(minute * MINUTE + second for minute in minutes for second in rule.in_minute)
