from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pg_scheduler.job_status import JobStatus
from pg_scheduler_operator.reconcile.actions import (
    Action,
    AddFinalizer,
    CancelJob,
    EmitEvent,
    LookAgain,
    ReleaseJob,
    RemoveFinalizer,
    SetStatus,
    UpsertJob,
)
from pg_scheduler_operator.reconcile.common import let_go_without_database
from pg_scheduler_operator.reconcile.scheduled_job import plan
from pg_scheduler_operator.resources import Kind, Resource, ScheduledJobSpec, read
from pg_scheduler_operator.status import Reason, Refusal
from support.operator_world import NOW, body, job_row, scheduled_job

DELETING: dict[str, Any] = {"deletionTimestamp": "2026-11-24T12:00:00Z"}
FINISHED = {"conditions": [{"type": "Finished", "status": "True", "reason": "Complete", "message": ""}]}


def job(spec: Any = None, *, status: dict[str, Any] | None = None, **metadata: Any) -> Resource[ScheduledJobSpec]:
    made = body(Kind.SCHEDULED_JOB, scheduled_job() if spec is None else spec, status=status, **metadata)
    return read(ScheduledJobSpec, made, cluster="default")


def kinds(actions: list[Action]) -> list[type[Action]]:
    return [type(action) for action in actions]


def told(actions: list[Action]) -> dict[str, Any]:
    (written,) = [action for action in actions if isinstance(action, SetStatus)]
    return dict(written.desired)


def verdicts(actions: list[Action]) -> dict[str, str]:
    return {
        condition["type"]: f"{condition['status']}/{condition['reason']}" for condition in told(actions)["conditions"]
    }


def reasons(actions: list[Action]) -> list[Reason]:
    return [action.notice.reason for action in actions if isinstance(action, EmitEvent)]


def test_new_job_is_held_before_its_row_is_made() -> None:
    actions = plan(job(finalizers=[]), None, now=NOW)

    assert kinds(actions) == [AddFinalizer, UpsertJob]


@pytest.mark.parametrize(("status", "held"), [(JobStatus.PENDING, True), (JobStatus.COMPLETED, False)])
def test_finalizer_taken_off_by_hand_is_put_back_while_there_is_something_to_withdraw(
    status: JobStatus, held: bool
) -> None:
    assert (AddFinalizer in kinds(plan(job(finalizers=[]), job_row(status), now=NOW))) is held


def test_wish_is_the_spec() -> None:
    spec = scheduled_job(runAt="2026-12-01T09:00:00Z", suspend=True)

    (action,) = plan(job(spec, generation=7), None, now=NOW)

    assert isinstance(action, UpsertJob)
    assert action.desired.job_id == "sj-u1"
    assert action.desired.suspended
    assert action.desired.run_at is not None
    assert action.desired.run_at.isoformat() == "2026-12-01T09:00:00+00:00"
    assert (action.desired.source.generation, action.desired.source.tenant) == (7, "billing")


def test_accepted_job_is_ready() -> None:
    actions = plan(job(), job_row(), now=NOW)

    assert kinds(actions) == [SetStatus]
    assert told(actions)["state"] == "Pending"
    assert verdicts(actions) == {
        "Ready": "True/Accepted",
        "Stalled": "False/Accepted",
        "Suspended": "False/Spec",
        "Started": "False/NotStarted",
        "Complete": "False/NotFinished",
        "Failed": "False/NotFinished",
        "Finished": "False/NotFinished",
    }


@pytest.mark.parametrize(
    ("status", "complete", "failed", "finished"),
    [
        (JobStatus.COMPLETED, "True/Complete", "False/Complete", "True/Complete"),
        (JobStatus.FAILED, "False/Failed", "True/Failed", "True/Failed"),
        (JobStatus.EXPIRED, "False/Expired", "True/Expired", "True/Expired"),
        (JobStatus.CANCELLED, "False/Cancelled", "False/Cancelled", "True/Cancelled"),
        (JobStatus.RUNNING, "False/NotFinished", "False/NotFinished", "False/NotFinished"),
    ],
)
def test_end_is_told_by_three_conditions(status: JobStatus, complete: str, failed: str, finished: str) -> None:
    verdict = verdicts(plan(job(), job_row(status), now=NOW))

    assert (verdict["Complete"], verdict["Failed"], verdict["Finished"]) == (complete, failed, finished)


