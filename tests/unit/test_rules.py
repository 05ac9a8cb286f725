from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler import recurrence
from pg_scheduler._domain.rules import EVERY_SECONDS_MAX, Bounds, Cron, Interval, Rule
from pg_scheduler._domain.walk import latest_until, next_after, ticks_until
from pg_scheduler.errors import InvalidSchedule
from support.schedules_proof import EXPRESSIONS

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
instants = st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
intervals = st.integers(1, EVERY_SECONDS_MAX).flatmap(
    lambda every: st.builds(Interval, st.just(every), st.just(0) | st.integers(0, every - 1))
)
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
    assert (following - ANCHOR) % rule.every == timedelta(seconds=rule.phase_seconds)


@given(intervals)
def test_first_tick_of_an_interval_is_its_phase_or_else_itself_after_the_anchor(rule: Interval) -> None:
    first = timedelta(seconds=rule.phase_seconds or rule.every_seconds)

    assert next_after(rule, ANCHOR, anchor=ANCHOR) == ANCHOR + first
    assert latest_until(rule, ANCHOR + first, anchor=ANCHOR) == ANCHOR + first
    assert latest_until(rule, ANCHOR + first - timedelta(microseconds=1), anchor=ANCHOR) is None


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


@pytest.mark.parametrize("expressions", [(), ("* * * * *",) * 17])
def test_number_of_expressions_is_bounded(expressions: tuple[str, ...]) -> None:
    with pytest.raises(InvalidSchedule, match="1 to 16") as caught:
        Cron(expressions)

    assert caught.value.field == "cron"


@pytest.mark.parametrize(
    ("choice", "field", "words"),
    [
        ({"seconds": "60"}, "seconds", "second '60': it is not within 0 to 59"),
        ({"seconds": ""}, "seconds", "second ''"),
        ({"seconds": 5}, "seconds", 'such as "0,20,40"'),
        ({"seconds": "0," * 99 + "0"}, "seconds", 'such as "0,20,40"'),
        ({"nonexistent": "shift"}, "nonexistent", "shift_forward, skip"),
        ({"ambiguous": None}, "ambiguous", "first, last, both"),
    ],
)
def test_refused_choices_name_field_and_values(choice: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidSchedule, match=words) as caught:
        Cron(("0 0 * * *",), **choice)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("bounds", "field", "words"),
    [
        ({"jitter_seconds": -1}, "jitterSeconds", "from 0 to 86400"),
        ({"jitter_seconds": 86_401}, "jitterSeconds", "from 0 to 86400"),
        ({"jitter_seconds": 1.5}, "jitterSeconds", "whole number"),
        ({"max_runs": 0}, "maxRuns", "from 1 to"),
        ({"max_runs": True}, "maxRuns", "from 1 to"),
        ({"start_at": ANCHOR.replace(tzinfo=None)}, "startAt", "no time zone"),
        ({"start_at": ANCHOR, "end_at": ANCHOR - timedelta(days=1)}, "endAt", "before the start"),
    ],
)
def test_refused_bounds_name_field_and_range(bounds: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidSchedule, match=words) as caught:
        Bounds(**bounds)

    assert caught.value.field == field


@pytest.mark.parametrize("seconds", [0, -1, EVERY_SECONDS_MAX + 1, 1.5, True])
def test_refused_intervals_name_the_range(seconds: int) -> None:
    with pytest.raises(InvalidSchedule, match="1 to 3155760000") as caught:
        Interval(seconds)

    assert caught.value.field == "intervalSeconds"


@pytest.mark.parametrize("seconds", [10**9, EVERY_SECONDS_MAX])
def test_intervals_of_decades_tick(seconds: int) -> None:
    assert next_after(Interval(seconds), ANCHOR, anchor=ANCHOR) == ANCHOR + timedelta(seconds=seconds)


