"""The way from tick to tick.

Invariant: ``next_after`` is strictly later than the instant it is asked for and ``latest_until`` never later; both
depend on nothing but their arguments and the zone data.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import assert_never

from pg_scheduler._domain.passes import FIRST, LAST, Pass
from pg_scheduler._domain.rules import Bounds, Cron, Interval, Rule
from pg_scheduler.errors import InvalidArgument

BEGIN = datetime(2, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks:
    """The ticks to make now and the next one after them; ``next_at`` None when the rule has come to its end."""

    at: tuple[datetime, ...]
    next_at: datetime | None


def next_after(rule: Rule, instant: datetime, *, anchor: datetime) -> datetime | None:
    """The first tick later than ``instant`` and than ``anchor``; None when there is none before the year 9999."""
    anchor = utc(anchor)
    start = max(utc(instant), anchor, BEGIN)
    if start >= END:
        return None
    match rule:
        case Interval():
            elapsed = rule.elapsed(rule.steps(start - anchor) + 1)
            return anchor + elapsed if elapsed < END - anchor else None
        case Cron():
            tick = _next_cron(rule, start)
            return tick if tick and tick < END else None
        case _:
            assert_never(rule)


def latest_until(rule: Rule, instant: datetime, *, anchor: datetime) -> datetime | None:
    """The last tick that is not later than ``instant``; None when the first is still to come."""
    anchor, until = utc(anchor), min(utc(instant), END - INSTANT)
    if until <= max(anchor, BEGIN):
        return None
    match rule:
        case Interval():
            steps = rule.steps(until - anchor)
            return anchor + rule.elapsed(steps) if steps else None
        case Cron():
            tick = _latest_cron(rule, until)
            return tick if tick and tick > anchor else None
        case _:
            assert_never(rule)


def next_within(rule: Rule, bounds: Bounds, instant: datetime, *, anchor: datetime, made: int) -> datetime | None:
    """As ``next_after`` for a rule that has made so many ticks; None when its bounds allow no further one."""
    if bounds.max_runs is not None and made >= bounds.max_runs:
        return None
    since, until = within(bounds, instant, END)
    tick = next_after(rule, since, anchor=anchor)
    return tick if tick and tick <= until else None


def within(bounds: Bounds, after: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The window from after ``after`` to ``until``, narrowed by the bounds; it may end before it begins.

    ``max_runs`` is for those who know how many ticks there were.
    """
    since = utc(after) if bounds.start_at is None else max(utc(after), utc(bounds.start_at) - INSTANT)
    return since, utc(until) if bounds.end_at is None else min(utc(until), utc(bounds.end_at))


def ticks_until(rule: Rule, *, anchor: datetime, last: datetime | None, now: datetime, horizon: timedelta) -> Ticks:
    """What a schedule owes at ``now``: of the ticks missed since ``last`` the latest, and all up to ``horizon`` ahead.

    A year of downtime costs one step, whatever the rule: the missed ones are not listed.
    """
    after = max(last, anchor) if last else anchor
    missed = latest_until(rule, now, anchor=anchor)
    made = [missed] if missed and missed > after else []
    tick = next_after(rule, max(now, after), anchor=anchor)
    while tick and tick <= now + horizon:
        made.append(tick)
        tick = next_after(rule, tick, anchor=anchor)
    return Ticks(at=tuple(made), next_at=tick)


def utc(instant: datetime) -> datetime:
    """The instant without its zone: Python compares and adds within one zone by the wall clock."""
    if instant.tzinfo is None:
        raise InvalidArgument(f"the instant {instant} has no time zone", fix="give one, such as datetime.now(UTC)")
    return instant.astimezone(UTC)


def _next_cron(rule: Cron, instant: datetime) -> datetime | None:
    # The last second of a minute later than this is still to come, whatever the others are.
    since = instant - rule.in_minute[-1]
    minute = min(filter(None, (way.next_after(since) for way in _passes(rule))), default=None)
    return minute and next(minute + second for second in rule.in_minute if minute + second > instant)


def _latest_cron(rule: Cron, instant: datetime) -> datetime | None:
    until = instant - rule.in_minute[0]
    minute = max(filter(None, (way.latest_until(until) for way in _passes(rule))), default=None)
    return minute and next(minute + second for second in reversed(rule.in_minute) if minute + second <= instant)


def _passes(rule: Cron) -> Iterator[Pass]:
    """A real-time rule takes the clock as it is: both times of a minute shown twice, and nothing for one left out."""
    for expression in rule.parsed:
        is_real_time = expression.is_real_time
        ambiguous = "both" if is_real_time else rule.ambiguous
        fills_gaps = not is_real_time and rule.nonexistent == "shift_forward"
        if ambiguous != "last":
            yield Pass(expression, rule.zone, FIRST, fills_gaps)
        if ambiguous != "first":
            yield Pass(expression, rule.zone, LAST, fills_gaps)
