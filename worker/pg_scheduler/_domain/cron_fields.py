"""A cron expression as the sets that its fields name, and what is refused.

Invariant: an expression that exists names at least one wall minute of some year; it depends on its text alone.
"""

import re
from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

EXPRESSION_CHARACTERS_MAX = 128
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIVE_FIELDS = "give five fields: minute hour day-of-month month day-of-week"
LAST = -1
"""Stands for the number of the last weekday of a month, where ``#2`` stands for the second."""

_BLANKS = re.compile(r"[ \t\r\n]+")
_VALUE = r"\d+|[A-Z]{3}"
_TERM = re.compile(rf"(?P<first>\*|{_VALUE})(?:-(?P<last>{_VALUE}))?(?:/(?P<step>\d+))?", re.ASCII)
_NTH = re.compile(rf"(?P<weekday>{_VALUE})#(?P<nth>\d+)", re.ASCII)
_CHANCE = re.compile(r"[HR]\b")
_LAST_OF_MONTH = re.compile(r"(?P<weekday>\d+)L", re.ASCII)


class Refused(ValueError):
    """A text that is no rule: what is wrong with it, and what to write instead."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Field:
    """One of the fields: its name in messages, its values, and the names that some of them have."""

    name: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many values there are."""
        return self.high - self.low + 1

    def refused(self, text: str, why: str, fix: str) -> Refused:
        """The refusal of a part of this field."""
        return Refused(f"{self.name} {shortened(text)}: {why}", fix)


def _numbered(names: str, first: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split(), first)}


