"""When a PeriodicJob ticks, as the plugin tells it and as backfill takes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler.errors import InvalidArgument
from pg_scheduler.recurrence import Interval, next_after
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.plugin.ticks import records, ticks_between, upcoming
from support.live_objects import conditions, pjob

if TYPE_CHECKING:
    from collections.abc import Sequence

    Body = dict[str, Any]

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EVERY_HOUR = {"schedule": {"intervalSeconds": 3600}}
FIVE = [f"2026-11-24T{hour}:17:05+00:00" for hour in range(13, 18)]


def at(*hours: float, day: datetime = NOW) -> list[datetime]:
    midnight = day.replace(hour=0)
    return [midnight + timedelta(hours=hour) for hour in hours]


def test_cron_ticks_by_its_spec_alone() -> None:
    body = pjob(observedGeneration=None, nextScheduleTimes=[])

    found = upcoming(body, count=2, now=NOW)

    assert found.ticks == at(26, 50)
    assert found.remarks == ["the operator has not taken over this spec yet"]


def test_interval_ticks_on_the_grid_that_the_status_tells() -> None:
    found = upcoming(pjob(spec=EVERY_HOUR, nextScheduleTimes=FIVE), count=7, now=NOW)

    assert [f"{tick:%d %H:%M:%S}" for tick in found.ticks[-3:]] == ["24 17:17:05", "24 18:17:05", "24 19:17:05"]
    assert found.remarks == []


def test_tick_that_has_passed_since_the_status_was_written_is_left_out() -> None:
    body = pjob(spec=EVERY_HOUR, nextScheduleTimes=FIVE)

    found = upcoming(body, count=5, now=datetime.fromisoformat(FIVE[0]))

    assert found.ticks[:4] == [datetime.fromisoformat(text) for text in FIVE[1:]]
    assert len(found.ticks) == 5


def test_interval_of_an_edited_spec_leaves_the_old_grid() -> None:
    body = pjob(spec=EVERY_HOUR, observedGeneration=2, nextScheduleTimes=FIVE)

    assert upcoming(body, count=1, now=NOW).ticks == at(13)


@pytest.mark.parametrize(
    ("changed", "remark"),
    [
        (
            {"spec": EVERY_HOUR, "observedGeneration": 2},
            "not taken over this spec yet; an interval is counted from now",
        ),
        ({"spec": {**EVERY_HOUR, "suspend": True}}, "it is suspended: none of these ticks fires until it is resumed"),
        ({"conditions": conditions(Suspended=(True, "SuspendedAfterFailures"))}, "its runs have failed too often"),
        (
            {"conditions": conditions(Stalled=(True, "InvalidSpec", "x"))},
            "the last good schedule ticks (InvalidSpec: x)",
        ),
        ({"conditions": conditions(Exhausted=(True, "EndTimePassed"))}, "it ticks no more (EndTimePassed)"),
        ({"spec": {"maxRuns": 9}}, "only the ticks that the operator tells are listed"),
    ],
)
def test_what_stands_in_the_way_is_remarked(changed: Body, remark: str) -> None:
    remarks = upcoming(pjob(**changed), count=2, now=NOW).remarks

    assert any(remark in each for each in remarks), remarks


def test_ticks_of_a_schedule_that_ends_are_those_of_its_status() -> None:
    body = pjob(spec={"maxRuns": 100}, nextScheduleTimes=["2026-11-25T02:00:00+00:00"])

    assert upcoming(body, count=5, now=NOW).ticks == at(26)
    assert upcoming(body, count=5, now=NOW + timedelta(days=1)).ticks == []


def test_end_time_ends_the_ticks() -> None:
    schedule = {"cron": ["0 2 * * *"], "endTime": "2026-11-26T02:00:00Z"}

    assert upcoming(pjob(spec={"schedule": schedule}, nextScheduleTimes=[]), count=5, now=NOW).ticks == at(26, 50)


def test_record_has_the_zone_and_what_the_clocks_do() -> None:
    schedule = {"cron": ["30 2 * * *"], "timeZone": "America/New_York"}
    body = pjob(spec={"schedule": schedule}, nextScheduleTimes=[])

    (record,) = records(upcoming(body, count=1, now=datetime(2026, 3, 8, tzinfo=UTC)))

    assert record["local"] == "2026-03-08T03:00:00-04:00"
    assert record["at"] == "2026-03-08T07:00:00Z"
    assert record["note"].startswith("02:30 does not exist that day")


def test_ticks_between_hold_the_first_instant_and_not_the_last() -> None:
    found = ticks_between(pjob(), *at(2, 50), most=10)

    assert found == at(2, 26)


def test_ticks_between_keep_to_the_bounds_of_the_schedule() -> None:
    schedule = {"cron": ["0 2 * * *"], "startTime": "2026-11-25T00:00:00Z"}

    assert ticks_between(pjob(spec={"schedule": schedule}), *at(0, 72), most=10) == at(26, 50)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (pjob(), "more than 3 ticks"),
        (pjob(spec=EVERY_HOUR, nextScheduleTimes=[]), "nobody knows the grid of this interval"),
        (pjob(spec=EVERY_HOUR, observedGeneration=2), "nobody knows the grid of this interval"),
    ],
)
def test_ticks_between_refuse_what_cannot_be_told(body: Body, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        ticks_between(body, *at(0, 240), most=3)


def test_spec_that_is_no_schedule_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidSpec) as refused:
        upcoming(pjob(spec={"schedule": {"cron": ["0 25 * * *"]}}), count=1, now=NOW)

    assert refused.value.field == "spec.schedule.cron[0]"


@given(
    every=st.integers(1, 90_000),
    phase=st.integers(0, 90_000),
    since=st.integers(-400_000, 400_000),
    steps=st.integers(1, 50),
    later=st.integers(1, 50),
)
def test_backfill_of_an_interval_lies_on_the_grid_of_its_ticks(
    every: int, phase: int, since: int, steps: int, later: int
) -> None:
    rule = Interval(every, phase % every)
    tick = next_after(rule, NOW + rule.elapsed(later), anchor=NOW)
    assert tick is not None
    schedule = {"intervalSeconds": every, "phaseSeconds": phase % every}
    body = pjob(spec={"schedule": schedule}, nextScheduleTimes=[tick.isoformat()])
    begins = NOW + timedelta(seconds=since)

    found = ticks_between(body, begins, begins + steps * rule.every, most=steps)

    assert len(found) == steps
    assert begins <= found[0] < begins + rule.every
    assert all((tick - each) % rule.every == timedelta(0) for each in found)


@given(count=st.integers(1, 12), told=st.integers(1, 5), hours=st.integers(1, 30))
def test_upcoming_continues_what_the_status_tells(count: int, told: int, hours: int) -> None:
    times: Sequence[datetime] = [NOW + timedelta(hours=hours * n, minutes=7) for n in range(1, told + 1)]
    body = pjob(
        spec={"schedule": {"intervalSeconds": 3600 * hours}}, nextScheduleTimes=[time.isoformat() for time in times]
    )

    found = upcoming(body, count=count, now=NOW).ticks

    assert found[:told] == times[:count]
    assert len(found) == (count if told == 5 else min(count, told))
