from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler import recurrence
from pg_scheduler._domain.rules import EVERY_SECONDS_MAX, Cron, Interval, Rule
from pg_scheduler._domain.walk import latest_until, next_after, ticks_until
from pg_scheduler.errors import InvalidSchedule

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
instants = st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
intervals = st.integers(1, EVERY_SECONDS_MAX).map(Interval)
crons = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 1 * *", "0 9 * * MON-FRI", "0 0 29 2 *", "@hourly"]
).map(lambda expression: Cron((expression,)))
rules = intervals | crons


@given(rules, instants)
def test_next_is_later_and_latest_is_not(rule: Rule, instant: datetime) -> None:
    following = next_after(rule, instant, anchor=ANCHOR)
    latest = latest_until(rule, instant, anchor=ANCHOR)

    assert following is not None
    assert following > instant
    assert latest is None or ANCHOR < latest <= instant


@given(rules, instants)
def test_nothing_lies_between_latest_and_next(rule: Rule, instant: datetime) -> None:
    latest = latest_until(rule, instant, anchor=ANCHOR)

    assert next_after(rule, latest or ANCHOR, anchor=ANCHOR) == next_after(rule, instant, anchor=ANCHOR)


@given(intervals, instants)
def test_interval_ticks_lie_on_the_grid_of_the_anchor(rule: Interval, instant: datetime) -> None:
    following = next_after(rule, instant, anchor=ANCHOR)

    assert following is not None
    assert (following - ANCHOR) % rule.every == timedelta(0)


@given(rules, instants, st.integers(0, 5))
def test_a_pass_makes_each_tick_once_and_in_order(rule: Rule, now: datetime, horizon: int) -> None:
    first = ticks_until(rule, anchor=ANCHOR, last=None, now=now, horizon=timedelta(seconds=horizon))
    again = ticks_until(
        rule, anchor=ANCHOR, last=max(first.at, default=None), now=now, horizon=timedelta(seconds=horizon)
    )

    assert list(first.at) == sorted(set(first.at))
    assert again.at == ()
    assert again.next_at == first.next_at
    assert sum(tick <= now for tick in first.at) <= 1


def test_a_year_of_downtime_owes_one_tick() -> None:
    now = ANCHOR + timedelta(days=365)

    ticks = ticks_until(Interval(1), anchor=ANCHOR, last=ANCHOR, now=now, horizon=timedelta(seconds=2))

    assert ticks.at == (now, now + timedelta(seconds=1), now + timedelta(seconds=2))


def test_a_tick_on_the_instant_itself_is_due() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)

    assert latest_until(Cron(("0 12 * * *",)), noon, anchor=ANCHOR) == noon
    assert latest_until(Cron(("0 12 * * *",)), noon - timedelta(microseconds=1), anchor=ANCHOR) == noon - timedelta(
        days=1
    )


def test_several_expressions_are_their_union() -> None:
    rule = Cron(("0 12 * * *", "30 11 * * *"))

    assert next_after(rule, ANCHOR, anchor=ANCHOR) == datetime(2026, 1, 1, 11, 30, tzinfo=UTC)
    assert latest_until(rule, datetime(2026, 1, 2, 11, 45, tzinfo=UTC), anchor=ANCHOR) == datetime(
        2026, 1, 2, 11, 30, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("expressions", "field", "words"),
    [
        (("0 25 * * *",), "cron[0]", "hour"),
        (("* * * * *", "60 * * * *"), "cron[1]", "minute"),
        (("0 0 31 4 *",), "cron[0]", "day"),
        (("0 0 30 2 *",), "cron[0]", "day"),
        (("* * * * * *",), "cron[0]", "five fields"),
        (("* * * *",), "cron[0]", "five fields"),
        (("@reboot",), "cron[0]", "five fields"),
        (("@every 5m",), "cron[0]", "five fields"),
        (("\uff11 * * * *",), "cron[0]", "ASCII"),
        (("*/0 * * * *",), "cron[0]", "minute"),
        (("0 0 * * MON#6",), "cron[0]", "day-of-week"),
        (("0," * 70 + "0 * * * *",), "cron[0]", "128"),
        ((), "cron", "1 to 16"),
        (("* * * * *",) * 17, "cron", "1 to 16"),
    ],
)
def test_refused_expressions_name_field_and_fix(expressions: tuple[str, ...], field: str, words: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        Cron(expressions)

    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("zone", "reason"),
    [
        ("Europe/Berlin", "ZoneNotYetServed"),
        ("Mars/Phobos", "InvalidSchedule"),
        ("", "InvalidSchedule"),
        ("../etc/passwd", "InvalidSchedule"),
        ("localtime", "InvalidSchedule"),
        ("utc", "InvalidSchedule"),
    ],
)
def test_zones_other_than_utc_are_refused(zone: str, reason: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        Cron(("0 0 * * *",), zone)

    assert (caught.value.field, caught.value.reason) == ("timeZone", reason)


@pytest.mark.parametrize("seconds", [0, -1, EVERY_SECONDS_MAX + 1, 1.5, True])
def test_refused_intervals_name_the_range(seconds: int) -> None:
    with pytest.raises(InvalidSchedule, match="1 to"):
        Interval(seconds)


def test_every_refuses_a_fraction_of_a_second() -> None:
    with pytest.raises(InvalidSchedule, match="whole number"):
        recurrence.every(timedelta(seconds=1.5))


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        (Interval(3), "every 3s"),
        (Interval(300), "every 5m"),
        (Interval(7200), "every 2h"),
        (Interval(86400), "every 1d"),
        (Cron(("30 2 * * *",)), "30 2 * * *"),
        (Cron(("30 2 * * *", "@daily")), "30 2 * * *; @daily"),
    ],
)
def test_rules_are_shown_as_they_are_written(rule: Rule, shown: str) -> None:
    assert recurrence.shown(rule) == shown


def test_rules_are_described_in_english() -> None:
    assert recurrence.describe(Cron(("30 2 * * *",))) == "At 02:30 every day, Etc/UTC"
    assert recurrence.describe(Interval(90)) == "Every 0:01:30"
