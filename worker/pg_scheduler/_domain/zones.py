"""Time zones: their names, and when their clocks change.

Invariant: every zone comes from the PyPI package ``tzdata`` through ``zone``; the machine's own files are never asked,
so that all workers of one release agree.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise
from zoneinfo import ZoneInfo

import tzdata

REACH = timedelta(days=2)
"""Further than any change of clocks sets them: the longest leaves out a day."""
STEP = timedelta(days=3)
"""No zone changes twice within it: the shortest way from change to change is a week, which a test holds to the data."""
YEARS = range(2, 9999)
_OFFSET = re.compile(r"(?:UTC|GMT)(?P<sign>[+-])0?(?P<hours>\d\d?)(?::?00)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a zone's clocks.

    Attributes:
        at: the instant.
        before: the offset from UTC that ends.
        after: the offset from then on.
    """

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def stops(self) -> datetime:
        """What the clock would show at the instant, had it not been changed."""
        return self.at.replace(tzinfo=None) + self.before

    @property
    def resumes(self) -> datetime:
        """What it shows at the instant."""
        return self.at.replace(tzinfo=None) + self.after

    def leaves_out(self, wall: datetime) -> bool:
        """Whether the clock jumps over ``wall``."""
        return self.stops <= wall < self.resumes

    def repeats(self, wall: datetime) -> bool:
        """Whether the clock shows ``wall`` before and after."""
        return self.resumes <= wall < self.stops


def version() -> str:
    """The release of the zone data, such as ``2026f``."""
    return str(tzdata.IANA_VERSION)


@cache
def names() -> frozenset[str]:
    """Every name that there is."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


def nearest(name: str) -> list[str]:
    """The three names most like ``name``, the best first: those that share most pairs of letters with it.

    ``UTC+3`` and its like come first as what they are: ``Etc/GMT-3``. Else such names are left out, for their sign
    misleads.
    """
    asked = _pairs(name[:64])
    likely = sorted(names(), key=lambda known: (-_likeness(asked, known), known))
    offset = _OFFSET.fullmatch(name)
    same = f"Etc/GMT{'-' if offset['sign'] == '+' else '+'}{offset['hours']}" if offset else ""
    return [*({same} & names()), *(known for known in likely if not _OFFSET.search(known))][:3]


@cache
def zone(name: str) -> ZoneInfo:
    """The zone of a name out of ``names()``."""
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def wall_at(zone: ZoneInfo, instant: datetime) -> datetime:
    """What a clock on the wall shows at an instant."""
    return instant.astimezone(zone).replace(tzinfo=None)


def instant_of(zone: ZoneInfo, wall: datetime, *, fold: int) -> tuple[datetime, Change | None]:
    """When the clock shows ``wall``, and of two times which; where it never does, the end of the gap and its change."""
    at = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    if wall_at(zone, at) == wall:
        return at, None
    gap = next(change for change in changes_near(zone, at) if change.leaves_out(wall))
    return gap.at, gap


def changes_near(zone: ZoneInfo, instant: datetime) -> list[Change]:
    """The changes within ``REACH`` of an instant."""
    return changes_between(zone, instant - REACH, instant + REACH)


def changes_between(zone: ZoneInfo, first: datetime, last: datetime) -> list[Change]:
    """The changes from one instant to another, both included, in order."""
    return [
        change
        for year in range(first.year, last.year + 1)
        for change in changes_in(zone, year)
        if first <= change.at <= last
    ]


@lru_cache(maxsize=4096)  # a zone's year is looked at for each tick in it
def changes_in(zone: ZoneInfo, year: int) -> tuple[Change, ...]:
    """The changes of one year, by UTC."""
    if year not in YEARS:
        return ()
    begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    looks = [*(begin + n * STEP for n in range(-(-(end - begin) // STEP))), end]
    offsets = [_offset(zone, look) for look in looks]
    return tuple(
        _change_between(zone, *looks[n : n + 2])
        for n, (before, after) in enumerate(pairwise(offsets))
        if before != after
    )


def _change_between(zone: ZoneInfo, first: datetime, last: datetime) -> Change:
    before, after = _offset(zone, first), _offset(zone, last)
    while last - first > timedelta(seconds=1):
        middle = first + (last - first) // timedelta(seconds=2) * timedelta(seconds=1)
        if _offset(zone, middle) == before:
            first = middle
        else:
            last = middle
    return Change(last, before, after)


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)


def _pairs(text: str) -> frozenset[str]:
    padded = f" {text.casefold()} "
    return frozenset(padded[i : i + 2] for i in range(len(padded) - 1))


def _likeness(asked: frozenset[str], known: str) -> float:
    return max(2 * len(asked & pairs) / (len(asked) + len(pairs)) for pairs in _pairs_of(known))


@cache
def _pairs_of(known: str) -> tuple[frozenset[str], frozenset[str]]:
    return _pairs(known), _pairs(known.rpartition("/")[2])
