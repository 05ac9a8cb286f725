"""Which ticks become jobs, and that each of the others is told of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._domain.policies import Missed, Policy
from pg_scheduler._domain.rules import Bounds, Cron, Interval, Rule
from pg_scheduler._domain.schedules import ScheduleDefinition, ScheduleKey, StoredSchedule, Template, first_grid
from pg_scheduler._domain.ticking import Plan, plan_ticks
from pg_scheduler._domain.walk import next_after

ANCHOR = datetime(2026, 10, 24, tzinfo=UTC)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
POLL = 5 * SECOND

rules = st.sampled_from(
    [
        Interval(1),
        Interval(7),
        Interval(3600),
        Cron(("*/20 2 * * *",), "Europe/Berlin"),
        Cron(("*/5 * * * *", "30 1-3 * * *"), "America/New_York", seconds="0,20,40", ambiguous="both"),
    ]
)
policies = st.builds(
    Policy,
    missed=st.sampled_from(["run_latest", "skip", "run_all"]),
    max_catch_up=st.integers(1, 9),
    starting_deadline_seconds=st.none() | st.integers(0, 900),
)
bounds = st.builds(
    Bounds,
    jitter_seconds=st.integers(0, 60),
    start_at=st.none() | st.just(ANCHOR + 3 * MINUTE),
    end_at=st.none() | st.just(ANCHOR + timedelta(days=2)),
    max_runs=st.none() | st.integers(1, 20),
)
steps = st.lists(st.integers(1, 4000).map(lambda seconds: seconds * SECOND), min_size=1, max_size=12)


def schedule(rule: Rule, policy: Policy | None = None, within: Bounds | None = None) -> StoredSchedule:
    definition = ScheduleDefinition(
        key=ScheduleKey(tenant="", kind="code", cluster="", uid="u"),
        name="n",
        generation=0,
        rule=rule,
        template=Template(task="t", job_name="t", payload="{}", queue="default", priority=5, max_retries=0),
        bounds=within or Bounds(),
        policy=policy or Policy(),
    )
    grid = first_grid(definition, ANCHOR)
    return StoredSchedule(
        id=1,
        definition=definition,
        anchor_at=ANCHOR,
        last_tick_at=None,
        next_tick_at=grid.next_tick_at,
        ticks=0,
    )


def after(row: StoredSchedule, plan: Plan) -> StoredSchedule:
    """The row as ``advance_schedules`` leaves it."""
    return replace(
        row,
        last_tick_at=plan.last_at or row.last_tick_at,
        last_run_tick_at=plan.ticks[-1].at if plan.ticks else row.last_run_tick_at,
        next_tick_at=plan.next_at,
        runs=row.runs + len(plan.ticks),
        ticks=row.ticks + len(plan.ticks) + sum(each.ticks for each in plan.passed),
    )


def planned(rule: Rule, within: Bounds, until: datetime) -> list[datetime]:
    """Every tick of the rule up to an instant, one by one."""
    found, tick = [], next_after(rule, ANCHOR, anchor=ANCHOR)
    while tick and tick <= until:
        found.append(tick)
        tick = next_after(rule, tick, anchor=ANCHOR)
    return [
        tick
        for tick in found
        if (within.start_at is None or tick >= within.start_at) and (within.end_at is None or tick <= within.end_at)
    ]


@given(rules, policies, bounds, steps)
def test_each_planned_tick_is_made_or_passed_and_none_twice(
    rule: Rule, policy: Policy, within: Bounds, pauses: list[timedelta]
) -> None:
    row, now, made = schedule(rule, policy, within), ANCHOR, []
    told = 0
    for pause in pauses:
        now += pause
        plan = plan_ticks(row, now, POLL)
        made += [tick.at for tick in plan.ticks]
        told += sum(each.ticks for each in plan.passed)
        row = after(row, plan)

    assert made == sorted(set(made))
    expected = planned(rule, within, row.last_tick_at or ANCHOR)
    assert set(made) <= set(expected)
    assert len(made) + told == len(expected) == row.ticks
    if row.runs_left != 0:
        assert row.next_tick_at == next(
            (tick for tick in planned(rule, within, now + timedelta(days=2)) if tick > (row.last_tick_at or ANCHOR)),
            None,
        ) or (row.next_tick_at is not None and row.next_tick_at > now + timedelta(days=2))


@given(rules, policies, bounds, steps)
def test_no_run_starts_before_its_tick_or_after_its_deadline(
    rule: Rule, policy: Policy, within: Bounds, pauses: list[timedelta]
) -> None:
    row, now = schedule(rule, policy, within), ANCHOR
    for pause in pauses:
        now += pause
        plan = plan_ticks(row, now, POLL)
        late = [tick for tick in plan.ticks if tick.at <= now]
        assert all(tick.at <= tick.due_at <= tick.at + within.jitter_seconds * SECOND for tick in plan.ticks)
        if policy.starting_deadline_seconds is not None:
            assert all(now - tick.at <= policy.starting_deadline_seconds * SECOND for tick in late)
        assert len(late) <= (policy.max_catch_up if policy.missed == "run_all" else 1)
        row = after(row, plan)
    assert within.max_runs is None or row.runs <= within.max_runs


@pytest.mark.parametrize(
    ("missed", "runs", "passed"),
    [("skip", 0, [("missed", 4320)]), ("run_latest", 1, [("coalesced", 4319)]), ("run_all", 25, [("missed", 4295)])],
)
def test_three_days_of_downtime_every_minute(missed: Missed, runs: int, passed: list[tuple[str, int]]) -> None:
    row = schedule(Cron(("* * * * *",)), Policy(missed=missed, max_catch_up=25))

    plan = plan_ticks(row, ANCHOR + timedelta(days=3, seconds=30), timedelta(0))

    assert len(plan.ticks) == runs
    assert [(each.outcome, each.ticks) for each in plan.passed] == passed
    assert plan.next_at == ANCHOR + timedelta(days=3) + MINUTE


def test_a_tick_is_not_missed_at_its_very_instant() -> None:
    row = schedule(Interval(60), Policy(missed="skip"))

    plan = plan_ticks(row, ANCHOR + MINUTE, timedelta(0))

    assert [tick.at for tick in plan.ticks] == [ANCHOR + MINUTE]
    assert plan.passed == ()


def test_deadline_splits_what_was_missed_from_what_one_run_stands_for() -> None:
    row = schedule(Interval(60), Policy(starting_deadline_seconds=300))

    plan = plan_ticks(row, ANCHOR + timedelta(hours=1), timedelta(0))

    assert [tick.at for tick in plan.ticks] == [ANCHOR + timedelta(hours=1)]
    assert [(each.outcome, each.ticks) for each in plan.passed] == [("missed", 54), ("coalesced", 5)]


def test_a_skipped_tick_runs_late_within_a_deadline() -> None:
    row = schedule(Interval(60), Policy(missed="skip", starting_deadline_seconds=30))

    plan = plan_ticks(row, ANCHOR + timedelta(hours=1, seconds=20), timedelta(0))

    assert [tick.at for tick in plan.ticks] == [ANCHOR + timedelta(hours=1)]


def test_the_last_run_ends_a_schedule() -> None:
    row = replace(schedule(Interval(60), Policy(missed="run_all"), Bounds(max_runs=7)), runs=5)

    plan = plan_ticks(row, ANCHOR + timedelta(hours=1), timedelta(0))

    assert [tick.at for tick in plan.ticks] == [ANCHOR + 59 * MINUTE, ANCHOR + 60 * MINUTE]
    assert plan.next_at is None


def test_a_tick_knows_the_one_before_it_that_had_a_run() -> None:
    row = replace(schedule(Interval(1)), last_run_tick_at=ANCHOR, last_tick_at=ANCHOR + 2 * SECOND)

    plan = plan_ticks(row, ANCHOR + 10 * SECOND, 2 * SECOND)

    assert [tick.previous_at for tick in plan.ticks] == [ANCHOR, ANCHOR + 10 * SECOND, ANCHOR + 11 * SECOND]


def test_ticks_of_a_change_of_clocks_run_once() -> None:
    row = replace(schedule(Cron(("30 2 * * *",), "Europe/Berlin")), anchor_at=datetime(2026, 10, 25, tzinfo=UTC))

    plan = plan_ticks(row, datetime(2026, 10, 25, 0, 29, tzinfo=UTC), timedelta(hours=23))

    assert [tick.at for tick in plan.ticks] == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]
