"""The way from tick to tick.

Invariant: ``next_after`` is strictly later than the instant it is asked for and ``latest_until`` never later; both
depend on nothing but their arguments.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cronsim import CronSim

from pg_scheduler._domain.rules import Cron, Interval, Rule, fields_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks:
    """The ticks to make now and the next one after them; ``next_at`` None when the rule has come to its end."""

    at: tuple[datetime, ...]
    next_at: datetime | None


def next_after(rule: Rule, instant: datetime, *, anchor: datetime) -> datetime | None:
    """The first tick later than ``instant`` and than ``anchor``; None when there is none before the year 9999."""
    start = max(instant, anchor)
    match rule:
        case Interval():
            return anchor + ((start - anchor) // rule.every + 1) * rule.every
        case Cron():
            return min(filter(None, (_cron_next(e, start) for e in rule.expressions)), default=None)


def latest_until(rule: Rule, instant: datetime, *, anchor: datetime) -> datetime | None:
    """The last tick that is not later than ``instant``; None when the first is still to come."""
    if instant <= anchor:
        return None
    match rule:
        case Interval():
            tick = anchor + (instant - anchor) // rule.every * rule.every
        case Cron():
            tick = max(_cron_latest(e, instant) for e in rule.expressions)
    return tick if tick > anchor else None


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


def _cron_next(expression: str, instant: datetime) -> datetime | None:
    return next(CronSim(fields_of(expression), instant.astimezone(UTC)), None)


def _cron_latest(expression: str, instant: datetime) -> datetime:
    # The walk backwards is strict as well: from a microsecond later it includes the instant itself.
    return next(CronSim(fields_of(expression), instant.astimezone(UTC) + timedelta(microseconds=1), reverse=True))
