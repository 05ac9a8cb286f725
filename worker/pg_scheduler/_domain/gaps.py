"""How close the ticks of a rule come.

Invariant: by the clock on the wall, and so whatever the zone data say: the night on which clocks change is no measure.
"""

from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import assert_never

from pg_scheduler._domain import cron_fields
from pg_scheduler._domain.cron_fields import Expression
from pg_scheduler._domain.rules import Cron, Interval, Rule

DAY_MINUTES = 24 * 60
YEARS = range(2000, 2028)
"""Within 28 years every shape of a year comes, and every one after which it may come."""


def shortest_gap_seconds(rule: Rule) -> int:
    """The shortest time between two ticks, or a day where it is longer than that and the rule is no interval."""
    match rule:
        case Interval():
            return rule.every_seconds
        case Cron():
            seconds = [int(each.total_seconds()) for each in rule.in_minute]
            to_the_next = _shortest_minutes(rule.expressions) * 60 - (seconds[-1] - seconds[0])
            return min([to_the_next, *_gaps(seconds)])
        case _:
            assert_never(rule)


@lru_cache(maxsize=1024)
def _shortest_minutes(expressions: tuple[str, ...]) -> int:
    """From minute to minute of any of the expressions, up to a day."""
    parsed = [cron_fields.parsed(expression) for expression in expressions]
    shortest = min([DAY_MINUTES, *(gap for each in parsed for gap in _gaps(each.minutes))])
    if shortest == _if_all_matched_daily(parsed):
        return shortest  # without a look at 28 years, as for nearly every rule
    for yesterday, today in set(pairwise(_days(parsed))):
        last = [minute - DAY_MINUTES for minute in _minutes(parsed, yesterday)[-1:]]
        shortest = min([shortest, *_gaps([*last, *_minutes(parsed, today)])])
    return shortest


def _if_all_matched_daily(parsed: Sequence[Expression]) -> int:
    """No rule of these expressions has a shorter gap."""
    minutes = _minutes(parsed, range(len(parsed)))
    return min(_gaps([minutes[-1] - DAY_MINUTES, *minutes]))


def _days(parsed: Sequence[Expression]) -> Iterator[frozenset[int]]:
    """Day after day, which of the expressions match."""
    for year in YEARS:
        for month in range(1, 13):
            matches = [set(expression.days_in(year, month)) for expression in parsed]
            for day in range(1, monthrange(year, month)[1] + 1):
                yield frozenset(n for n, days in enumerate(matches) if day in days)


def _minutes(parsed: Sequence[Expression], matching: Iterable[int]) -> list[int]:
    """The minutes of a day that these expressions match, ascending."""
    return sorted({minute for n in matching for minute in parsed[n].minutes})


def _gaps(ascending: Sequence[int]) -> Iterator[int]:
    return (later - earlier for earlier, later in pairwise(ascending))
