from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler.control import ScheduleCounts
from pg_scheduler.job_status import JobStatus
from pg_scheduler.recurrence import Bounds, Cron, History, Interval, Policy
from pg_scheduler_operator.reconcile.actions import (
    AddFinalizer,
    DeleteSchedule,
    EmitEvent,
    RemoveFinalizer,
    ResumeSchedule,
    SetStatus,
    UpsertSchedule,
)
from pg_scheduler_operator.reconcile.periodic_job import plan
from pg_scheduler_operator.resources import FINALIZER, RESUME_REQUESTED_AT, Kind, PeriodicJobSpec, Resource, read
from pg_scheduler_operator.status import Reason
from support.operator_world import NOW, body, job_row, periodic_job, schedule_row

if TYPE_CHECKING:
    from pg_scheduler.control import DesiredSchedule, ScheduleState
    from pg_scheduler_operator.reconcile.actions import Action

DELETING: dict[str, Any] = {"deletionTimestamp": "2026-11-24T12:00:00Z"}


COUNTS = ScheduleCounts(ran=809, failed=3, skipped=2, missed=0, coalesced=1, succeeded_at=None, failed_at=None)


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


def told_condition(actions: list[Action], name: str) -> tuple[str, str]:
    """Reason and message of a condition that holds."""
    ((reason, message),) = [
        (condition["reason"], condition["message"])
        for condition in told(actions)["conditions"]
        if (condition["type"], condition["status"]) == (name, "True")
    ]
    return reason, message


def wish(spec: dict[str, Any]) -> DesiredSchedule:
    (action,) = plan(job(spec, generation=2), schedule_row(generation=1), now=NOW)
    assert isinstance(action, UpsertSchedule)
    return action.desired


def events(actions: list[Action]) -> list[tuple[str, Reason, str]]:
    return [(a.notice.type, a.notice.reason, a.notice.note) for a in actions if isinstance(a, EmitEvent)]


def verdicts(actions: list[Action]) -> dict[str, str]:
    return {
        condition["type"]: f"{condition['status']}/{condition['reason']}" for condition in told(actions)["conditions"]
    }


def test_row_of_a_new_schedule_waits_for_no_request() -> None:
    assert kinds(plan(job(finalizers=[]), None, now=NOW)) == [UpsertSchedule]


def test_object_is_held_before_it_is_told_to_be_ready() -> None:
    holding, telling = plan(job(finalizers=["theirs"]), schedule_row(), now=NOW)

    assert holding == AddFinalizer(meta=job(finalizers=["theirs"]).meta)
    assert isinstance(telling, SetStatus)
    assert telling.meta == job(finalizers=["theirs", FINALIZER]).meta  # else the write would not be known as our own


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


def test_wish_holds_bounds_and_policy() -> None:
    schedule = {"intervalSeconds": 60, "jitterSeconds": 5, "startTime": "2026-12-01T00:00:00Z"}

    desired = wish(periodic_job(schedule=schedule, maxRuns=7, overlapPolicy="Replace", suspendAfterFailures=3))

    assert desired.bounds == Bounds(jitter_seconds=5, start_at=datetime(2026, 12, 1, tzinfo=UTC), max_runs=7)
    assert desired.policy == Policy(overlap="replace", suspend_after_failures=3)


def test_wish_holds_what_is_kept_and_what_becomes_of_the_jobs() -> None:
    desired = wish(periodic_job(successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0, deletionPolicy="Orphan"))

    assert (desired.history, desired.deletion) == (History(successful=1, failed=0), "orphan")


@pytest.mark.parametrize(("suspend", "reason"), [(True, "moving"), (False, "")])
def test_wish_holds_the_reason_while_it_is_suspended(suspend: bool, reason: str) -> None:
    desired = wish(periodic_job(suspend=suspend, suspendReason="moving"))

    assert (desired.suspended, desired.suspend_reason) == (suspend, reason)


@pytest.mark.parametrize(
    "row",
    [
        schedule_row(rule=Interval(60)),
        schedule_row(rule=Interval(3600, 60)),
        schedule_row(bounds=Bounds(max_runs=1)),
        schedule_row(policy=Policy(overlap="allow")),  # as a release wrote it that had no choice
        schedule_row(suspended=True),
        schedule_row(history=None),
        schedule_row(deletion="cancel"),
    ],
)
def test_row_of_this_generation_that_says_otherwise_is_written_again(row: ScheduleState) -> None:
    assert kinds(plan(job(), row, now=NOW)) == [UpsertSchedule]


