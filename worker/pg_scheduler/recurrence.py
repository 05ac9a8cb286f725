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
from pg_scheduler._domain.counting import count_within, last_within
from pg_scheduler._domain.notes import note, notes_within
from pg_scheduler._domain.policies import (
    CATCH_UP_MAX,
    DEADLINE_SECONDS_MAX,
    FAILURES_MAX,
    HISTORY_MAX,
    History,
    Missed,
    Overlap,
    Policy,
)
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
from pg_scheduler._domain.walk import latest_until, next_after, next_within, within
from pg_scheduler.errors import InvalidSchedule

__all__ = [
    "CATCH_UP_MAX",
    "DEADLINE_SECONDS_MAX",
    "EVERY_SECONDS_MAX",
    "FAILURES_MAX",
    "HISTORY_MAX",
    "JITTER_SECONDS_MAX",
    "RUNS_MAX",
    "Ambiguous",
    "Bounds",
    "Cron",
    "History",
    "Interval",
    "Missed",
    "Nonexistent",
    "Overlap",
    "Policy",
    "Rule",
    "count_within",
    "cron",
    "describe",
    "every",
    "kubernetes_hint",
    "last_within",
    "latest_until",
    "local",
    "next_after",
    "next_within",
    "note",
    "notes_within",
    "shown",
    "within",
]

_UNITS = (("d", "day", 86400), ("h", "hour", 3600), ("m", "minute", 60), ("s", "second", 1))
_EVERY_FEW = re.compile(r"\*/(?!1\b)")
_OPEN_STEP = re.compile(r"(?<![-\w])(\w+)/")


def every(interval: timedelta, phase: timedelta = timedelta(0)) -> Interval:
    """The rule of a whole number of seconds, ``phase`` further from its anchor; what both mean is said at ``Interval``.

    Raises:
        InvalidSchedule: one of them is not a timedelta or has a fraction of a second; the interval is below one second
            or above 100 years; the phase is negative or not below the interval.
    """
    return Interval(_whole_seconds("every", "an interval", interval), _whole_seconds("phase", "a phase", phase))


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
    """The rule in English: "Every 5 minutes, offset by 90 seconds" or "At 02:30 every day, America/New_York"."""
    match rule:
        case Interval():
            _, unit, count = _in_unit(rule.every_seconds)
            text = f"Every {unit}" if count == 1 else f"Every {count} {unit}s"
            _, unit, count = _in_unit(rule.phase_seconds)
            return f"{text}, offset by {count} {unit}{'' if count == 1 else 's'}" if count else text
        case Cron():
            first, *others = (_explained(expression, rule.seconds) for expression in rule.expressions)
            text = ", and ".join([first, *(other[:1].lower() + other[1:] for other in others)])
            return f"{text}, {rule.time_zone}"
        case _:
            assert_never(rule)


def shown(rule: Rule) -> str:
    """The rule as a column shows it: the expressions, "every 5m", or "every 15m +5m" with a phase."""
    match rule:
        case Interval():
            sign, _, count = _in_unit(rule.every_seconds)
            phase_sign, _, phase = _in_unit(rule.phase_seconds)
            return f"every {count}{sign}" + (f" +{phase}{phase_sign}" if phase else "")
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


def _whole_seconds(field: str, what: str, duration: timedelta) -> int:
    if not isinstance(duration, timedelta):
        raise InvalidSchedule(
            f"{what} that is a {type(duration).__name__}", field=field, fix="give a timedelta(minutes=5)"
        )
    if duration.microseconds:
        raise InvalidSchedule(f"{what} of {duration}", field=field, fix="give a whole number of seconds")
    return int(duration.total_seconds())


def _in_unit(seconds: int) -> tuple[str, str, int]:
    sign, unit, size = next(unit for unit in _UNITS if seconds % unit[2] == 0)
    return sign, unit, seconds // size


def _explained(expression: str, seconds: str) -> str:
    *fields, weekday = cron_fields.fields_of(expression)
    weekday = _OPEN_STEP.sub(r"\1-6/", weekday)  # cronsim's weekdays end with a second Sunday, ours with Saturday
    text: str = explain(" ".join([seconds, *fields, weekday]))
    return text