SECOND = Field("second", 0, 59)
MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY = Field("day-of-month", 1, 31)
MONTH = Field("month", 1, 12, _numbered("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", 1))
WEEKDAY = Field("day-of-week", 0, 6, _numbered("SUN MON TUE WED THU FRI SAT", 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Which days of a month match.

    Attributes:
        days: days of the month.
        is_last_day: whether the last day of the month is one of them.
        weekdays: days of the week, Sunday 0.
        numbered: weekdays with their number in the month, ``LAST`` for the last one.
        either: whether one of day-of-month and day-of-week suffices; else both have to match.
    """

    days: frozenset[int]
    is_last_day: bool
    weekdays: frozenset[int]
    numbered: frozenset[tuple[int, int]]
    either: bool

    def match(self, day: int, weekday: int, length: int) -> bool:
        """Whether a day matches that is this weekday, in a month of this length."""
        of_month = day in self.days or (self.is_last_day and day == length)
        of_week = (
            weekday in self.weekdays
            or (weekday, (day + 6) // 7) in self.numbered
            or (day + 7 > length and (weekday, LAST) in self.numbered)
        )
        return of_month or of_week if self.either else of_month and of_week


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """Five fields, as values.

    Attributes:
        minutes: the minutes of a day that match, counted from midnight, ascending.
        months: the months that match.
        days: which of their days do.
        is_real_time: whether it ticks at every real minute that matches, rather than once a matching wall minute.
    """

    minutes: tuple[int, ...]
    months: frozenset[int]
    days: Days
    is_real_time: bool

    def days_in(self, year: int, month: int) -> tuple[int, ...]:
        """The days of this month that match, ascending."""
        if month not in self.months:
            return ()
        first_weekday, length = monthrange(year, month)
        return _days_of(self.days, (first_weekday + 1) % 7, length)


@lru_cache(maxsize=1024)  # a row is read at each of its ticks
def parsed(expression: str) -> Expression:
    """The fields of an expression or of a nickname such as ``@daily``.

    Raises:
        Refused: it does not parse, or never fires.
    """
    minute, hour, day, month, weekday = fields_of(expression)
    minutes, hours = values_of(minute, MINUTE), values_of(hour, HOUR)
    found = Expression(
        minutes=tuple(sorted(60 * h + m for h in hours for m in minutes)),
        months=values_of(month, MONTH),
        days=_days(day, weekday),
        is_real_time=len(hours) == HOUR.size or (hour.startswith("*") and len(hours) > 1),
    )
    if not _fires(found):
        raise Refused(
            f"{shortened(expression)} never fires", "no year has such a day; give another day-of-month or month"
        )
    return found


def fields_of(expression: str) -> list[str]:
    """The five fields as texts, in capitals; those that a nickname stands for.

    Raises:
        Refused: it is no text of five fields.
    """
    if len(expression) > EXPRESSION_CHARACTERS_MAX:
        raise Refused(
            f"a cron expression of {len(expression)} characters",
            f"give at most {EXPRESSION_CHARACTERS_MAX}; several expressions may be given",
        )
    text = _BLANKS.sub(" ", expression).strip(" ")
    if not (text.isascii() and text.isprintable()):
        raise Refused(
            f"{shortened(expression)} holds characters outside printable ASCII", "type plain digits and signs"
        )
    text = NICKNAMES.get(text.lower(), text).upper()
    _refuse_words(expression, text)
    fields = text.split(" ")
    if len(fields) != 5:  # noqa: PLR2004  the five fields of a cron expression
        raise _wrong_number(expression, len(fields) if text else 0)
    return fields


def values_of(text: str, kind: Field) -> frozenset[int]:
    """The values that a field of terms parted by commas names.

    Raises:
        Refused: one of the terms does not parse or lies outside the field.
    """
    return frozenset(value for term in dict.fromkeys(text.split(",")) for value in _values(term, kind))


def shortened(text: str) -> str:
    """A text as messages quote it."""
    return repr(text if len(text) <= 64 else text[:63] + "…")  # noqa: PLR2004


def _refuse_words(expression: str, text: str) -> None:
    shown = shortened(expression)
    if text.startswith("@REBOOT"):
        raise Refused(f"{shown} names no time", "call the task when your program starts")
    if text.startswith("@EVERY"):
        raise Refused(f"{shown} is an interval", "give it as one: every=timedelta(minutes=5), or intervalSeconds: 300")
    if text.startswith("@"):
        raise Refused(f"there is no {shown}", f"give five fields or one of {', '.join(NICKNAMES)}")
    if "=" in text:
        raise Refused(f"{shown} sets a variable", "give the time zone beside the rule: timezone=, timeZone: or --tz")


def _wrong_number(expression: str, count: int) -> Refused:
    fix = FIVE_FIELDS
    if count in (6, 7):
        fix += "; seconds stand beside them, such as seconds='0,20,40'" + ("; there is no year" if count == 7 else "")  # noqa: PLR2004
    return Refused(f"{shortened(expression)} has {count} field{'' if count == 1 else 's'}", fix)


def _days(day: str, weekday: str) -> Days:
    plain, numbered = _parted(weekday)
    day_terms = day.split(",")
    return Days(
        days=frozenset(value for term in day_terms if term != "L" for value in _values(term, DAY)),
        is_last_day="L" in day_terms,
        weekdays=frozenset(value for term in plain for value in _values(term, WEEKDAY)),
        numbered=frozenset(numbered),
        either=not day.startswith("*") and not weekday.startswith("*"),
    )


def _parted(weekday: str) -> tuple[list[str], list[tuple[int, int]]]:
    """The terms that name weekdays of every week, and those that name one of a month."""
    plain, numbered = [], []
    for term in weekday.split(","):
        if match := _LAST_OF_MONTH.fullmatch(term):
            numbered.append((_value(match["weekday"], WEEKDAY) % 7, LAST))
        elif match := _NTH.fullmatch(term):
            numbered.append((_value(match["weekday"], WEEKDAY) % 7, _nth(match["nth"], term)))
        else:
            plain.append(term)
    return plain, numbered


def _nth(text: str, term: str) -> int:
    if not 1 <= int(text) <= 5:  # noqa: PLR2004  a month has no sixth of a weekday
        raise WEEKDAY.refused(term, "a month has at most five of a weekday", "give #1 to #5, or 5L for the last Friday")
    return int(text)


def _values(term: str, kind: Field) -> Iterator[int]:
    match = _TERM.fullmatch(term)
    if match is None or (match["first"] == "*" and match["last"]):
        raise _unreadable(term, kind)
    low, high = _ends(match, kind)
    if low > high:
        raise kind.refused(term, "the range runs backwards", f"give two, such as {low}-{kind.high},{kind.low}-{high}")
    step = int(match["step"] or 1)
    if not 1 <= step <= kind.size:
        raise kind.refused(term, f"a step is 1 to {kind.size}", "give one of these, or a single value to match it once")
    return (value % 7 if kind is WEEKDAY else value for value in range(low, high + 1, step))


def _ends(match: re.Match[str], kind: Field) -> tuple[int, int]:
    if match["first"] == "*":
        return kind.low, kind.high
    low = _value(match["first"], kind)
    if match["last"] is not None:
        high = _value(match["last"], kind)
        return _week_range(low, high, match["last"]) if kind is WEEKDAY else (low, high)
    if match["step"] is not None:
        return low % 7 if kind is WEEKDAY else low, kind.high
    return low, low


def _week_range(low: int, high: int, last: str) -> tuple[int, int]:
    """Sunday begins a range as 0 and ends it as 7."""
    if last == "SUN" and low % 7:
        return low, 7
    return (low, high) if high == 7 else (low % 7, high)  # noqa: PLR2004


def _value(text: str, kind: Field) -> int:
    value = kind.names.get(text, int(text) if text.isdigit() else None)
    if value is None:
        raise _unreadable(text, kind)
    top = 7 if kind is WEEKDAY else kind.high  # Sunday is 7 as well
    if not kind.low <= value <= top:
        raise kind.refused(text, f"it is not within {kind.low} to {top}", f"give a value from {kind.low} to {top}")
    return value


def _unreadable(term: str, kind: Field) -> Refused:
    """The refusal of what other tools know, or of what nobody knows."""
    if term == "?":
        return kind.refused(term, "the sign is not known here", "write *")
    if _CHANCE.match(term):
        return kind.refused(term, "values are not chosen by hash or chance here", "choose a value, such as 17")
    if kind is DAY and "W" in term:
        return kind.refused(term, "nearest weekdays are not known", "give a day, or MON-FRI as day-of-week")
    if kind is DAY and "L" in term:
        return kind.refused(term, "days before the last one are not known", "give L, the last day, or a day such as 28")
    if kind is WEEKDAY and "L" in term:
        return kind.refused(term, "the last of a weekday is its number and L", "give 5L for the last Friday")
    return kind.refused(term, "it is no value", _grammar(kind))


def _grammar(kind: Field) -> str:
    names = f" or {'-'.join((next(iter(kind.names)), list(kind.names)[-1]))}" if kind.names else ""
    return f"give *, values from {kind.low} to {kind.high}{names}, ranges, steps, or a list of them"


def _fires(expression: Expression) -> bool:
    """Whether any month has a matching day: a month is as long as one of these years has it, and starts on any day."""
    return any(
        _days_of(expression.days, first_weekday, length)
        for length in {monthrange(year, month)[1] for year in (2023, 2024) for month in expression.months}
        for first_weekday in range(7)
    )


@lru_cache(maxsize=4096)  # 28 shapes of months
def _days_of(days: Days, first_weekday: int, length: int) -> tuple[int, ...]:
    return tuple(day for day in range(1, length + 1) if days.match(day, (first_weekday + day - 1) % 7, length))
