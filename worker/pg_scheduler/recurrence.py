"""Rules that produce ticks: a fixed interval, or cron expressions in a time zone.

Invariant: ``next_after`` is strictly later than the instant it was asked for, and depends on nothing but its
arguments: no clock, no machine's zone.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import assert_never

from cronsim import CronSim

from pg_scheduler._domain.rules import EVERY_SECONDS_MAX, Cron, Interval, Rule, fields_of
from pg_scheduler._domain.walk import next_after
from pg_scheduler.errors import InvalidSchedule

__all__ = ["EVERY_SECONDS_MAX", "Cron", "Interval", "Rule", "cron", "describe", "every", "next_after", "shown"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def every(interval: timedelta) -> Interval:
    """The rule of a whole number of seconds.

    Raises:
        InvalidSchedule: not a timedelta, below one second, above 366 days, or with a fraction of a second.
    """
    if not isinstance(interval, timedelta):
        raise InvalidSchedule(
            f"an interval that is a {type(interval).__name__}", field="every", fix="give a timedelta(minutes=5)"
        )
    if interval.microseconds:
        raise InvalidSchedule(f"an interval of {interval}", field="every", fix="give a whole number of seconds")
    return Interval(int(interval.total_seconds()))


def cron(expressions: str | Iterable[str], *, time_zone: str = "Etc/UTC") -> Cron:
    """The rule of one or several five-field expressions.

    Raises:
        InvalidSchedule: an expression does not parse or never fires (``field`` is ``cron[i]``), the zone is unknown
            (``timeZone``), or it is known but not served yet (reason ``ZoneNotYetServed``).
    """
    return Cron((expressions,) if isinstance(expressions, str) else tuple(expressions), time_zone)


def describe(rule: Rule) -> str:
    """The rule in English, such as "Every 5 minutes" or "At 02:30 every day, Etc/UTC"."""
    match rule:
        case Interval():
            return f"Every {timedelta(seconds=rule.every_seconds)}"
        case Cron():
            texts = " and ".join(CronSim(fields_of(e), _EPOCH).explain() for e in rule.expressions)
            return f"{texts}, {rule.time_zone}"
        case _:
            assert_never(rule)


def shown(rule: Rule) -> str:
    """The rule as a column shows it: the expressions, or "every 5m"."""
    match rule:
        case Interval():
            unit, size = next((u, n) for u, n in _UNITS if rule.every_seconds % n == 0)
            return f"every {rule.every_seconds // size}{unit}"
        case Cron():
            return "; ".join(rule.expressions)
        case _:
            assert_never(rule)
