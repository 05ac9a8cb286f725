"""Ticks in great numbers are the steps of ``next_after``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_scheduler._domain import zones
from pg_scheduler._domain.rules import Ambiguous, Cron, Interval, Rule
from pg_scheduler._domain.stride import ticks_after
from pg_scheduler._domain.walk import next_after

EVER = datetime(2000, 1, 1, tzinfo=UTC)
ODD_ZONES = (
    "Etc/UTC",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/Santiago",
    "Pacific/Apia",
    "America/Caracas",
    "Atlantic/Azores",
    "America/St_Johns",
)
EXPRESSIONS = ("* * * * *", "*/7 * * * *", "0-59/20 0-3 * * *", "30 1,2 * * *", "0 0 * * *", "*/20 0-23 * * SAT,SUN")


def steps(rule: Rule, instant: datetime, anchor: datetime, n: int) -> list[datetime]:
    found: list[datetime] = []
    tick = next_after(rule, instant, anchor=anchor)
    while tick and len(found) < n:
        found.append(tick)
        tick = next_after(rule, tick, anchor=anchor)
    return found


changes = [
    change.at
    for zone in ODD_ZONES
    for year in (2010, 2011, 2016, 2026)
    for change in zones.changes_in(zones.zone(zone), year)
]
rules = st.builds(
    Cron,
    st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=3, unique=True).map(tuple),
    st.sampled_from(ODD_ZONES),
    st.sampled_from(("0", "0,20,40")),
    st.sampled_from(("shift_forward", "skip")),
    st.sampled_from(("first", "last", "both")),
)
near_changes = st.builds(
    lambda at, hours: at + timedelta(hours=hours),
    st.sampled_from(changes),
    st.floats(-40, 30).map(lambda h: round(h, 2)),
)


@settings(max_examples=30, deadline=None)
@given(rules, near_changes)
def test_strides_over_a_change_of_clocks_take_every_step(rule: Rule, instant: datetime) -> None:
    assert list(islice(ticks_after(rule, instant, anchor=EVER), 400)) == steps(rule, instant, EVER, 400)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200_000), st.integers(0, 400_000))
def test_strides_of_an_interval_take_every_step(every_seconds: int, later: int) -> None:
    instant = EVER + timedelta(seconds=later)

    found = list(islice(ticks_after(Interval(every_seconds), instant, anchor=EVER), 300))

    assert found == steps(Interval(every_seconds), instant, EVER, 300)


@pytest.mark.parametrize("rule", [Cron(("*/20 * * * *",), "Pacific/Apia"), Interval(3600)])
def test_strides_end_where_steps_do(rule: Rule) -> None:
    instant = datetime(9998, 12, 30, tzinfo=UTC)

    assert list(ticks_after(rule, instant, anchor=instant)) == steps(rule, instant, instant, 1000)


@pytest.mark.parametrize("ambiguous", ["first", "last", "both"])
def test_an_evening_that_comes_again_after_midnight_is_walked(ambiguous: Ambiguous) -> None:
    rule = Cron(("*/10 1-23 * * *",), "America/St_Johns", ambiguous=ambiguous)  # at 00:01 it was 23:01 again
    instant = datetime(2010, 11, 6, 10, tzinfo=UTC)

    assert list(islice(ticks_after(rule, instant, anchor=EVER), 300)) == steps(rule, instant, EVER, 300)
