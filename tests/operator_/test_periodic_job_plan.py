from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pg_scheduler.job_status import JobStatus
from pg_scheduler.recurrence import Cron, Interval
from pg_scheduler_operator.reconcile.actions import (
    Action,
    AddFinalizer,
    DeleteSchedule,
    EmitEvent,
    RemoveFinalizer,
    SetStatus,
    UpsertSchedule,
)
from pg_scheduler_operator.reconcile.periodic_job import plan
from pg_scheduler_operator.resources import Kind, PeriodicJobSpec, Resource, read
from pg_scheduler_operator.status import Reason
from support.operator_world import NOW, body, job_row, periodic_job, schedule_row

DELETING: dict[str, Any] = {"deletionTimestamp": "2026-11-24T12:00:00Z"}


def job(spec: Any = None, *, status: dict[str, Any] | None = None, **metadata: Any) -> Resource[PeriodicJobSpec]:
    made = body(Kind.PERIODIC_JOB, periodic_job() if spec is None else spec, status=status, **metadata)
    return read(PeriodicJobSpec, made, cluster="default")


def cron(*expressions: str, **schedule: Any) -> dict[str, Any]:
    return periodic_job(schedule={"cron": list(expressions), **schedule})


def kinds(actions: list[Action]) -> list[type[Action]]:
    return [type(action) for action in actions]


def told(actions: list[Action]) -> dict[str, Any]:
    (written,) = [action for action in actions if isinstance(action, SetStatus)]
    return dict(written.desired)


def verdicts(actions: list[Action]) -> dict[str, str]:
    return {
        condition["type"]: f"{condition['status']}/{condition['reason']}" for condition in told(actions)["conditions"]
    }


def test_new_schedule_is_held_before_its_row_is_made() -> None:
    assert kinds(plan(job(finalizers=[]), None, now=NOW)) == [AddFinalizer, UpsertSchedule]


def test_finalizer_taken_off_by_hand_is_put_back() -> None:
    assert AddFinalizer in kinds(plan(job(finalizers=[]), schedule_row(), now=NOW))


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (periodic_job(), Interval(3600)),
        (cron("0 2 * * *", "30 2 * * *"), Cron(("0 2 * * *", "30 2 * * *"), "Etc/UTC")),
        (cron("0 2 * * *", timeZone="Europe/Berlin"), Cron(("0 2 * * *",), "Europe/Berlin")),
    ],
)
def test_wish_holds_the_rule(spec: dict[str, Any], rule: Interval | Cron) -> None:
    (action,) = plan(job({**spec, "suspend": True}, generation=3), schedule_row(generation=2), now=NOW)

    assert isinstance(action, UpsertSchedule)
    assert (action.desired.rule, action.desired.suspended, action.desired.source.generation) == (rule, True, 3)


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        (cron("0 25 * * *"), "InvalidSchedule", "spec.schedule.cron[0]"),
        (cron("0 2 * * *", "0 0 30 2 *"), "InvalidSchedule", "spec.schedule.cron[1]"),
        (cron("* * * * * *"), "InvalidSchedule", "spec.schedule.cron[0]"),
        (cron("0 2 * * *", timeZone="Mars/Phobos"), "InvalidSchedule", "spec.schedule.timeZone"),
        (periodic_job(schedule={}), "InvalidSpec", "spec.schedule"),
    ],
)
def test_rule_that_cannot_be_used_names_its_field(spec: dict[str, Any], reason: str, field: str) -> None:
    actions = plan(job(spec), None, now=NOW)

    assert kinds(actions) == [EmitEvent, SetStatus]
    assert verdicts(actions)["Ready"] == f"False/{reason}"
    assert verdicts(actions)["Stalled"] == f"True/{reason}"
    assert field in told(actions)["conditions"][0]["message"]


def test_next_time_is_told_in_the_zone_of_the_rule() -> None:
    row = schedule_row(generation=1, rule=Cron(("0 14 * * *",), "Europe/Berlin"))

    assert told(plan(job(), row, now=NOW))["nextScheduleTimes"] == ["2026-11-24T14:00:00+01:00"]