def test_status_of_a_failed_job_names_the_type_of_its_error_only() -> None:
    status = told(plan(job(), job_row(JobStatus.FAILED, error_type="KeyError", error_at=NOW, attempt=3), now=NOW))

    assert status["lastError"] == {"type": "KeyError", "code": "PGS-066", "time": "2026-11-24T12:00:00Z"}
    assert (status["attempt"], status["worker"], status["completionTime"]) == (3, "w1", "2026-11-24T12:00:01Z")


def test_text_of_an_error_is_one_line_of_at_most_256_characters() -> None:
    hostile = '\n{"level": 1}\r\x1b[2J\u202e\x85\u2028\u200b' + "x" * 250
    row = job_row(JobStatus.FAILED, error_type="KeyError", error_at=NOW, error_text=hostile)

    text = told(plan(job(), row, now=NOW))["lastError"]["text"]

    assert text.startswith(r'\n{"level": 1}\r\x1b[2J\u202e\x85\u2028\u200bxxx')
    assert text.isprintable()
    assert len(text) == 256


def test_start_time_is_that_of_the_first_attempt() -> None:
    again = job_row(JobStatus.RUNNING, attempt=2, started_at=NOW + timedelta(hours=1))

    assert (
        told(plan(job(status={"startTime": "2026-11-24T12:00:00Z"}), again, now=NOW))["startTime"]
        == "2026-11-24T12:00:00Z"
    )


def test_job_that_waits_for_its_retry_has_started() -> None:
    waiting = job_row(JobStatus.PENDING, attempt=1, started_at=NOW)

    assert verdicts(plan(job(), waiting, now=NOW))["Started"] == "True/Started"


def test_edit_of_a_pending_job_changes_its_row() -> None:
    (action,) = plan(job(generation=2), job_row(generation=1), now=NOW)

    assert isinstance(action, UpsertJob)
    assert action.desired.job_id == "sj-u1"


def test_edit_that_comes_after_the_start_is_stalled() -> None:
    actions = plan(job(generation=2), job_row(JobStatus.RUNNING, generation=1), now=NOW)

    assert UpsertJob not in kinds(actions)
    assert verdicts(actions)["Ready"] == "False/AlreadyStarted"
    assert verdicts(actions)["Stalled"] == "True/AlreadyStarted"
    assert told(actions)["observedGeneration"] == 2


def test_edit_that_comes_after_the_end_is_told_and_changes_nothing() -> None:
    actions = plan(job(generation=2), job_row(JobStatus.COMPLETED, generation=1), now=NOW)

    assert reasons(actions) == [Reason.ALREADY_FINISHED]
    assert verdicts(actions)["Ready"] == "True/Accepted"


def test_cancel_of_a_pending_job_cancels_its_row() -> None:
    actions = plan(job(scheduled_job(cancel=True), generation=2), job_row(generation=1), now=NOW)

    assert kinds(actions) == [CancelJob]


def test_cancel_of_a_running_job_asks_once() -> None:
    cancelled = job(scheduled_job(cancel=True), generation=2)

    assert kinds(plan(cancelled, job_row(JobStatus.RUNNING), now=NOW)) == [CancelJob]
    asked = plan(cancelled, job_row(JobStatus.RUNNING, stopping=True), now=NOW)
    assert kinds(asked) == [SetStatus]
    assert verdicts(asked)["Ready"] == "True/Accepted"


def test_job_made_with_cancel_set_is_never_open_to_a_claim() -> None:
    (action,) = plan(job(scheduled_job(cancel=True)), None, now=NOW)

    assert isinstance(action, UpsertJob)
    assert action.desired.suspended


def test_suspended_job_says_so() -> None:
    actions = plan(job(scheduled_job(suspend=True)), job_row(suspended=True), now=NOW)

    assert verdicts(actions)["Suspended"] == "True/Spec"
    assert told(actions)["state"] == "Suspended"


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.WAITING, JobStatus.RUNNING])
def test_deletion_withdraws_what_has_not_ended_before_the_object_goes(status: JobStatus) -> None:
    assert kinds(plan(job(**DELETING), job_row(status), now=NOW)) == [ReleaseJob, RemoveFinalizer]


