"""ScheduledJobs that are more than one object and its own row: keys, references, and what time changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler.job_status import JobStatus
from pg_scheduler.job_template import Deletion
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.actions import (
    Action,
    AdoptJob,
    DeleteObject,
    ExpireJob,
    LookAgain,
    ReleaseJob,
    RemoveFinalizer,
    SetStatus,
    UpsertJob,
)
from pg_scheduler_operator.reconcile.scheduled_job import job_id, plan
from pg_scheduler_operator.resources import PERIODIC_JOB_LABEL, Kind, PeriodicJobSpec, Resource, ScheduledJobSpec, read
from support.operator_world import NOW, body, job_row, periodic_job, scheduled_job, source

KEY = "invoices-2026-12"
KEYED_ID = f"key:billing/{KEY}"
FINISHED = {
    "conditions": [
        {
            "type": "Finished",
            "status": "True",
            "reason": "Complete",
            "message": "",
            "lastTransitionTime": "2026-11-24T12:00:00Z",
        }
    ]
}
DELETING: dict[str, Any] = {"deletionTimestamp": "2026-11-24T12:00:00Z"}


def job(spec: Any = None, *, status: dict[str, Any] | None = None, **metadata: Any) -> Resource[ScheduledJobSpec]:
    made = body(Kind.SCHEDULED_JOB, scheduled_job() if spec is None else spec, status=status, **metadata)
    return read(ScheduledJobSpec, made, cluster="default")


def keyed(**spec: Any) -> Resource[ScheduledJobSpec]:
    return job(scheduled_job(idempotencyKey=KEY, **spec))


def others_row(status: JobStatus = JobStatus.PENDING, *, name: str = "other", **changes: Any) -> Any:
    """The row of our key, made from the same, by another object."""
    owner = replace(source(), uid="u0", name=name)
    return job_row(status, **{"job_id": KEYED_ID, "source": owner, "digest": digest(keyed()), **changes})


def digest(resource: Resource[ScheduledJobSpec]) -> str:
    assert not isinstance(resource.spec, InvalidSpec)
    return resource.spec.digest


def periodic(spec: Any = None) -> Resource[PeriodicJobSpec]:
    return read(PeriodicJobSpec, body(Kind.PERIODIC_JOB, spec or periodic_job(), name="nightly"), cluster="default")


def kinds(actions: list[Action]) -> list[type[Action]]:
    return [type(action) for action in actions]


def told(actions: list[Action]) -> dict[str, Any]:
    (written,) = [action for action in actions if isinstance(action, SetStatus)]
    return dict(written.desired)


def condition(actions: list[Action], name: str) -> tuple[str, str, str]:
    (found,) = [one for one in told(actions)["conditions"] if one["type"] == name]
    return found["status"], found["reason"], found["message"]


def look_again(actions: list[Action]) -> float | None:
    return next((action.in_seconds for action in actions if isinstance(action, LookAgain)), None)


def test_key_is_the_id_of_the_row() -> None:
    assert job_id(keyed()) == KEYED_ID
    (upsert,) = plan(keyed(), None, now=NOW)
    assert isinstance(upsert, UpsertJob)
    assert (upsert.desired.job_id, upsert.desired.digest) == (KEYED_ID, digest(keyed()))


@pytest.mark.parametrize("known", ["key:payroll/secret", "sj-of-another", 7])
def test_status_never_leads_to_the_row_of_another_namespace(known: Any) -> None:
    assert job_id(job(status={"jobID": known})) == "sj-u1"


def test_key_that_is_changed_is_refused_and_makes_no_second_job() -> None:
    changed = job(scheduled_job(idempotencyKey="another"), status={"jobID": KEYED_ID})

    actions = plan(changed, job_row(job_id=KEYED_ID), now=NOW)

    assert UpsertJob not in kinds(actions)
    assert condition(actions, "Stalled")[:2] == ("True", "InvalidSpec")


@pytest.mark.parametrize("status", [JobStatus.RUNNING, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.EXPIRED])
def test_job_of_the_same_key_and_template_is_shown_and_not_run_again(status: JobStatus) -> None:
    actions = plan(keyed(), others_row(status), now=NOW)

    assert SetStatus in kinds(actions)
    assert not {UpsertJob, AdoptJob} & set(kinds(actions))
    assert condition(actions, "Ready")[:2] == ("True", "Accepted")
    assert told(actions)["jobID"] == KEYED_ID


def test_open_job_of_another_object_is_looked_at_again() -> None:
    assert look_again(plan(keyed(), others_row(), now=NOW)) == 5


def test_tombstone_shows_how_the_job_ended() -> None:
    buried = others_row(JobStatus.COMPLETED, source=None, worker_id=None)

    actions = plan(keyed(), buried, now=NOW)

    assert condition(actions, "Complete")[:2] == ("True", "Complete")


@pytest.mark.parametrize("owner", [{"source": None}, {"name": "x"}], ids=["nobody", "an older object of the name"])
@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.RUNNING])
def test_open_job_without_a_living_owner_is_adopted(status: JobStatus, owner: dict[str, Any]) -> None:
    actions = plan(keyed(deletionPolicy="Cancel"), others_row(status, **owner), now=NOW)

    (adoption,) = [action for action in actions if isinstance(action, AdoptJob)]
    assert (adoption.job_id, adoption.deletion) == (KEYED_ID, Deletion.CANCEL)


def test_job_that_was_cancelled_before_it_started_leaves_its_key_free() -> None:
    actions = plan(keyed(), others_row(JobStatus.CANCELLED, attempt=0), now=NOW)

    assert kinds(actions) == [UpsertJob]


def test_object_that_has_said_how_it_ended_takes_no_key_again() -> None:
    ended = job(scheduled_job(idempotencyKey=KEY), status=FINISHED)

    assert UpsertJob not in kinds(plan(ended, others_row(JobStatus.CANCELLED, attempt=0), now=NOW))


def test_key_of_a_job_that_was_made_from_something_else_is_a_conflict() -> None:
    actions = plan(keyed(runAt="2026-12-01T09:00:00Z"), others_row(JobStatus.COMPLETED), now=NOW)

    assert condition(actions, "Ready")[:2] == ("False", "KeyConflict")
    assert condition(actions, "Stalled")[:2] == ("True", "KeyConflict")


def test_conflict_is_ignored_where_the_spec_says_so() -> None:
    actions = plan(
        keyed(runAt="2026-12-01T09:00:00Z", conflictPolicy="Ignore"), others_row(JobStatus.COMPLETED), now=NOW
    )

    assert condition(actions, "Ready")[:2] == ("True", "Accepted")
    assert condition(actions, "Complete")[:2] == ("True", "Complete")


def test_deletion_leaves_the_job_of_another_object_alone() -> None:
    gone = job(scheduled_job(idempotencyKey=KEY), **DELETING)

    assert kinds(plan(gone, others_row(), now=NOW)) == [RemoveFinalizer]


def test_extra_run_is_of_the_periodic_jobs_template() -> None:
    spec = {"periodicJobRef": {"name": "nightly"}}
    template = {"metadata": {"labels": {"team": "finance"}}, "spec": {"task": "reports", "queue": "q"}}

    (upsert,) = plan(job(spec), None, now=NOW, referred=periodic(periodic_job(jobTemplate=template)))

    assert isinstance(upsert, UpsertJob)
    assert (upsert.desired.template.task, upsert.desired.template.queue) == ("reports", "q")
    assert upsert.desired.template.labels == {"team": "finance", PERIODIC_JOB_LABEL: "nightly"}


@pytest.mark.parametrize(
    ("referred", "reason"),
    [(None, "PeriodicJobNotFound"), (periodic({"schedule": {}}), "PeriodicJobInvalid")],
)
def test_extra_run_waits_for_its_periodic_job(referred: Any, reason: str) -> None:
    actions = plan(job({"periodicJobRef": {"name": "nightly"}}), None, now=NOW, referred=referred)

    assert UpsertJob not in kinds(actions)
    assert condition(actions, "Ready")[:2] == ("False", reason)
    assert condition(actions, "Stalled")[0] == "False"
    assert look_again(actions) == 5


def test_extra_run_that_was_made_does_not_need_its_periodic_job_any_more() -> None:
    actions = plan(job({"periodicJobRef": {"name": "nightly"}}), job_row(JobStatus.RUNNING), now=NOW, referred=None)

    assert condition(actions, "Ready")[:2] == ("True", "Accepted")


@pytest.mark.parametrize(
    ("row", "ready", "stalled"),
    [
        (job_row(), ("False", "NotFinished"), ("False", "NotFinished")),
        (job_row(JobStatus.COMPLETED), ("True", "Complete"), ("False", "Complete")),
        (job_row(JobStatus.FAILED), ("False", "Failed"), ("True", "Failed")),
        (job_row(JobStatus.EXPIRED), ("False", "Expired"), ("True", "Expired")),
        (job_row(JobStatus.CANCELLED), ("False", "Cancelled"), ("True", "Cancelled")),
    ],
)
def test_ready_when_complete_waits_for_the_end(row: Any, ready: Any, stalled: Any) -> None:
    actions = plan(job(scheduled_job(readyWhen="Complete")), row, now=NOW)

    assert condition(actions, "Ready")[:2] == ready
    assert condition(actions, "Stalled")[:2] == stalled


def test_object_goes_when_its_time_to_live_has_passed() -> None:
    ended = job(scheduled_job(ttlSecondsAfterFinished=60), status=FINISHED)
    row = job_row(JobStatus.COMPLETED, finished_at=NOW)

    assert DeleteObject not in kinds(plan(ended, row, now=NOW + timedelta(seconds=59)))
    assert look_again(plan(ended, row, now=NOW + timedelta(seconds=50))) == 10
    assert DeleteObject in kinds(plan(ended, row, now=NOW + timedelta(seconds=60)))


def test_object_says_how_its_job_ended_before_it_goes() -> None:
    actions = plan(
        job(scheduled_job(ttlSecondsAfterFinished=0)), job_row(JobStatus.COMPLETED), now=NOW + timedelta(hours=1)
    )

    assert DeleteObject not in kinds(actions)
    assert look_again(actions) == 1


def test_time_to_live_counts_also_when_the_row_is_gone() -> None:
    status = {**FINISHED, "completionTime": "2026-11-24T12:00:00Z", "observedGeneration": 1}
    ended = job(scheduled_job(ttlSecondsAfterFinished=60), status=status)

    assert look_again(plan(ended, None, now=NOW + timedelta(seconds=50))) == 10
    assert kinds(plan(ended, None, now=NOW + timedelta(seconds=60))) == [DeleteObject]


@given(seconds=st.integers(0, 10_000), ttl=st.integers(0, 10_000))
def test_object_never_goes_early_and_never_is_forgotten(seconds: int, ttl: int) -> None:
    ended = job(scheduled_job(ttlSecondsAfterFinished=ttl), status=FINISHED)

    actions = plan(ended, job_row(JobStatus.COMPLETED, finished_at=NOW), now=NOW + timedelta(seconds=seconds))

    assert (DeleteObject in kinds(actions)) is (seconds >= ttl)
    assert seconds >= ttl or look_again(actions) == ttl - seconds


def test_deadline_is_looked_at_when_it_has_passed() -> None:
    held = job(scheduled_job(startingDeadlineSeconds=60))

    assert look_again(plan(held, job_row(), now=NOW + timedelta(seconds=20))) == 41
    late = plan(held, job_row(), now=NOW + timedelta(seconds=60))
    assert ExpireJob in kinds(late)
    assert look_again(late) == 60


@pytest.mark.parametrize(
    "row",
    [job_row(JobStatus.RUNNING), job_row(suspended=True), job_row(attempt=1), job_row(JobStatus.COMPLETED)],
    ids=["running", "held", "to be tried again", "ended"],
)
def test_deadline_is_for_what_could_have_started_and_has_not(row: Any) -> None:
    actions = plan(job(scheduled_job(startingDeadlineSeconds=60)), row, now=NOW + timedelta(hours=1))

    assert ExpireJob not in kinds(actions)


@pytest.mark.parametrize(
    ("policy", "deletion"),
    [("CancelPending", Deletion.CANCEL_PENDING), ("Cancel", Deletion.CANCEL), ("Orphan", Deletion.ORPHAN)],
)
def test_deletion_does_what_the_spec_says(policy: str, deletion: Deletion) -> None:
    actions = plan(job(scheduled_job(deletionPolicy=policy), **DELETING), job_row(JobStatus.RUNNING), now=NOW)

    assert isinstance(actions[0], ReleaseJob)
    assert actions[0].deletion is deletion


def test_deletion_with_a_spec_that_cannot_be_read_does_what_the_row_says() -> None:
    actions = plan(job({"template": 1}, **DELETING), job_row(deletion=Deletion.ORPHAN), now=NOW)

    assert isinstance(actions[0], ReleaseJob)
    assert actions[0].deletion is Deletion.ORPHAN


def test_change_beside_the_job_is_taken_over_while_it_runs() -> None:
    held = job(scheduled_job(suspend=True, deletionPolicy="Cancel"), generation=2)

    actions = plan(held, job_row(JobStatus.RUNNING, digest=digest(job())), now=NOW)

    assert kinds(actions) == [UpsertJob]


RESULT = {"template": {"spec": {"task": "t", "resultPolicy": "Status"}}}


def test_short_result_is_in_the_status_where_the_spec_asks_for_it() -> None:
    row = job_row(JobStatus.COMPLETED, result='{"rows": 812, "none": null}', result_bytes=27)

    assert told(plan(job(RESULT), row, now=NOW))["result"] == {"rows": 812, "none": None}
    assert "result" not in told(plan(job(), row, now=NOW))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (job_row(JobStatus.COMPLETED, result_bytes=5000), "5,000 bytes"),
        (job_row(JobStatus.COMPLETED, result_refused=True), "cannot be kept"),
    ],
)
def test_result_that_is_not_shown_is_accounted_for(row: Any, says: str) -> None:
    actions = plan(job(RESULT), row, now=NOW)

    assert "result" not in told(actions)
    assert says in condition(actions, "Complete")[2]


def test_error_of_ours_has_its_own_code() -> None:
    row = job_row(JobStatus.FAILED, error_type="JobTimeout", error_at=NOW)

    assert told(plan(job(), row, now=NOW))["lastError"]["code"] == "PGS-063"


@pytest.mark.parametrize("status", list(JobStatus))
@pytest.mark.parametrize("attempt", [0, 1])
@pytest.mark.parametrize("policy", ["Raise", "Ignore"])
def test_plan_for_a_shared_key_comes_to_rest(status: JobStatus, attempt: int, policy: str) -> None:
    """Whatever stands under a key: after one write, or none, nothing more is done than to look."""
    row = others_row(status, attempt=attempt, source=None, digest="another")
    ours = keyed(conflictPolicy=policy)
    actions = plan(ours, row, now=NOW)
    if AdoptJob in kinds(actions) or UpsertJob in kinds(actions):
        row = replace(row, source=ours.meta.source, status=JobStatus.PENDING)
        actions = plan(ours, row, now=NOW)

    again = job(scheduled_job(idempotencyKey=KEY, conflictPolicy=policy), status=told(actions))

    assert set(kinds(plan(again, row, now=NOW))) <= {LookAgain}
