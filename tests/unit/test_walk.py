"""When rules tick: known cases by value, every kind of change against the oracle, and what always holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler import recurrence
from pg_scheduler._domain import zones
from pg_scheduler._domain.rules import EVERY_SECONDS_MAX, Bounds, Cron, Interval, Rule
from pg_scheduler._domain.walk import BEGIN, END, latest_until, next_after, next_within
from pg_scheduler.errors import InvalidArgument, InvalidSchedule
from support import cron_oracle
from support.cost import lines_run
from support.schedules_proof import CHOICES, EXPRESSIONS, differences, sample

if TYPE_CHECKING:
    from pg_scheduler._domain.zones import Change

ANCHOR = datetime(1990, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
NEW_YORK = ZoneInfo("America/New_York")
DAY = timedelta(days=1)


_FIELDS = [
    ("*", "0", "59", "*/7", "1-5,30/10", "*,3"),
    ("*", "2", "*/2", "0-23", "22/1", "1-3"),
    ("*", "1", "L", "31", "29,30", "*/2", "13,L", "8-14"),
    ("*", "2", "FEB-APR", "*/3", "4,6,9,11"),
    ("*", "FRI", "SAT-SUN", "*/2", "5L", "MON#5", "0,7", "SUN/3", "TUE#1,4L"),
]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text + ("" if "Z" in text else "Z"))


def ticks(rule: Rule, since: datetime, count: int) -> list[str]:
    found: list[str] = []
    tick = next_after(rule, since, anchor=ANCHOR)
    while tick is not None and len(found) < count:
        found.append(f"{tick:%Y-%m-%dT%H:%M}" + (f":{tick:%S}" if tick.second else ""))
        tick = next_after(rule, tick, anchor=ANCHOR)
    return found


CASES: list[tuple[str, str, str, list[str]]] = [
    ("America/New_York", "30 2 * * *", "2026-03-08T00:00", ["2026-03-08T07:00", "2026-03-09T06:30"]),
    ("America/New_York", "30 1 * * *", "2026-11-01T00:00", ["2026-11-01T05:30", "2026-11-02T06:30"]),
    (
        *("America/New_York", "*/20 * * * *", "2026-11-01T05:30"),
        ["2026-11-01T05:40", "2026-11-01T06:00", "2026-11-01T06:20", "2026-11-01T06:40"],
    ),
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T00:00", ["2026-10-03T15:30", "2026-10-04T15:15"]),
    ("Australia/Lord_Howe", "30 * * * *", "2026-04-04T14:30", ["2026-04-04T15:00", "2026-04-04T16:00"]),
    ("Australia/Lord_Howe", "30 * * * *", "2026-10-03T15:00", ["2026-10-03T15:30", "2026-10-03T16:30"]),
    ("Africa/Casablanca", "30 2 * * *", "2026-02-15T00:00", ["2026-02-15T01:30", "2026-02-16T02:30"]),
    ("America/Santiago", "0 0 * * *", "2026-09-06T00:00", ["2026-09-06T04:00", "2026-09-07T03:00"]),
    (
        *("Europe/London", "0,30 1-2 * * *", "2026-03-29T00:00"),
        ["2026-03-29T01:00", "2026-03-29T01:30", "2026-03-30T00:00"],
    ),
    ("America/Caracas", "15 * * * *", "2016-05-01T05:00", ["2016-05-01T05:45", "2016-05-01T06:45", "2016-05-01T07:15"]),
    ("Asia/Pyongyang", "45 23 * * *", "2018-05-03T15:00", ["2018-05-03T15:15", "2018-05-04T15:00", "2018-05-05T14:45"]),
    ("Pacific/Apia", "0 0 * * *", "2011-12-29T00:00", ["2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"]),
    ("Pacific/Apia", "0 12 * * *", "2011-12-29T00:00", ["2011-12-29T22:00", "2011-12-30T10:00", "2011-12-30T22:00"]),
    ("Pacific/Apia", "0 * 30 12 *", "2011-12-29T00:00", ["2012-12-29T10:00"]),
    ("Etc/UTC", "0 0 29 2 *", "2026-01-01T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
    ("Etc/UTC", "0 0 29 2 */7", "2096-03-01T00:00", ["2128-02-29T00:00"]),
    ("Etc/UTC", "0 0 13 * FRI", "2026-03-07T00:00", ["2026-03-13T00:00", "2026-03-20T00:00", "2026-03-27T00:00"]),
    ("America/New_York", "30 2 8 3 *", "2026-01-01T00:00", ["2026-03-08T07:00", "2027-03-08T07:30"]),
]


@pytest.mark.parametrize(("zone", "expression", "since", "expected"), CASES)
def test_rule_ticks_at(zone: str, expression: str, since: str, expected: list[str]) -> None:
    assert ticks(Cron((expression,), zone), instant(since), len(expected)) == expected


def test_instant_within_the_repeated_hour_is_the_one_that_is_meant() -> None:
    again = datetime(2026, 11, 1, 1, 15, fold=1, tzinfo=NEW_YORK)

    assert ticks(Cron(("30 1 * * *",), "America/New_York"), again, 1) == ["2026-11-02T06:30"]


@pytest.mark.parametrize(
    ("choice", "expression", "since", "expected"),
    [
        ({"nonexistent": "skip"}, "30 2 * * *", "2026-03-08T00:00", ["2026-03-09T06:30"]),
        ({"nonexistent": "skip"}, "*/20 2 * * *", "2026-03-08T00:00", ["2026-03-09T06:00"]),
        ({}, "*/20 2 * * *", "2026-03-08T00:00", ["2026-03-08T07:00", "2026-03-09T06:00"]),
        ({"ambiguous": "last"}, "30 1 * * *", "2026-11-01T00:00", ["2026-11-01T06:30", "2026-11-02T06:30"]),
        ({"ambiguous": "both"}, "30 1 * * *", "2026-11-01T00:00", ["2026-11-01T05:30", "2026-11-01T06:30"]),
        ({"ambiguous": "last"}, "0 * * * *", "2026-11-01T04:30", ["2026-11-01T05:00", "2026-11-01T06:00"]),
        (
            *({"seconds": "0,20,40"}, "30 2 * * *", "2026-03-08T00:00"),
            ["2026-03-08T07:00", "2026-03-08T07:00:20", "2026-03-08T07:00:40", "2026-03-09T06:30"],
        ),
        (
            *({"seconds": "50,10", "ambiguous": "both"}, "30 1 * * *", "2026-11-01T00:00"),
            ["2026-11-01T05:30:10", "2026-11-01T05:30:50", "2026-11-01T06:30:10", "2026-11-01T06:30:50"],
        ),
        ({"seconds": "*/40"}, "* * * * *", "2026-11-01T05:59:20", ["2026-11-01T05:59:40", "2026-11-01T06:00"]),
    ],
)
def test_choices_say_what_a_change_of_clocks_does(
    choice: dict[str, Any], expression: str, since: str, expected: list[str]
) -> None:
    assert ticks(Cron((expression,), "America/New_York", **choice), instant(since), len(expected)) == expected


@pytest.mark.parametrize("kind", sample())
def test_walk_and_count_are_the_oracles_around_each_kind_of_change(kind: str) -> None:
    zone, change = sample()[kind]

    assert differences(zone, change, turn=len(zone)) == []


@pytest.mark.parametrize("turn", range(len(CHOICES)))
@pytest.mark.parametrize(
    ("zone", "year"),
    [
        ("Australia/Lord_Howe", 2026),
        ("America/Caracas", 2016),
        ("Asia/Pyongyang", 2018),
        ("Africa/Casablanca", 2026),
        ("Pacific/Apia", 2011),
        ("America/St_Johns", 2010),
        ("Antarctica/Troll", 2026),
    ],
)
def test_walk_and_count_are_the_oracles_under_every_choice(zone: str, year: int, turn: int) -> None:
    around = zones.changes_in(zones.zone(zone), year)

    assert around
    assert [differences(zone, change, turn) for change in around] == [[] for _ in around]


zone_names = st.sampled_from(sorted(zones.names()))
instants = st.datetimes(datetime(1990, 1, 2), datetime(2040, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001
expressions = st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=3).map(tuple)
seconds = st.sampled_from(["0", "30", "0,20,40", "*/7", "59"])


@st.composite
def crons(draw: st.DrawFn) -> Cron:
    nonexistent, ambiguous = draw(st.sampled_from(CHOICES))
    return Cron(draw(expressions), draw(zone_names), draw(seconds), nonexistent, ambiguous)


@st.composite
def near_changes(draw: st.DrawFn, zone: str) -> datetime:
    """An instant, where the zone has changes within two hours of one."""
    at = draw(instants)
    there = zones.changes_in(zones.zone(zone), at.year)
    return draw(st.sampled_from(there)).at + draw(st.timedeltas(-2 * DAY / 24, 2 * DAY / 24)) if there else at


@given(st.data(), crons())
def test_next_is_later_latest_is_not_and_nothing_lies_between(data: st.DataObject, rule: Cron) -> None:
    at = data.draw(near_changes(rule.time_zone))
    following, latest = next_after(rule, at, anchor=ANCHOR), latest_until(rule, at, anchor=ANCHOR)

    assert following is not None
    assert following > at
    assert latest_until(rule, following, anchor=ANCHOR) == following
    assert latest_until(rule, following - INSTANT, anchor=ANCHOR) == latest
    if latest is not None:
        assert latest <= at
        assert next_after(rule, latest, anchor=ANCHOR) == following


@given(st.data(), zone_names, st.integers(0, 23), st.integers(0, 59))
def test_daily_rule_loses_no_day_and_doubles_none(data: st.DataObject, zone: str, hour: int, minute: int) -> None:
    """A day that a zone leaves out joins the next one only if the rule runs at midnight."""
    rule = Cron((f"{minute} {hour} * * *",), zone)
    since = data.draw(near_changes(zone)) - 2 * DAY
    tick = next_after(rule, since, anchor=ANCHOR)
    assert tick is not None
    for _ in range(4):
        following = next_after(rule, tick, anchor=ANCHOR)
        assert following is not None
        days = (_asked(rule, following) - _asked(rule, tick)) // DAY
        assert days == 1 or (days == 2 and (zone, hour, minute) in _MIDNIGHTS_LEFT_OUT)
        tick = following


_MIDNIGHTS_LEFT_OUT = {(zone, 0, 0) for zone in ("Pacific/Apia", "Pacific/Kwajalein", "Kwajalein")} | {
    (zone, 0, 0) for zone in ("Pacific/Enderbury", "Pacific/Kanton", "Pacific/Kiritimati")
}


def _asked(rule: Cron, tick: datetime) -> datetime:
    """The day for which the tick is: that of its wall minute, were the clock not changed."""
    there = [
        change for change in zones.changes_near(rule.zone, tick) if change.at == tick and change.after > change.before
    ]
    wall = there[0].stops if there and _lies_in_gap(rule, there[0]) else zones.wall_at(rule.zone, tick)
    return wall.replace(hour=0, minute=0, second=0, microsecond=0)


def _lies_in_gap(rule: Cron, change: Change) -> bool:
    (minute,) = rule.parsed[0].minutes
    midnight = change.stops.replace(hour=0, minute=0)
    return any(change.leaves_out(midnight + n * DAY + timedelta(minutes=minute)) for n in (0, 1))


@given(st.text(st.sampled_from("0123456789*/-,#@?LWHRSUNMOFRIJAEB=+ "), max_size=20), st.sampled_from(["", " * * *"]))
def test_any_text_is_a_rule_or_refused(text: str, rest: str) -> None:
    try:
        rule = Cron((f"{text}{rest}",), "Australia/Lord_Howe")
    except InvalidSchedule:
        return
    assert next_after(rule, ANCHOR, anchor=ANCHOR) is not None
    assert recurrence.describe(rule).endswith(", Australia/Lord_Howe")


@given(st.tuples(*[st.sampled_from(texts) for texts in _FIELDS]))
def test_any_rule_of_known_fields_ticks_and_has_words(fields: tuple[str, ...]) -> None:
    try:
        rule = Cron((" ".join(fields),), "America/St_Johns")
    except InvalidSchedule as refused:
        assert "never fires" in str(refused)  # noqa: PT017  any of them may be such a one
        return
    tick = next_after(rule, ANCHOR, anchor=ANCHOR)
    assert tick is not None
    assert cron_oracle.day_matches(" ".join(fields), zones.wall_at(rule.zone, tick).date())
    assert recurrence.describe(rule)


def test_the_rarest_rules_are_walked_at_once() -> None:
    """Forty years to the next tick, of as many expressions as there may be."""
    rule = Cron(("0 0 29 2 */7",) * 16, "America/New_York", nonexistent="skip")
    next_after(rule, ANCHOR, anchor=ANCHOR)

    tick, lines = lines_run(lambda: next_after(rule, instant("2088-03-01T00:00"), anchor=ANCHOR))

    assert tick == instant("2128-02-29T05:00")
    assert lines < 100_000


@pytest.mark.parametrize(
    "fields",
    [
        f"{','.join(['*'] * 20)} {','.join(['*'] * 12)} {','.join(['*'] * 8)} * {','.join(['*'] * 8)}",
        f"{','.join(map(str, range(20, 58)))} * * * *",
        f"* {','.join(map(str, range(24)))} 1-31,2-31 * *",
        "0 0 31 1,2,4 */7",
    ],
)
def test_hostile_rules_are_answered_at_once(fields: str) -> None:
    """Sixteen of them, as long as they may be; read, walked and told."""
    minutes, rest = fields.split(" ", 1)
    texts = tuple(f"{minutes},{n} {rest}" for n in range(16))

    def answer() -> None:
        rule = Cron(texts, "America/New_York")
        next_after(rule, instant("2026-01-01T00:00"), anchor=ANCHOR)
        recurrence.describe(rule)

    assert lines_run(answer)[1] < 400_000


def test_rule_that_only_falls_into_gaps_comes_to_its_end_at_once() -> None:
    """To the year 9999 it would fall into eight thousand gaps."""
    rule = Cron(("30 2 * 3 SUN#2",), "America/New_York", nonexistent="skip")
    next_after(rule, instant("2026-01-01T00:00"), anchor=ANCHOR)

    tick, lines = lines_run(lambda: next_after(rule, instant("2026-01-01T00:00"), anchor=ANCHOR))

    assert tick is None
    assert lines < 20_000
    assert latest_until(rule, instant("2026-01-01T00:00"), anchor=ANCHOR) == instant("2006-03-12T07:30")


@pytest.mark.parametrize("zone", ["Etc/UTC", "Pacific/Kiritimati", "Pacific/Niue", "America/New_York"])
@pytest.mark.parametrize("expression", ["0 0 1 1 *", "* * * * *", "0 0 29 2 *", "59 23 31 12 *"])
def test_time_ends_before_the_year_9999(zone: str, expression: str) -> None:
    rule = Cron((expression,), zone)
    last = latest_until(rule, datetime.max.replace(tzinfo=UTC), anchor=ANCHOR)

    assert last is not None
    assert datetime(9990, 1, 1, tzinfo=UTC) < last < END
    assert next_after(rule, last, anchor=ANCHOR) is None
    assert next_after(rule, datetime.max.replace(tzinfo=UTC), anchor=ANCHOR) is None


def test_intervals_end_before_the_year_9999() -> None:
    every_year = Interval(366 * 24 * 3600)

    assert next_after(every_year, END - INSTANT, anchor=END - 2 * INSTANT) is None
    assert next_after(Interval(EVERY_SECONDS_MAX, 10**9), END - 2 * INSTANT, anchor=END - 3 * INSTANT) is None
    assert latest_until(Interval(EVERY_SECONDS_MAX, 10**9), BEGIN + DAY, anchor=BEGIN) is None
    assert next_after(Interval(1), END - timedelta(seconds=2), anchor=ANCHOR) == END - timedelta(seconds=1)
    assert next_after(Interval(1), END - timedelta(seconds=1), anchor=ANCHOR) is None


def test_time_has_a_beginning() -> None:
    begin = datetime.min.replace(tzinfo=UTC)
    rule = Cron(("0 0 29 2 *",), "Asia/Tokyo")

    assert latest_until(rule, begin + 100 * DAY, anchor=begin) is None
    first = next_after(rule, begin, anchor=begin)
    assert first is not None
    assert first.year == 4
    assert latest_until(rule, first - INSTANT, anchor=begin) is None


def test_instant_without_a_zone_is_refused() -> None:
    for walk in (next_after, latest_until):
        with pytest.raises(InvalidArgument, match="no time zone"):
            walk(Interval(1), datetime(2026, 1, 1), anchor=ANCHOR)  # noqa: DTZ001  the point


def test_bounds_leave_out_ticks_before_their_start_and_after_their_end() -> None:
    noon = Cron(("0 12 * * *",))
    bounds = Bounds(start_at=instant("2026-03-02T12:00"), end_at=instant("2026-03-03T12:00"))

    def after(since: str) -> datetime | None:
        return next_within(noon, bounds, instant(since), anchor=ANCHOR, made=0)

    assert after("2026-01-01T00:00") == instant("2026-03-02T12:00")
    assert after("2026-03-02T12:00") == instant("2026-03-03T12:00")
    assert after("2026-03-03T12:00") is None


def test_bounds_and_anchors_in_the_repeated_hour_are_the_instants_that_are_meant() -> None:
    again = datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=NEW_YORK)
    first, hourly = again.replace(fold=0), Interval(3600)

    assert next_within(Interval(1800), Bounds(start_at=again), ANCHOR, anchor=ANCHOR, made=0) == again.astimezone(UTC)
    assert next_after(hourly, ANCHOR, anchor=first) == again.astimezone(UTC)
    assert latest_until(hourly, instant("2026-11-01T06:40"), anchor=first) == again.astimezone(UTC)


def test_bounds_end_a_rule_after_its_runs() -> None:
    noon, twice = Cron(("0 12 * * *",)), Bounds(max_runs=2)

    assert next_within(noon, twice, ANCHOR, anchor=ANCHOR, made=1) is not None
    assert next_within(noon, twice, ANCHOR, anchor=ANCHOR, made=2) is None


@given(instants, st.integers(1, 2**60), st.integers(1, 24 * 3600))
def test_jitter_is_below_its_bound_and_the_same_everywhere(tick: datetime, schedule: int, jitter: int) -> None:
    bounds = Bounds(jitter_seconds=jitter)
    due = bounds.due_at(tick, schedule)

    assert tick <= due < tick + timedelta(seconds=jitter)
    assert bounds.due_at(tick.astimezone(NEW_YORK), schedule) == due
    assert Bounds().due_at(tick, schedule) == tick


def test_jitter_is_real_time_where_clocks_change() -> None:
    """The last minute before the repeated hour, in the zone: its job is due within the jitter, not an hour later."""
    tick = datetime(2026, 11, 1, 1, 59, tzinfo=NEW_YORK)
    due = Bounds(jitter_seconds=24 * 3600).due_at(tick, 1)

    assert due == Bounds(jitter_seconds=24 * 3600).due_at(tick.astimezone(UTC), 1)
    assert due.tzinfo is UTC


def test_jitter_spreads_schedules_and_ticks() -> None:
    bounds = Bounds(jitter_seconds=100)
    days = [ANCHOR + n * DAY for n in range(30)]
    tenths = [(bounds.due_at(day, schedule) - day) // timedelta(seconds=10) for day in days for schedule in range(30)]

    assert min(tenths.count(tenth) for tenth in range(10)) > len(tenths) / 10 / 2
    assert bounds.due_at(ANCHOR, 1) == ANCHOR + timedelta(seconds=66, microseconds=858859)  # jobs made ahead hang on it


@pytest.mark.parametrize(
    ("rule", "tick", "note"),
    [
        (Cron(("30 2 * * *",), "America/New_York"), "2026-03-07T07:30", ""),
        (Interval(60), "2026-03-08T07:00", ""),
        (
            Cron(("30 2 * * *",), "America/New_York"),
            "2026-03-08T07:00",
            "02:30 does not exist that day (clocks go forward): runs when the gap ends",
        ),
        (
            Cron(("0,30 2 * * *", "*/5 * * * *"), "America/New_York"),
            "2026-03-08T07:00",
            "02:00 and 02:30 do not exist that day (clocks go forward): run when the gap ends",
        ),
        (
            Cron(("* 2 * * *",), "America/New_York"),
            "2026-03-08T07:00",
            "02:00 to 02:59 do not exist that day (clocks go forward): run when the gap ends",
        ),
        (
            Cron(("30 2 * * *",), "America/New_York", nonexistent="skip"),
            "2026-03-09T06:30",
            "02:30 does not exist on 2026-03-08 (clocks go forward): no run",
        ),
        (
            Cron(("30 1 * * *",), "America/New_York"),
            "2026-11-01T05:30",
            "01:30 occurs twice that day (clocks go back): runs the first time",
        ),
        (
            Cron(("30 1 * * *",), "America/New_York", ambiguous="last", seconds="20"),
            "2026-11-01T06:30:20",
            "01:30 occurs twice that day (clocks go back): runs the second time",
        ),
        (
            Cron(("30 * * * *",), "America/New_York"),
            "2026-11-01T06:30",
            "01:30 occurs twice that day (clocks go back): runs both times",
        ),
        (
            Cron(("0 0 * * *",), "Pacific/Apia"),
            "2011-12-30T10:00",
            "00:00 does not exist on 2011-12-30 (clocks go forward): runs when the gap ends",
        ),
    ],
)
def test_notes_tell_of_changes_of_clocks(rule: Rule, tick: str, note: str) -> None:
    assert recurrence.note(rule, instant(tick)) == note