@pytest.mark.parametrize("row", [None, job_row(JobStatus.COMPLETED)])
def test_deletion_without_anything_to_withdraw_lets_the_object_go(row: Any) -> None:
    assert kinds(plan(job(**DELETING), row, now=NOW)) == [RemoveFinalizer]


def test_deletion_of_an_object_that_we_do_not_hold_is_not_ours() -> None:
    assert plan(job(finalizers=["their/finalizer"], **DELETING), job_row(), now=NOW) == []


def test_deletion_does_not_need_a_valid_spec() -> None:
    assert kinds(plan(job({}, **DELETING), None, now=NOW)) == [RemoveFinalizer]


def test_invalid_spec_leaves_the_row_alone() -> None:
    actions = plan(job({"template": {}}, generation=2), job_row(generation=1), now=NOW)

    assert kinds(actions) == [EmitEvent, SetStatus]
    assert verdicts(actions)["Ready"] == "False/InvalidSpec"
    assert "spec.template.spec" in told(actions)["conditions"][0]["message"]


def test_refused_wish_is_not_tried_in_the_same_turn() -> None:
    refusal = Refusal(reason=Reason.OWNED_BY_ANOTHER, message="not yours")

    actions = plan(job(), None, now=NOW, refusal=refusal)

    assert UpsertJob not in kinds(actions)
    assert verdicts(actions)["Stalled"] == "True/OwnedByAnother"


def test_refusal_that_heals_is_tried_again_and_that_of_a_tenants_limit_less_often() -> None:
    def again(reason: Reason) -> list[float]:
        actions = plan(job(), None, now=NOW, refusal=Refusal(reason=reason, message="not now", heals=True))
        return [action.in_seconds for action in actions if isinstance(action, LookAgain)]

    assert again(Reason.PERIODIC_JOB_NOT_FOUND) == [5]
    assert again(Reason.TENANT_LIMIT) == [30]


def test_finished_job_without_a_row_never_runs_again() -> None:
    assert plan(job(status={**FINISHED, "observedGeneration": 1}), None, now=NOW) == []
    assert reasons(plan(job(status={**FINISHED, "observedGeneration": 1}, generation=2), None, now=NOW)) == [
        Reason.ALREADY_FINISHED
    ]


def test_unknown_task_is_told_once_for_each_generation() -> None:
    news = plan(job(), job_row(), now=NOW, task_unknown=True)
    old = plan(job(status=told(news)), job_row(), now=NOW, task_unknown=True)

    assert reasons(news) == [Reason.UNKNOWN_TASK]
    assert verdicts(news)["Ready"] == "True/Accepted"
    assert old == []


def test_inexact_arguments_are_told_without_their_value() -> None:
    spec = {"template": {"spec": {"task": "t", "args": [9007199254740993]}}}

    (event,) = [action for action in plan(job(spec), job_row(), now=NOW) if isinstance(action, EmitEvent)]

    assert event.notice.reason == Reason.ARGUMENTS_INEXACT
    assert "9007199254740993" not in event.notice.note


@pytest.mark.parametrize("status", list(JobStatus))
@pytest.mark.parametrize("generation", [1, 2])
def test_plan_after_the_status_is_written_is_empty(status: JobStatus, generation: int) -> None:
    row = job_row(status, generation=generation)
    first = plan(job(generation=generation), row, now=NOW)

    again = job(generation=generation, status=told(first))

    assert plan(again, row, now=NOW + timedelta(minutes=1)) == []


@pytest.mark.parametrize(("seconds", "expected"), [(19, []), (20, [EmitEvent, RemoveFinalizer])])
def test_deletion_waits_twenty_seconds_for_the_database(seconds: int, expected: list[type[Action]]) -> None:
    actions = let_go_without_database(job(**DELETING).meta, NOW + timedelta(seconds=seconds))

    assert kinds(actions) == expected


def test_object_that_stays_waits_for_the_database() -> None:
    assert let_go_without_database(job().meta, NOW + timedelta(days=1)) == []