def test_row_that_a_newer_generation_has_written_is_left_alone() -> None:
    row = schedule_row(generation=2, policy=Policy(overlap="allow"))

    assert kinds(plan(job(), row, now=NOW)) == [SetStatus]


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        (cron("0 25 * * *"), "InvalidSchedule", "spec.schedule.cron[0]"),
        (cron("0 2 * * *", "0 0 30 2 *"), "InvalidSchedule", "spec.schedule.cron[1]"),
        (cron("* * * * * *"), "InvalidSchedule", "spec.schedule.cron[0]"),
        (cron("0 2 * * *", timeZone="Mars/Phobos"), "InvalidSchedule", "spec.schedule.timeZone"),
        (cron("0 2 * * *", seconds="0,60"), "InvalidSchedule", "spec.schedule.seconds"),
        (cron("0 2 * * *", "5 2 * * *", jitterSeconds=300), "InvalidSchedule", "spec.schedule.jitterSeconds"),
        (periodic_job(schedule={}), "InvalidSpec", "spec.schedule"),
        (periodic_job(maxRuns=0), "InvalidSpec", "spec.maxRuns"),
    ],
)
def test_rule_that_cannot_be_used_names_its_field(spec: dict[str, Any], reason: str, field: str) -> None:
    actions = plan(job(spec), None, now=NOW)

    assert kinds(actions) == [EmitEvent, SetStatus]
    assert verdicts(actions)["Ready"] == f"False/{reason}"
    assert verdicts(actions)["Stalled"] == f"True/{reason}"
    assert field in told(actions)["conditions"][0]["message"]


def test_next_time_is_told_in_the_zone_of_the_rule() -> None:
    spec = cron("0 14 * * *", timeZone="Europe/Berlin")
    row = schedule_row(rule=Cron(("0 14 * * *",), "Europe/Berlin"))

    assert told(plan(job(spec), row, now=NOW))["nextScheduleTimes"][0] == "2026-11-24T14:00:00+01:00"


def test_five_next_times_are_told() -> None:
    assert told(plan(job(), schedule_row(), now=NOW))["nextScheduleTimes"] == [
        f"2026-11-24T{hour}:00:00+00:00" for hour in (13, 14, 15, 16, 17)
    ]


def test_no_next_time_is_told_that_the_bounds_do_not_allow() -> None:
    few = {"maxRuns": 10, "schedule": {"intervalSeconds": 3600, "endTime": "2026-11-24T15:00:00Z"}}
    end = Bounds(max_runs=10, end_at=NOW + timedelta(hours=3))
    status = told(plan(job(periodic_job(**few)), schedule_row(bounds=end), now=NOW))
    almost = told(plan(job(periodic_job(**few)), schedule_row(bounds=end, runs=8), now=NOW))

    assert status["nextScheduleTimes"] == [f"2026-11-24T{hour}:00:00+00:00" for hour in (13, 14, 15)]
    assert almost["nextScheduleTimes"] == [f"2026-11-24T{hour}:00:00+00:00" for hour in (13, 14)]


def test_rule_that_cannot_be_used_leaves_the_last_good_schedule_running() -> None:
    row = schedule_row(generation=1, rule=Cron(("0 2 * * *",)))

    actions = plan(job(cron("0 25 * * *"), generation=2), row, now=NOW)

    assert kinds(actions) == [EmitEvent, SetStatus]
    assert told(actions)["schedule"] == "0 2 * * *"
    assert told(actions)["nextScheduleTimes"][0] == "2026-11-24T13:00:00+00:00"
    assert told(actions)["observedGeneration"] == 2


def test_last_tick_is_still_known_when_its_job_has_been_cleaned_up() -> None:
    live = {"lastScheduleTime": "2026-11-23T12:00:00Z"}

    assert told(plan(job(status=live), schedule_row(), now=NOW))["lastScheduleTime"] == "2026-11-23T12:00:00Z"


def test_rule_that_never_was_good_is_shown_as_asked() -> None:
    assert told(plan(job(cron("0 25 * * *")), None, now=NOW))["schedule"] == "0 25 * * *"


