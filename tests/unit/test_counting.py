"""Counting the ticks of a window: what a walk through it finds, at the cost of a few of its steps.

The oracle judges counts too, beside the walk: in ``test_walk.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pg_scheduler._domain import zones
from pg_scheduler._domain.counting import count_within, last_within
from pg_scheduler._domain.rules import Ambiguous, Bounds, Cron, Interval, Nonexistent, Rule
from pg_scheduler._domain.walk import BEGIN, END, latest_until, next_after, within
from pg_scheduler.errors import InvalidArgument
from support.cost import lines_run
from support.schedules_proof import CHOICES, EXPRESSIONS

ANCHOR = datetime(1990, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
DAY = timedelta(days=1)
NEW_YORK = ZoneInfo("America/New_York")
STEPS = 300
ODD_ZONES = (
    "Africa/Cairo",  # forward twice a year
    "Africa/Casablanca",
    "America/Caracas",
    "America/New_York",
    "America/Santiago",
    "Antarctica/Troll",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
)
MINUTES = ("*", "0", "30", "*/7", "59", "5,45", "0-40")
HOURS = ("*", "*/2", "0", "1-3", "23", "0-22", "*/24")
DAYS = ("* * *", "* * *", "L * *", "13 * FRI", "* * SUN", "*/2 * 7/2", "29 2 *", "* 3,9-11 0L")

expressions = st.sampled_from(EXPRESSIONS) | st.tuples(
    st.sampled_from(MINUTES), st.sampled_from(HOURS), st.sampled_from(DAYS)
).map(" ".join)


@st.composite
def crons(draw: st.DrawFn) -> Cron:
    nonexistent, ambiguous = draw(st.sampled_from(CHOICES))
    return Cron(
        tuple(draw(st.lists(expressions, min_size=1, max_size=4))),
        draw(st.sampled_from(ODD_ZONES) | st.sampled_from(sorted(zones.names()))),
        draw(st.sampled_from(["0", "30", "0,20,40", "*/7", "59"])),
        nonexistent,
        ambiguous,
    )


@st.composite
def instants(draw: st.DrawFn, rule: Cron) -> datetime:
    """An instant near a change of the zone's clocks, if it has any that year; often one of a tick, or next to it."""
    at = draw(st.datetimes(datetime(1991, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
    if there := zones.changes_in(rule.zone, at.year):
        at = draw(st.sampled_from(there)).at + draw(st.timedeltas(-3 * DAY, DAY) | st.timedeltas(-DAY / 12, DAY / 12))
    if draw(st.booleans()):
        at = latest_until(rule, at, anchor=ANCHOR) or at
    return at + draw(st.sampled_from([-INSTANT, 0 * INSTANT, INSTANT]))


intervals = st.integers(1, 10**6).flatmap(lambda every: st.builds(Interval, st.just(every), st.integers(0, every - 1)))


def walked(rule: Rule, after: datetime, steps: int, *, anchor: datetime = ANCHOR) -> list[datetime]:
    found: list[datetime] = []
    tick = next_after(rule, after, anchor=anchor)
    while tick is not None and len(found) < steps:
        found.append(tick)
        tick = next_after(rule, tick, anchor=anchor)
    return found


@given(st.data(), crons(), st.integers(1, STEPS))
def test_count_is_the_number_of_steps_of_the_walk(data: st.DataObject, rule: Cron, steps: int) -> None:
    after = data.draw(instants(rule))
    ticks = walked(rule, after, steps)
    assume(ticks)

    assert count_within(rule, after, ticks[-1], anchor=ANCHOR) == len(ticks)
    assert count_within(rule, after, ticks[-1] - INSTANT, anchor=ANCHOR) == len(ticks) - 1
    assert count_within(rule, ticks[0], ticks[-1], anchor=ANCHOR) == len(ticks) - 1
    assert count_within(rule, ticks[0] - INSTANT, ticks[-1], anchor=ANCHOR) == len(ticks)


@given(st.data(), crons())
def test_counts_of_two_windows_are_that_of_both(data: st.DataObject, rule: Cron) -> None:
    """However long they are: what the walk cannot be asked about in a test's time."""
    after, middle, until = sorted(data.draw(st.tuples(instants(rule), instants(rule), instants(rule))))

    whole = count_within(rule, after, until, anchor=ANCHOR)

    parts = count_within(rule, after, middle, anchor=ANCHOR), count_within(rule, middle, until, anchor=ANCHOR)
    assert whole == sum(parts)


@given(crons(), st.integers(1991, 2039))
def test_count_of_a_year_is_the_sum_of_its_days(rule: Cron, year: int) -> None:
    begin = datetime(year, 1, 1, tzinfo=UTC)
    edges = [begin + n * DAY for n in range(366)]

    assert count_within(rule, edges[0], edges[-1], anchor=ANCHOR) == sum(
        count_within(rule, after, until, anchor=ANCHOR) for after, until in pairwise(edges)
    )


@pytest.mark.parametrize("ambiguous", ["first", "last", "both"])
@pytest.mark.parametrize("zone", ["Etc/UTC", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"])
def test_a_year_has_each_of_its_minutes_once(zone: str, ambiguous: Ambiguous) -> None:
    """However many expressions name it."""
    rule = Cron(("* * * * *", "*/5 * * * *", "0 2 * * *", "30 1 * * *"), zone, "0,30", ambiguous=ambiguous)
    until = datetime(2012, 6, 1, tzinfo=UTC)

    assert count_within(rule, until - 365 * DAY, until, anchor=ANCHOR) == 365 * 24 * 60 * 2


@pytest.mark.parametrize(
    ("nonexistent", "ambiguous", "in_march", "in_november"),
    [
        ("shift_forward", "first", 70, 72),
        ("skip", "first", 69, 72),
        ("shift_forward", "last", 70, 72),
        ("shift_forward", "both", 70, 75),
        ("skip", "both", 69, 75),
    ],
)
def test_changes_of_clocks_count_as_they_tick(
    nonexistent: Nonexistent, ambiguous: Ambiguous, in_march: int, in_november: int
) -> None:
    """Of 72 minutes three lie in the gap, whose end is a tick that the rule does not have anyway."""
    rule = Cron(
        ("10,30,50 0-22 * * *", "10,30,50 23 * * *"), "America/New_York", nonexistent=nonexistent, ambiguous=ambiguous
    )

    def ticks(day: datetime) -> int:
        return count_within(rule, day, day + DAY, anchor=ANCHOR)

    assert ticks(datetime(2026, 3, 8, tzinfo=NEW_YORK)) == in_march
    assert ticks(datetime(2026, 11, 1, tzinfo=NEW_YORK)) == in_november


def test_end_of_a_gap_is_one_tick_of_its_own() -> None:
    change = datetime(2026, 3, 8, 7, tzinfo=UTC)
    rule = Cron(("*/20 2 * * *", "30 2 * * *"), "America/New_York", "0,20")

    assert count_within(rule, change - DAY / 2, change + DAY / 2, anchor=ANCHOR) == 2
    assert count_within(rule, change, change + DAY / 2, anchor=ANCHOR) == 1
    assert count_within(rule, change - DAY / 2, change - INSTANT, anchor=ANCHOR) == 0


@given(intervals, st.integers(0, 10**12), st.integers(0, STEPS), st.integers(-1, 1))
def test_count_of_an_interval_is_the_number_of_its_steps(rule: Interval, lag: int, steps: int, offset: int) -> None:
    after = ANCHOR + timedelta(microseconds=lag)
    ticks = walked(rule, after, steps + 1)
    until = ticks[-1] + offset * INSTANT

    assert count_within(rule, after, until, anchor=ANCHOR) == sum(tick <= until for tick in ticks)


@given(st.data(), crons() | intervals, st.integers(0, 20), st.integers(1, 40))
def test_last_ones_are_the_tail_of_the_walk(data: st.DataObject, rule: Rule, n: int, steps: int) -> None:
    after = data.draw(instants(rule)) if isinstance(rule, Cron) else ANCHOR
    ticks = walked(rule, after, steps)
    assume(ticks)

    found = last_within(rule, after, ticks[-1], n, anchor=ANCHOR)

    assert found == tuple(ticks[max(0, len(ticks) - n) :])


@pytest.mark.parametrize("rule", [Interval(60), Cron(("* * * * *",))])
def test_nothing_before_the_anchor_counts(rule: Rule) -> None:
    minutes = timedelta(minutes=10)

    assert count_within(rule, ANCHOR - DAY, ANCHOR + minutes, anchor=ANCHOR) == 10
    assert last_within(rule, ANCHOR - DAY, ANCHOR + minutes, 99, anchor=ANCHOR)[0] == ANCHOR + minutes / 10
    assert count_within(rule, ANCHOR - DAY, ANCHOR, anchor=ANCHOR) == 0
    assert last_within(rule, ANCHOR - DAY, ANCHOR, 99, anchor=ANCHOR) == ()


@pytest.mark.parametrize("rule", [Interval(60), Cron(("* * * * *",))])
def test_a_window_that_ends_before_it_begins_is_empty(rule: Rule) -> None:
    assert count_within(rule, ANCHOR + DAY, ANCHOR + DAY / 2, anchor=ANCHOR) == 0
    assert last_within(rule, ANCHOR + DAY, ANCHOR + DAY / 2, 9, anchor=ANCHOR) == ()


@pytest.mark.parametrize("zone", ["Etc/UTC", "Pacific/Kiritimati", "Pacific/Niue"])
def test_time_is_counted_from_its_beginning_to_its_end(zone: str) -> None:
    rule = Cron(("0 12 1 1 *",), zone)
    least, most = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    last = last_within(rule, least, most, 1, anchor=least)

    assert last == (latest_until(rule, END, anchor=ANCHOR),)
    assert count_within(rule, least, most, anchor=least) == zones.wall_at(rule.zone, last[0]).year - BEGIN.year + 1
    assert count_within(rule, END - DAY, most, anchor=least) == len(walked(rule, END - DAY, 9))


def test_windows_in_the_repeated_hour_are_the_instants_that_are_meant() -> None:
    again = datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=NEW_YORK)
    first, halves = again.replace(fold=0), Cron(("*/30 * * * *",), "America/New_York")

    assert count_within(halves, first, again, anchor=ANCHOR) == 2
    assert last_within(halves, first, again, 9, anchor=ANCHOR) == (
        datetime(2026, 11, 1, 6, 0, tzinfo=UTC),
        datetime(2026, 11, 1, 6, 30, tzinfo=UTC),
    )
    assert count_within(Interval(1800), ANCHOR, again, anchor=first) == 2


def test_an_instant_without_a_zone_cannot_be_counted_from() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001  the point

    with pytest.raises(InvalidArgument, match="no time zone"):
        count_within(Interval(1), naive, ANCHOR, anchor=ANCHOR)
    with pytest.raises(InvalidArgument, match="no time zone"):
        last_within(Interval(1), naive, ANCHOR, 1, anchor=ANCHOR)


def test_bounds_narrow_a_window_to_what_they_include() -> None:
    rule = Cron(("0 12 * * *",))
    first, last = datetime(2026, 3, 2, 12, tzinfo=UTC), datetime(2026, 3, 5, 12, tzinfo=UTC)

    def ticks(bounds: Bounds, after: datetime, until: datetime) -> int:
        return count_within(rule, *within(bounds, after, until), anchor=ANCHOR)

    assert ticks(Bounds(start_at=first, end_at=last), ANCHOR, last + DAY) == 4
    assert ticks(Bounds(start_at=first + INSTANT, end_at=last - INSTANT), ANCHOR, last + DAY) == 2
    assert ticks(Bounds(start_at=first), first + DAY, last) == 2
    assert ticks(Bounds(end_at=last), first, last - DAY) == 2
    assert ticks(Bounds(end_at=first), first, last) == 0
    assert within(Bounds(), first, last) == (first, last)


@pytest.mark.parametrize("zone", ["America/New_York", "Africa/Casablanca"])
def test_a_year_of_sixteen_dense_rules_is_counted_at_once(zone: str) -> None:
    """A walk would take thirty million steps."""
    fixed = tuple(f"{n}-59 0-22 * * *" for n in range(8))
    rule = Cron((*(f"{n}-59 * * * *" for n in range(8)), *fixed), zone, seconds="*")
    until = datetime(2026, 11, 30, tzinfo=UTC)
    count_within(rule, until - 365 * DAY, until, anchor=ANCHOR)

    counted, lines = lines_run(lambda: count_within(rule, until - 365 * DAY, until, anchor=ANCHOR))

    assert counted == 365 * 24 * 3600
    assert lines < 100_000


def test_last_ones_cost_by_their_number_and_not_by_the_window() -> None:
    rule, until = Cron(("* * * * *",), "America/New_York"), datetime(2026, 11, 30, tzinfo=UTC)
    last_within(rule, ANCHOR, until, 3, anchor=ANCHOR)

    last, lines = lines_run(lambda: last_within(rule, ANCHOR, until, 3, anchor=ANCHOR))

    assert last == (until - 2 * DAY / 1440, until - DAY / 1440, until)
    assert lines < 5_000
