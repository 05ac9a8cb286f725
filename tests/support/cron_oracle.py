"""What a cron rule has to tick at, found by looking at every minute: the judge of the library's walk.

It shares nothing with the library: it reads expressions in its own way and asks the zone for its offset minute by
minute. Instants and wall minutes are counted in minutes from 1970.
"""

from __future__ import annotations

import calendar
import struct
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from importlib import resources
from itertools import pairwise
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = 24 * 60
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def minute_of(instant: datetime) -> int:
    return (instant - EPOCH) // MINUTE


def instant_of(minute: int) -> datetime:
    return EPOCH + minute * MINUTE


@cache
def zone_of(name: str) -> ZoneInfo:
    with resources.files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file)


def zone_names() -> list[str]:
    return resources.files("tzdata").joinpath("zones").read_text().split()


def data_of(name: str) -> bytes:
    """The zone's file; names for one zone have equal ones."""
    return resources.files("tzdata.zoneinfo").joinpath(*name.split("/")).read_bytes()


def listed_changes(name: str) -> list[tuple[datetime, int, int]]:
    """The changes that the zone's file lists, with the offsets in seconds before and after; later ones have a rule."""
    data = data_of(name)
    ut, standard, leaps, times, types, letters = struct.unpack(">6l", data[20:44])
    head = 44 + times * 5 + types * 6 + letters + leaps * 8 + standard + ut  # the second part has eight bytes a time
    times, types = struct.unpack(">2l", data[head + 32 : head + 40])
    instants, table = head + 44, head + 44 + 9 * times
    seconds = struct.unpack(f">{times}q", data[instants : instants + 8 * times])
    offsets = [struct.unpack(">l", data[table + 6 * kind : table + 6 * kind + 4])[0] for kind in range(types)]
    known = [
        (EPOCH + timedelta(seconds=second), offsets[kind])
        for second, kind in zip(seconds, data[instants + 8 * times : table], strict=True)
    ]
    return [(at, before, after) for (_, before), (at, after) in pairwise(known) if before != after]


def scanned_changes(name: str, first: datetime, last: datetime) -> list[datetime]:
    """The changes between two instants: the days on which the offset changes, and of those each minute."""
    days = [first + n * timedelta(days=1) for n in range((last - first) // timedelta(days=1) + 1)]
    minutes = [
        day + n * MINUTE for day in days if offset(name, day) != offset(name, day + DAY * MINUTE) for n in range(DAY)
    ]
    return [at + MINUTE for at in minutes if offset(name, at) != offset(name, at + MINUTE)]


def offset(name: str, instant: datetime) -> timedelta:
    found = instant.astimezone(zone_of(name)).utcoffset()
    assert found is not None
    return found


@dataclass(frozen=True)
class Window:
    """The wall minute that each minute from ``begin`` on shows, some hours around a change and as far as it reaches."""

    begin: int
    shown: tuple[int, ...]

    @classmethod
    def around(cls, name: str, change: datetime, hours: int) -> Window:
        shift = abs(offset(name, change) - offset(name, change - MINUTE))
        reach = timedelta(hours=hours) + shift + timedelta(hours=1)
        minutes = range(minute_of(change - reach), minute_of(change + reach))
        offsets = [offset(name, instant_of(minute)) for minute in minutes]
        assert all(offset % MINUTE == timedelta(0) for offset in offsets)
        return cls(minutes[0], tuple(n + offset // MINUTE for n, offset in zip(minutes, offsets, strict=True)))

    @cached_property
    def times(self) -> dict[int, list[int]]:
        """The minutes that show each wall minute, ascending."""
        times: dict[int, list[int]] = {}
        for n, wall in enumerate(self.shown):
            times.setdefault(wall, []).append(self.begin + n)
        return times


def _number(text: str, names: list[str], first: int) -> int:
    return names.index(text) + first if text in names else int(text)


def _set(text: str, low: int, high: int, names: list[str]) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        body, _, step = part.partition("/")
        begin, _, end = body.partition("-")
        if body == "*":
            first, last = low, high
        else:
            first = _number(begin, names, low)
            last = _number(end, names, low) if end else (high if step else first)
            if end == "SUN":
                last = 7
        found.update(range(first, last + 1, int(step or 1)))
    return found


def day_matches(expression: str, day: date) -> bool:
    """Whether the three fields of days match."""
    _, _, in_month, months, in_week = expression.upper().split()
    if day.month not in _set(months, 1, 12, MONTHS):
        return False
    length = calendar.monthrange(day.year, day.month)[1]
    weekday = day.isoweekday() % 7
    by_month = by_week = False
    for part in in_month.split(","):
        by_month = by_month or (day.day == length if part == "L" else day.day in _set(part, 1, 31, []))
    for part in in_week.split(","):
        if part.endswith("L"):
            hit = weekday == int(part[:-1]) % 7 and day.day > length - 7
        elif "#" in part:
            name, _, nth = part.partition("#")
            hit = weekday == _number(name, WEEKDAYS, 0) % 7 and (day.day - 1) // 7 + 1 == int(nth)
        else:
            hit = weekday in {value % 7 for value in _set(part, 0, 6, WEEKDAYS)}
        by_week = by_week or hit
    if in_month[0] != "*" and in_week[0] != "*":
        return by_month or by_week
    return by_month and by_week


def is_real_time(expression: str) -> bool:
    hour = expression.split()[1]
    hours = _set(hour, 0, 23, [])
    return len(hours) == 24 or (hour[0] == "*" and len(hours) > 1)


def matching(expression: str, first: int, last: int) -> set[int]:
    """The wall minutes from ``first`` to ``last`` that the expression names."""
    minute, hour = expression.split()[:2]
    times = [60 * h + m for h in _set(hour, 0, 23, []) for m in _set(minute, 0, 59, [])]
    days = range(first // DAY, last // DAY + 1)
    return {
        day * DAY + time
        for day in days
        if day_matches(expression, date(1970, 1, 1) + timedelta(days=day))
        for time in times
        if first <= day * DAY + time <= last
    }


def ticks(expression: str, window: Window, nonexistent: str, ambiguous: str) -> set[int]:
    """The minutes of the window at which the rule ticks."""
    walls = matching(expression, min(window.shown), max(window.shown))
    if is_real_time(expression):
        return {minute for wall in walls for minute in window.times.get(wall, ())}
    found: set[int] = set()
    for wall in walls:
        if times := window.times.get(wall):
            found.update({"first": times[:1], "last": times[-1:], "both": times}[ambiguous])
        elif nonexistent == "shift_forward":
            found.add(_end_of_gap(window, wall))
    return found


def _end_of_gap(window: Window, wall: int) -> int:
    pairs = enumerate(pairwise(window.shown), 1)
    return window.begin + next(n for n, (before, after) in pairs if before < wall < after)