def test_status_shows_rule_ticks_and_newest_run() -> None:
    last = job_row(JobStatus.FAILED, job_id="pj-1", source=None, error_type="KeyError", attempt=2, tick_at=NOW)
    row = schedule_row(last_tick_at=NOW, ticks=812, last_job=last, counts=COUNTS, time_zone_data="2026b")

    status = told(plan(job(), row, now=NOW))

    assert status["schedule"] == "every 1h"
    assert status["lastScheduleTime"] == "2026-11-24T12:00:00Z"
    assert status["counts"] == {"planned": 812, "ran": 809, "skipped": 2, "missed": 0, "coalesced": 1, "failed": 3}
    assert status["timeZoneDataVersion"] == "2026b"
    assert status["lastRun"] == {
        "jobID": "pj-1",
        "scheduledTime": "2026-11-24T12:00:00Z",
        "state": "Failed",
        "attempt": 2,
        "worker": "w1",
        "error": {"type": "KeyError", "code": "PGS-066"},
    }


@pytest.mark.parametrize(
    ("end", "verdict"),
    [
        (JobStatus.COMPLETED, "True/Complete"),
        (JobStatus.FAILED, "False/Failed"),
        (JobStatus.CANCELLED, "False/Cancelled"),
        (JobStatus.EXPIRED, "False/Expired"),
        (None, "Unknown/NoRunYet"),
    ],
)
def test_last_run_is_judged_by_its_end(end: JobStatus | None, verdict: str) -> None:
    row = schedule_row(last_job=job_row(JobStatus.RUNNING), last_end=end)

    assert verdicts(plan(job(), row, now=NOW))["LastRunSucceeded"] == verdict


def test_verdict_on_the_last_run_stays_when_its_row_has_been_cleaned_up() -> None:
    failed = told(plan(job(), schedule_row(last_end=JobStatus.FAILED), now=NOW))

    later = plan(job(status=failed), schedule_row(last_tick_at=NOW), now=NOW)

    assert verdicts(later)["LastRunSucceeded"] == "False/Failed"


def test_what_was_told_of_runs_stays_when_their_rows_have_been_cleaned_up() -> None:
    ended = schedule_row(
        last_tick_at=NOW, last_job=job_row(JobStatus.FAILED), last_end=JobStatus.FAILED, last_end_at=NOW, counts=COUNTS
    )
    before = told(plan(job(), ended, now=NOW))

    after = told(plan(job(status=before, generation=2), schedule_row(generation=2, ticks=1), now=NOW))

    kept = ("lastRun", "lastScheduleTime", "lastFailureTime", "counts")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


@pytest.mark.parametrize(
    ("row", "ends"),
    [
        ({}, ("10:00", "09:00")),
        ({"last_end": JobStatus.COMPLETED, "last_end_at": NOW}, ("12:00", "09:00")),
        ({"last_end": JobStatus.FAILED, "last_end_at": NOW}, ("10:00", "12:00")),
        ({"last_end": JobStatus.CANCELLED, "last_end_at": NOW}, ("10:00", "09:00")),
        (
            {
                "last_end": JobStatus.FAILED,
                "last_end_at": NOW,
                "counts": replace(COUNTS, succeeded_at=NOW - timedelta(hours=1), failed_at=NOW - timedelta(hours=9)),
            },
            ("11:00", "12:00"),
        ),
    ],
)
def test_last_ends_are_the_newest_that_are_known(row: dict[str, Any], ends: tuple[str, str]) -> None:
    live = {"lastSuccessfulTime": "2026-11-24T10:00:00Z", "lastFailureTime": "2026-11-24T09:00:00Z"}

    status = told(plan(job(status=live), schedule_row(**row), now=NOW))

    assert (status["lastSuccessfulTime"], status["lastFailureTime"]) == tuple(f"2026-11-24T{end}:00Z" for end in ends)


STARTED = job_row(JobStatus.RUNNING, tick_at=NOW, started_at=NOW + timedelta(seconds=61))


