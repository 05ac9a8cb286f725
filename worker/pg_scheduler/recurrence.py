"""Rules that produce ticks: a fixed interval, or cron expressions in a time zone; and what holds beside them.

Invariant: what is asked here depends on nothing but the arguments and the zone data of the PyPI package ``tzdata``: no
clock, no machine's zone.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import assert_never

from cronsim.explain import explain

from pg_scheduler._domain import cron_fields
from pg_scheduler._domain.notes import note
from pg_scheduler._domain.policies import CATCH_UP_MAX, DEADLINE_SECONDS_MAX, FAILURES_MAX, Missed, Overlap, Policy
from pg_scheduler._domain.rules import (
    EVERY_SECONDS_MAX,
    JITTER_SECONDS_MAX,
    RUNS_MAX,
    Ambiguous,
    Bounds,
    Cron,
    Interval,
    Nonexistent,
    Rule,
)
from pg_scheduler._domain.walk import latest_until, next_after, next_within
from pg_scheduler.errors import InvalidSchedule

__all__ = [
    "CATCH_UP_MAX",
    "DEADLINE_SECONDS_MAX",
    "EVERY_SECONDS_MAX",
    "FAILURES_MAX",
    "JITTER_SECONDS_MAX",
    "RUNS_MAX",
    "Ambiguous",
    "Bounds",
    "Cron",
    "Interval",
    "Missed",
    "Nonexistent",
    "Overlap",
    "Policy",
    "Rule",
    "cron",
    "describe",
    "every",
    "kubernetes_hint",
    "latest_until",
    "local",
    "next_after",
    "next_within",
    "note",
    "shown",
]

_UNITS = (("d", "day", 86400), ("h", "hour", 3600), ("m", "minute", 60), ("s", "second", 1))
_EVERY_FEW = re.compile(r"\*/(?!1\b)")
_OPEN_STEP = re.compile(r"(?<![-\w])(\w+)/")


def every(interval: timedelta, *, phase: timedelta = timedelta(0)) -> Interval:
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
    return Interval(int(interval.total_seconds()), int(phase.total_seconds()))


def cron(
    expressions: str | Iterable[str],
    *,
    time_zone: str = "Etc/UTC",
    seconds: str = "0",
    nonexistent: Nonexistent = "shift_forward",
    ambiguous: Ambiguous = "first",
) -> Cron:
    """The rule of one or several five-field expressions; what the arguments mean is said at ``Cron``.

    Raises:
        InvalidSchedule: an expression does not parse or never fires (``field`` is ``cron[i]``), the zone is unknown
            (``timeZone``), or another argument is none of its values.
    """
    texts = (expressions,) if isinstance(expressions, str) else tuple(expressions)
    return Cron(texts, time_zone, seconds, nonexistent, ambiguous)


def describe(rule: Rule) -> str:
    """The rule in English, such as "Every 5 minutes" or "At 02:30 every day, America/New_York"."""
    match rule:
        case Interval():
            _, unit, count = _in_unit(rule)
            return f"Every {unit}" if count == 1 else f"Every {count} {unit}s"
        case Cron():
            first, *others = (_explained(expression, rule.seconds) for expression in rule.expressions)
            text = ", and ".join([first, *(other[:1].lower() + other[1:] for other in others)])
            return f"{text}, {rule.time_zone}"
        case _:
            assert_never(rule)


def shown(rule: Rule) -> str:
    """The rule as a column shows it: the expressions, or "every 5m"."""
    match rule:
        case Interval():
            sign, _, count = _in_unit(rule)
            return f"every {count}{sign}"
        case Cron():
            return "; ".join(rule.expressions)
        case _:
            assert_never(rule)


def local(rule: Rule, instant: datetime) -> datetime:
    """The instant in the rule's zone; an interval's is UTC."""
    return instant.astimezone(rule.zone if isinstance(rule, Cron) else UTC)


def kubernetes_hint(expression: str) -> str:
    """What a Kubernetes CronJob makes of the expression that we do not; empty where it is the same."""
    _, _, day, _, weekday = cron_fields.fields_of(expression)
    if "*" in (day, weekday) or not any(_EVERY_FEW.match(text) for text in (day, weekday)):
        return ""
    return (
        f"day-of-month {day} and day-of-week {weekday} have both to match; a Kubernetes CronJob runs where either does"
    )


def _in_unit(rule: Interval) -> tuple[str, str, int]:
    sign, unit, size = next(unit for unit in _UNITS if rule.every_seconds % unit[2] == 0)
    return sign, unit, rule.every_seconds // size


def _explained(expression: str, seconds: str) -> str:
    *fields, weekday = cron_fields.fields_of(expression)
    weekday = _OPEN_STEP.sub(r"\1-6/", weekday)  # cronsim's weekdays end with a second Sunday, ours with Saturday
    text: str = explain(" ".join([seconds, *fields, weekday]))
    return text
