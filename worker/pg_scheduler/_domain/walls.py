"""The wall minutes that an expression names, in order.

Invariant: a wall minute is what a clock on the wall shows, without a zone; every one here is a whole minute between the
years 2 and 9998, so that it is an instant in every zone.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from pg_scheduler._domain.cron_fields import Expression

MINUTE = timedelta(minutes=1)
_FIRST_MONTH = 2 * 12
_END_MONTH = 9999 * 12


def floor(wall: datetime) -> datetime:
    """The whole minute that ``wall`` lies in."""
    return wall.replace(second=0, microsecond=0)


def minute_before(wall: datetime) -> datetime:
    """The last whole minute earlier than ``wall``."""
    return floor(wall - timedelta(microseconds=1))


def next_wall(expression: Expression, wall: datetime) -> datetime | None:
    """The first match that is not earlier than the whole minute ``wall``."""
    for day in _days_from(expression, wall.date()):
        since = _minute_of_day(wall) if day == wall.date() else 0
        index = bisect_left(expression.minutes, since)
        if index < len(expression.minutes):
            return _wall(day, expression.minutes[index])
    return None


def previous_wall(expression: Expression, wall: datetime) -> datetime | None:
    """The last match that is not later than the whole minute ``wall``."""
    for day in _days_back_from(expression, wall.date()):
        until = _minute_of_day(wall) if day == wall.date() else 24 * 60
        index = bisect_right(expression.minutes, until)
        if index:
            return _wall(day, expression.minutes[index - 1])
    return None


def _days_from(expression: Expression, first: date) -> Iterator[date]:
    begin = _number(first)
    for number in _months(expression, range(max(begin, _FIRST_MONTH), _END_MONTH)):
        year, month = number // 12, number % 12 + 1
        days = expression.days_in(year, month)
        for day in days[bisect_left(days, first.day) :] if number == begin else days:
            yield date(year, month, day)


def _days_back_from(expression: Expression, last: date) -> Iterator[date]:
    begin = _number(last)
    for number in _months(expression, range(min(begin, _END_MONTH - 1), _FIRST_MONTH - 1, -1)):
        year, month = number // 12, number % 12 + 1
        days = expression.days_in(year, month)
        for day in reversed(days[: bisect_right(days, last.day)] if number == begin else days):
            yield date(year, month, day)


def _months(expression: Expression, numbers: range) -> Iterator[int]:
    """Those of them that match; told first, for a rare rule passes hundreds of others."""
    return (number for number in numbers if number % 12 + 1 in expression.months)


def _number(day: date) -> int:
    return day.year * 12 + day.month - 1


def _minute_of_day(wall: datetime) -> int:
    return wall.hour * 60 + wall.minute


def _wall(day: date, minute_of_day: int) -> datetime:
    return datetime.combine(day, time(*divmod(minute_of_day, 60)))