@pytest.mark.parametrize(
    ("row", "verdict", "message"),
    [
        ({}, "True/NoTickYet", ""),
        ({"last_tick_at": NOW}, "True/OnTime", ""),
        ({"last_tick_at": NOW, "missed_at": NOW}, "False/TickMissed", "2026-11-24T12:00:00Z"),
        ({"is_overdue": True, "missed_at": NOW}, "False/TickOverdue", "2026-11-24T13:00:00Z"),
        ({"is_overdue": True, "is_served": False}, "False/NoWorker", "queue default"),
        ({"last_tick_at": NOW, "last_job": STARTED}, "False/StartedLate", "2026-11-24T12:00:00Z"),
        ({"last_tick_at": NOW, "last_job": STARTED, "bounds": Bounds(jitter_seconds=1)}, "True/OnTime", ""),
        ({"last_tick_at": NOW, "last_job": replace(STARTED, attempt=2)}, "True/OnTime", ""),
        ({"last_tick_at": NOW, "last_job": job_row(tick_at=NOW)}, "True/OnTime", ""),
    ],
)
def test_schedule_is_judged_by_its_newest_tick(row: dict[str, Any], verdict: str, message: str) -> None:
    jitter = row.get("bounds", Bounds()).jitter_seconds
    spec = periodic_job(schedule={"intervalSeconds": 3600, "jitterSeconds": jitter})

    actions = plan(job(spec), schedule_row(**row), now=NOW)

    (condition,) = [each for each in told(actions)["conditions"] if each["type"] == "OnSchedule"]
    assert f"{condition['status']}/{condition['reason']}" == verdict
    assert message in condition["message"]
    assert [(kind, reason.value) for kind, reason, _ in events(actions)] == (
        [("Warning", condition["reason"])] if condition["status"] == "False" else []
    )


def test_schedule_that_stays_behind_is_told_once() -> None:
    behind = schedule_row(last_tick_at=NOW, missed_at=NOW)
    before = told(plan(job(), behind, now=NOW))

    assert events(plan(job(status=before), replace(behind, ticks=2), now=NOW)) == []


SUSPENDED = schedule_row(suspended=True, suspend_reason="moving house", next_tick_at=None)


def test_suspended_schedule_says_why_and_has_no_next_time() -> None:
    actions = plan(job(periodic_job(suspend=True, suspendReason="moving house")), SUSPENDED, now=NOW)

    assert told_condition(actions, "Suspended") == ("Suspended", "moving house")
    assert events(actions) == [("Normal", Reason.SUSPENDED, "moving house")]
    assert "nextScheduleTimes" not in told(actions)


def test_suspension_is_told_once() -> None:
    spec = periodic_job(suspend=True, suspendReason="moving house")
    before = told(plan(job(spec), SUSPENDED, now=NOW))
    edited = replace(SUSPENDED, source=replace(SUSPENDED.source, generation=2))

    assert events(plan(job(spec, generation=2, status=before), edited, now=NOW)) == []


def test_schedule_that_is_not_suspended_says_so() -> None:
    assert verdicts(plan(job(), schedule_row(), now=NOW))["Suspended"] == "False/Spec"


HALTED = schedule_row(
    halted_at=NOW, halted_reason="its last 3 runs failed", next_tick_at=None, policy=Policy(overlap="skip")
)


def test_schedule_that_was_suspended_after_failures_says_so_and_how_to_resume_it() -> None:
    actions = plan(job(), HALTED, now=NOW)

    reason, message = told_condition(actions, "Suspended")
    assert reason == "SuspendedAfterFailures"
    assert message.startswith("its last 3 runs failed; any change of the spec resumes it")
    assert RESUME_REQUESTED_AT in message
    assert events(actions) == [("Warning", Reason.SUSPENDED_AFTER_FAILURES, message)]
    assert verdicts(actions)["Ready"] == "True/Accepted"


def test_each_suspension_after_failures_is_an_event_of_its_own() -> None:
    (first,) = [a.notice for a in plan(job(), HALTED, now=NOW) if isinstance(a, EmitEvent)]
    again = replace(HALTED, halted_at=NOW + timedelta(hours=1))

    (second,) = [a.notice for a in plan(job(), again, now=NOW) if isinstance(a, EmitEvent)]

    assert first.name != second.name


def test_edit_of_a_schedule_that_was_suspended_after_failures_writes_it() -> None:
    assert kinds(plan(job(generation=2), HALTED, now=NOW)) == [UpsertSchedule]