@pytest.mark.parametrize("phase", [-1, 60, 1.5, True, None])
def test_refused_phases_name_the_range(phase: int) -> None:
    with pytest.raises(InvalidSchedule, match="0 to 59") as caught:
        Interval(60, phase)

    assert caught.value.field == "phaseSeconds"


def test_every_takes_a_phase() -> None:
    assert recurrence.every(timedelta(hours=1), timedelta(minutes=5)) == Interval(3600, 300)
    assert recurrence.every(timedelta(hours=1)) == Interval(3600)


@pytest.mark.parametrize(
    ("interval", "phase", "field", "words"),
    [
        (timedelta(seconds=1.5), timedelta(0), "every", "whole number"),
        (60, timedelta(0), "every", "an interval that is a int"),
        (timedelta(minutes=1), timedelta(seconds=0.5), "phase", "whole number"),
        (timedelta(minutes=1), 5, "phase", "a phase that is a int"),
        (timedelta(minutes=1), timedelta(minutes=1), "phaseSeconds", "0 to 59"),
    ],
)
def test_refused_durations_name_field_and_fix(interval: Any, phase: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidSchedule, match=words) as caught:
        recurrence.every(interval, phase)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        (Interval(3), "every 3s"),
        (Interval(300), "every 5m"),
        (Interval(7200), "every 2h"),
        (Interval(86400), "every 1d"),
        (Interval(900, 300), "every 15m +5m"),
        (Interval(3600, 90), "every 1h +90s"),
        (Cron(("30 2 * * *",)), "30 2 * * *"),
        (Cron(("30 2 * * *", "@daily")), "30 2 * * *; @daily"),
    ],
)
def test_rules_are_shown_as_they_are_written(rule: Rule, shown: str) -> None:
    assert recurrence.shown(rule) == shown


@pytest.mark.parametrize(
    ("rule", "english"),
    [
        (Interval(1), "Every second"),
        (Interval(90), "Every 90 seconds"),
        (Interval(300), "Every 5 minutes"),
        (Interval(86400), "Every day"),
        (Interval(900, 300), "Every 15 minutes, offset by 5 minutes"),
        (Interval(86400, 3600), "Every day, offset by 1 hour"),
        (Cron(("30 2 * * *",), "America/New_York"), "At 02:30 every day, America/New_York"),
        (Cron(("@daily",)), "At 00:00 every day, Etc/UTC"),
        (
            Cron(("30 2 * * *", "0 0 1 * *")),
            "At 02:30 every day, and at 00:00 on the first day of every month, Etc/UTC",
        ),
        (Cron(("30 2 * * *",), seconds="0,20"), "At 02:30:00 and 02:30:20 every day, Etc/UTC"),
        (Cron(("0 9 * * FRI-SUN",)), "At 09:00 on Friday through Sunday, Etc/UTC"),
        (
            Cron(("0 9 * * mon/2,7#1",), "GB"),
            "At 09:00 on every second day of week from Monday through Saturday and the first Sunday of the month, GB",
        ),
    ],
)
def test_rules_are_described_in_english(rule: Rule, english: str) -> None:
    assert recurrence.describe(rule) == english


@pytest.mark.parametrize("expression", [*EXPRESSIONS, "0 0 L,15 * *", "0 0 * * 7/2,5L", "*/60 */24 */31 */12 */7"])
def test_every_rule_has_words(expression: str) -> None:
    assert recurrence.describe(Cron((expression,), seconds="*/7")).endswith(", Etc/UTC")


@pytest.mark.parametrize(
    ("expression", "differs"),
    [
        ("0 0 */2 * FRI", True),
        ("0 0 1 * */2", True),
        ("0 0 */2 * */3", True),
        ("0 0 */2 * *", False),
        ("0 0 */1 * FRI", False),
        ("0 0 13 * FRI", False),
        ("@weekly", False),
    ],
)
def test_hint_tells_where_a_kubernetes_cron_job_differs(expression: str, differs: bool) -> None:
    assert ("Kubernetes CronJob" in recurrence.kubernetes_hint(expression)) is differs