def test_rule_that_cannot_be_used_leaves_the_last_good_schedule_running() -> None:
    row = schedule_row(generation=1, rule=Cron(("0 2 * * *",)))

    actions = plan(job(cron("0 25 * * *"), generation=2), row, now=NOW)

    assert kinds(actions) == [EmitEvent, SetStatus]
    assert told(actions)["schedule"] == "0 2 * * *"
    assert told(actions)["nextScheduleTimes"] == ["2026-11-24T13:00:00+00:00"]
    assert told(actions)["observedGeneration"] == 2


def test_last_tick_is_still_known_when_its_job_has_been_cleaned_up() -> None:
    live = {"lastScheduleTime": "2026-11-23T12:00:00Z"}

    assert told(plan(job(status=live), schedule_row(), now=NOW))["lastScheduleTime"] == "2026-11-23T12:00:00Z"


def test_rule_that_never_was_good_is_shown_as_asked() -> None:
    assert told(plan(job(cron("0 25 * * *")), None, now=NOW))["schedule"] == "0 25 * * *"


def test_status_shows_rule_ticks_and_newest_run() -> None:
    last = job_row(JobStatus.FAILED, job_id="pj-1", source=None, error_type="KeyError", attempt=2, tick_at=NOW)
    row = schedule_row(last_tick_at=NOW, ticks=812, last_job=last)

    status = told(plan(job(), row, now=NOW))

    assert status["schedule"] == "every 1h"
    assert status["lastScheduleTime"] == "2026-11-24T12:00:00Z"
    assert status["counts"] == {"planned": 812}
    assert status["lastRun"] == {
        "jobID": "pj-1",
        "scheduledTime": "2026-11-24T12:00:00Z",
        "state": "Failed",
        "attempt": 2,
        "error": {"type": "KeyError"},
    }


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (JobStatus.COMPLETED, "True/Complete"),
        (JobStatus.FAILED, "False/Failed"),
        (JobStatus.CANCELLED, "False/Cancelled"),
        (JobStatus.EXPIRED, "False/Expired"),
        (JobStatus.RUNNING, "Unknown/NoRunYet"),
    ],
)
def test_last_run_is_judged_when_it_has_ended(status: JobStatus, verdict: str) -> None:
    row = schedule_row(last_job=job_row(status))

    assert verdicts(plan(job(), row, now=NOW))["LastRunSucceeded"] == verdict


def test_verdict_on_the_last_run_stays_while_the_next_one_runs() -> None:
    failed = told(plan(job(), schedule_row(last_job=job_row(JobStatus.FAILED)), now=NOW))

    running = plan(job(status=failed), schedule_row(ticks=1, last_job=job_row(JobStatus.RUNNING)), now=NOW)

    assert verdicts(running)["LastRunSucceeded"] == "False/Failed"


def test_suspended_schedule_says_so_and_has_no_next_time() -> None:
    actions = plan(job({**periodic_job(), "suspend": True}), schedule_row(suspended=True, next_tick_at=None), now=NOW)

    assert verdicts(actions)["Suspended"] == "True/Spec"
    assert "nextScheduleTimes" not in told(actions)


def test_deletion_forgets_the_schedule_before_the_object_goes() -> None:
    assert kinds(plan(job(**DELETING), schedule_row(), now=NOW)) == [DeleteSchedule, RemoveFinalizer]


def test_deletion_does_not_need_a_valid_spec() -> None:
    assert kinds(plan(job({}, **DELETING), None, now=NOW)) == [DeleteSchedule, RemoveFinalizer]


def test_deletion_of_an_object_that_we_do_not_hold_is_not_ours() -> None:
    assert plan(job(finalizers=[], **DELETING), schedule_row(), now=NOW) == []


def test_unknown_task_is_told_and_the_schedule_is_ready() -> None:
    actions = plan(job(), schedule_row(), now=NOW, task_unknown=True)

    assert [action.notice.reason for action in actions if isinstance(action, EmitEvent)] == [Reason.UNKNOWN_TASK]
    assert verdicts(actions)["Ready"] == "True/Accepted"


@pytest.mark.parametrize("last", [None, *JobStatus])
def test_plan_after_the_status_is_written_is_empty(last: JobStatus | None) -> None:
    row = schedule_row(last_job=None if last is None else job_row(last))
    first = plan(job(), row, now=NOW)

    assert plan(job(status=told(first)), row, now=NOW + timedelta(minutes=1)) == []
