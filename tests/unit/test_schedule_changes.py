"""What a definition changes on a schedule's row, decided without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pg_scheduler._domain.rules import Cron, Interval
from pg_scheduler._domain.schedules import (
    Grid,
    ScheduleDefinition,
    ScheduleKey,
    StoredSchedule,
    Template,
    changed_grid,
    first_grid,
)

NOW = datetime(2026, 11, 24, 12, 0, 30, 250_000, tzinfo=UTC)
ANCHOR = datetime(2026, 11, 24, 11, 0, tzinfo=UTC)
TEMPLATE = Template(task="t", job_name="t", payload="{}", queue="default", priority=5, max_retries=0)
DEFINITION = ScheduleDefinition(
    key=ScheduleKey(tenant="a", kind="PeriodicJob", cluster="c", uid="u"),
    name="n",
    generation=1,
    rule=Interval(60),
    template=TEMPLATE,
)
ROW = StoredSchedule(
    id=1,
    definition=DEFINITION,
    anchor_at=ANCHOR,
    last_tick_at=ANCHOR + timedelta(minutes=60),
    next_tick_at=ANCHOR + timedelta(minutes=61),
    ticks=60,
)


def test_a_new_schedule_is_anchored_at_the_whole_second() -> None:
    assert first_grid(DEFINITION, NOW) == Grid(
        anchor_at=datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC),
        last_tick_at=None,
        next_tick_at=datetime(2026, 11, 24, 12, 1, 30, tzinfo=UTC),
    )


def test_a_suspended_schedule_plans_nothing() -> None:
    assert first_grid(replace(DEFINITION, suspended=True), NOW).next_tick_at is None
    assert first_grid(replace(DEFINITION, enabled=False), NOW).next_tick_at is None


def test_the_same_definition_changes_nothing() -> None:
    assert changed_grid(ROW, DEFINITION, NOW) is None


def test_a_lower_generation_changes_nothing() -> None:
    row = replace(ROW, definition=replace(DEFINITION, generation=3))

    assert changed_grid(row, replace(DEFINITION, generation=2, rule=Interval(5)), NOW) is None


def test_a_new_rule_sets_a_new_anchor_and_nothing_before_it_fires() -> None:
    grid = changed_grid(ROW, replace(DEFINITION, generation=2, rule=Cron(("0 12 * * *",))), NOW)

    assert grid == Grid(
        anchor_at=NOW.replace(microsecond=0),
        last_tick_at=ROW.last_tick_at,
        next_tick_at=datetime(2026, 11, 25, 12, tzinfo=UTC),
    )


def test_resuming_sets_a_new_anchor() -> None:
    row = replace(ROW, definition=replace(DEFINITION, suspended=True), next_tick_at=None)

    grid = changed_grid(row, replace(DEFINITION, generation=2), NOW)

    assert grid is not None
    assert grid.anchor_at == NOW.replace(microsecond=0)
    assert grid.next_tick_at == NOW.replace(microsecond=0) + timedelta(seconds=60)


def test_suspending_keeps_the_anchor_and_plans_nothing() -> None:
    grid = changed_grid(ROW, replace(DEFINITION, generation=2, suspended=True), NOW)

    assert grid == Grid(anchor_at=ANCHOR, last_tick_at=ROW.last_tick_at, next_tick_at=None)


def test_a_new_template_keeps_the_grid_and_plans_the_tick_ahead_again() -> None:
    ahead = replace(ROW, last_tick_at=ANCHOR + timedelta(minutes=61), next_tick_at=ANCHOR + timedelta(minutes=62))

    grid = changed_grid(ahead, replace(DEFINITION, generation=2, template=replace(TEMPLATE, task="u")), NOW)

    assert grid == Grid(
        anchor_at=ANCHOR,
        last_tick_at=ANCHOR + timedelta(minutes=60),
        next_tick_at=ANCHOR + timedelta(minutes=61),
    )


def test_a_new_template_leaves_a_tick_that_is_late_to_the_ticker() -> None:
    late = replace(ROW, last_tick_at=ANCHOR + timedelta(minutes=59), next_tick_at=ANCHOR + timedelta(minutes=60))

    grid = changed_grid(late, replace(DEFINITION, generation=2, template=replace(TEMPLATE, task="u")), NOW)

    assert grid is not None
    assert grid.next_tick_at == late.next_tick_at