@pytest.mark.parametrize(
    ("requested_at", "resumes"),
    [
        ("2026-11-24T12:00:01Z", True),
        ("2026-11-24T13:00:00+01:00", False),
        ("2026-11-24T11:59:59Z", False),
        ("", False),
    ],
)
def test_request_later_than_the_failures_resumes_the_schedule(requested_at: str, resumes: bool) -> None:
    asked = job(annotations={RESUME_REQUESTED_AT: requested_at})

    assert (ResumeSchedule in kinds(plan(asked, HALTED, now=NOW))) is resumes
    assert ResumeSchedule not in kinds(plan(asked, schedule_row(), now=NOW))


def test_request_does_not_lift_what_the_spec_suspends() -> None:
    both = replace(HALTED, suspended=True)
    asked = job(periodic_job(suspend=True), annotations={RESUME_REQUESTED_AT: "2026-11-24T12:00:01Z"})

    assert ResumeSchedule not in kinds(plan(asked, both, now=NOW))


@pytest.mark.parametrize(
    ("spec", "row", "verdict"),
    [
        ({}, schedule_row(), "False/NotExhausted"),
        ({"maxRuns": 5}, schedule_row(bounds=Bounds(max_runs=5), runs=4), "False/NotExhausted"),
        ({"maxRuns": 5}, schedule_row(bounds=Bounds(max_runs=5), runs=5, next_tick_at=None), "True/MaxRunsReached"),
        (
            {"schedule": {"intervalSeconds": 3600, "endTime": "2026-11-24T12:00:00Z"}},
            schedule_row(bounds=Bounds(end_at=NOW), runs=5, next_tick_at=None),
            "True/EndTimePassed",
        ),
        ({"suspend": True}, schedule_row(suspended=True, next_tick_at=None), "False/NotExhausted"),
        ({}, HALTED, "False/NotExhausted"),
    ],
)
def test_schedule_whose_bounds_have_ended_it_is_exhausted(
    spec: dict[str, Any], row: ScheduleState, verdict: str
) -> None:
    assert verdicts(plan(job(periodic_job(**spec)), row, now=NOW))["Exhausted"] == verdict


def test_new_object_is_not_exhausted() -> None:
    assert verdicts(plan(job(cron("0 25 * * *")), None, now=NOW))["Exhausted"] == "False/NotExhausted"


def test_deletion_forgets_the_schedule_before_the_object_goes() -> None:
    assert kinds(plan(job(**DELETING), schedule_row(), now=NOW)) == [DeleteSchedule, RemoveFinalizer]


@pytest.mark.parametrize(
    ("spec", "deletion"),
    [
        (periodic_job(), "cancel_pending"),
        (periodic_job(deletionPolicy="Cancel"), "cancel"),
        (periodic_job(deletionPolicy="Orphan"), "orphan"),
        ({}, None),
    ],
)
def test_deletion_ends_the_jobs_as_the_spec_says_or_as_its_row_where_it_is_invalid(
    spec: dict[str, Any], deletion: str | None
) -> None:
    delete, release = plan(job(spec, **DELETING), None, now=NOW)

    assert delete == DeleteSchedule(source=job(spec, **DELETING).meta.source, deletion=deletion)  # type: ignore[arg-type]
    assert isinstance(release, RemoveFinalizer)


def test_deletion_of_an_object_that_we_do_not_hold_yet_takes_its_row_along() -> None:
    assert kinds(plan(job(finalizers=[], **DELETING), schedule_row(), now=NOW)) == [DeleteSchedule]
    assert plan(job(finalizers=[], **DELETING), None, now=NOW) == []


def test_unknown_task_is_told_and_the_schedule_is_ready() -> None:
    actions = plan(job(), schedule_row(), now=NOW, task_unknown=True)

    assert [action.notice.reason for action in actions if isinstance(action, EmitEvent)] == [Reason.UNKNOWN_TASK]
    assert verdicts(actions)["Ready"] == "True/Accepted"


@pytest.mark.parametrize("last", [None, *JobStatus])
def test_plan_after_the_status_is_written_is_empty(last: JobStatus | None) -> None:
    end = last if last is not None and last.is_final else None
    row = schedule_row(last_job=None if last is None else job_row(last), last_end=end)
    first = plan(job(), row, now=NOW)

    assert plan(job(status=told(first)), row, now=NOW + timedelta(minutes=1)) == []
