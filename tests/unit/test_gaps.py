"""How close ticks come, held against a walk from tick to tick."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pg_scheduler._domain.gaps import shortest_gap_seconds
from pg_scheduler._domain.rules import Cron, Interval
from pg_scheduler._domain.walk import next_after

if TYPE_CHECKING:
    from collections.abc import Iterator

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
FIELD = {
    "minute": st.sampled_from(["0", "59", "7,30", "57-59"]),
    "hour": st.sampled_from(["0", "23", "0,23", "*/12"]),
    "weekday": st.sampled_from(["*", "MON", "MON,TUE", "FRI,SUN"]),
}
EXPRESSIONS = st.builds("{minute} {hour} * * {weekday}".format, **FIELD)
RULES = st.builds(
    lambda expressions, seconds: Cron(tuple(expressions), seconds=seconds),
    st.lists(EXPRESSIONS, min_size=1, max_size=2),
    st.sampled_from(["0", "0,59", "5,30"]),
)


def ticks(rule: Cron, days: int) -> Iterator[datetime]:
    tick = next_after(rule, MONDAY, anchor=MONDAY)
    while tick is not None and (tick - MONDAY).days < days:
        yield tick
        tick = next_after(rule, tick, anchor=MONDAY)


@settings(max_examples=25)
@given(RULES)
@example(Cron(("59 23 * * MON", "0 0 * * TUE")))
@example(Cron(("59 23 * * SUN", "0 0 * * MON"), seconds="0,59"))
def test_shortest_gap_is_that_of_a_walk_through_two_weeks(rule: Cron) -> None:
    walked = [int((later - earlier).total_seconds()) for earlier, later in pairwise(ticks(rule, 15))]

    assert shortest_gap_seconds(rule) == min([86400, *walked])


@pytest.mark.parametrize(
    ("expressions", "seconds"),
    [
        (("30 2 * * *",), 86400),
        (("0 0 29 2 *", "1 0 29 2 *"), 60),
        (("0 0 1 1 *", "55 23 31 12 *"), 300),
        (("0 0 1 * *", "30 0 2 * *"), 86400),
        (("0 0 L * *", "0 1 29 2 *"), 3600),
        (("0 12 * * FRI#2", "5 12 13 * *"), 300),
    ],
)
def test_days_that_seldom_meet_are_seen(expressions: tuple[str, ...], seconds: int) -> None:
    assert shortest_gap_seconds(Cron(expressions)) == seconds


def test_an_interval_is_its_own_gap() -> None:
    assert shortest_gap_seconds(Interval(90_000, 5)) == 90_000


def test_a_change_of_clocks_is_no_measure() -> None:
    rule = Cron(("30 1,2 * * *",), time_zone="America/New_York", ambiguous="both")

    assert shortest_gap_seconds(rule) == 3600
