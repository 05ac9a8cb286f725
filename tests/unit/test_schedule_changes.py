"""What a definition changes on a schedule's row, decided without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pg_scheduler._domain.ledger import Passed
from pg_scheduler._domain.policies import Policy
from pg_scheduler._domain.rules import Bounds, Cron, Interval
from pg_scheduler._domain.schedules import (
    Grid,
    ScheduleDefinition,
    ScheduleKey,
    StoredSchedule,
    Template,
    changed,
    first_grid,
    is_changed,
    is_planned_otherwise,
    replanned,
    suspension,
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
    assert not is_changed(ROW, DEFINITION)


def test_a_lower_generation_changes_nothing() -> None:
    row = replace(ROW, definition=replace(DEFINITION, generation=3))

    assert not is_changed(row, replace(DEFINITION, generation=2, rule=Interval(5)))


def test_a_new_rule_sets_a_new_anchor_and_nothing_before_it_fires() -> None:
    grid = changed(ROW, replace(DEFINITION, generation=2, rule=Cron(("0 12 * * *",))), NOW).grid

    assert grid == Grid(
        anchor_at=NOW.replace(microsecond=0),
        last_tick_at=ROW.last_tick_at,
        next_tick_at=datetime(2026, 11, 25, 12, tzinfo=UTC),
    )


def test_resuming_sets_a_new_anchor() -> None:
    row = replace(ROW, definition=replace(DEFINITION, suspended=True), next_tick_at=None)

    grid = changed(row, replace(DEFINITION, generation=2), NOW).grid

    assert grid.anchor_at == NOW.replace(microsecond=0)
    assert grid.next_tick_at == NOW.replace(microsecond=0) + timedelta(seconds=60)


def test_suspending_keeps_the_anchor_and_plans_nothing() -> None:
    grid = changed(ROW, replace(DEFINITION, generation=2, suspended=True), NOW).grid

    assert grid == Grid(anchor_at=ANCHOR, last_tick_at=ROW.last_tick_at, next_tick_at=None)


def test_a_new_template_keeps_the_grid_and_plans_the_tick_ahead_again() -> None:
    ahead = replace(ROW, last_tick_at=ANCHOR + timedelta(minutes=61), next_tick_at=ANCHOR + timedelta(minutes=62))

    grid = changed(ahead, replace(DEFINITION, generation=2, template=replace(TEMPLATE, task="u")), NOW).grid

    assert grid == Grid(
        anchor_at=ANCHOR,
        last_tick_at=ANCHOR + timedelta(minutes=60),
        next_tick_at=ANCHOR + timedelta(minutes=61),
    )


def test_a_new_template_leaves_a_tick_that_is_late_to_the_ticker() -> None:
    late = replace(ROW, last_tick_at=ANCHOR + timedelta(minutes=59), next_tick_at=ANCHOR + timedelta(minutes=60))

    grid = changed(late, replace(DEFINITION, generation=2, template=replace(TEMPLATE, task="u")), NOW).grid

    assert grid.next_tick_at == late.next_tick_at


def test_a_retired_row_is_brought_back_by_the_same_definition() -> None:
    assert is_changed(replace(ROW, retired=True), DEFINITION)


def test_a_halted_row_stays_halted_until_it_is_changed_or_resumed() -> None:
    halted = replace(ROW, halted=True, next_tick_at=None)

    assert not is_changed(halted, DEFINITION)
    assert is_changed(halted, DEFINITION, resumes=True)
    assert is_changed(halted, replace(DEFINITION, generation=2))


def test_a_changed_bound_sets_a_new_anchor() -> None:
    grid = changed(ROW, replace(DEFINITION, generation=2, bounds=Bounds(jitter_seconds=5)), NOW).grid

    assert grid.anchor_at == NOW.replace(microsecond=0)


def test_a_changed_policy_keeps_the_anchor() -> None:
    grid = changed(ROW, replace(DEFINITION, generation=2, policy=Policy(missed="skip")), NOW).grid

    assert grid.anchor_at == ANCHOR


def test_what_was_planned_while_suspended_is_told_when_it_resumes() -> None:
    suspended = replace(ROW, definition=suspension(ROW, suspended=True, reason="stock-taking"), next_tick_at=None)
    later = NOW + timedelta(minutes=10)

    change = changed(suspended, suspension(suspended, suspended=False), later)

    assert change.passed == (
        Passed(
            outcome="skipped_suspended",
            first_at=ANCHOR + timedelta(minutes=61),
            last_at=ANCHOR + timedelta(minutes=70),
            ticks=10,
            reason="stock-taking",
        ),
    )
    assert change.grid.next_tick_at == later.replace(microsecond=0) + timedelta(minutes=1)


def test_suspending_tells_of_nothing_yet() -> None:
    assert changed(ROW, suspension(ROW, suspended=True), NOW + timedelta(hours=1)).passed == ()


def test_a_new_rule_tells_of_what_the_old_one_still_owed() -> None:
    (passed,) = changed(ROW, replace(DEFINITION, generation=2, rule=Interval(7)), NOW + timedelta(minutes=3)).passed

    assert (passed.outcome, passed.ticks) == ("missed", 3)


def test_a_schedule_that_has_had_its_last_run_owes_nothing() -> None:
    bounds = Bounds(max_runs=60)
    row = replace(ROW, definition=replace(DEFINITION, bounds=bounds), runs=60, next_tick_at=None)

    change = changed(row, replace(DEFINITION, generation=2, bounds=Bounds(max_runs=61)), NOW + timedelta(hours=1))

    assert change.passed == ()
    assert change.grid.next_tick_at is not None


def test_zone_data_that_plans_the_same_changes_nothing() -> None:
    assert not is_planned_otherwise(ROW)
    assert not is_planned_otherwise(replace(ROW, definition=replace(DEFINITION, suspended=True), next_tick_at=None))


def test_zone_data_that_plans_otherwise_moves_the_next_tick_and_keeps_the_anchor() -> None:
    row = replace(ROW, next_tick_at=ANCHOR + timedelta(minutes=62))

    assert is_planned_otherwise(row)
    assert replanned(row, NOW) == Grid(
        anchor_at=ANCHOR, last_tick_at=ROW.last_tick_at, next_tick_at=ANCHOR + timedelta(minutes=61)
    )
