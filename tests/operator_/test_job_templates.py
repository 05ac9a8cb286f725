"""What a manifest says of a job: its bounds, and the same in the library's words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler.job_template import Deletion
from pg_scheduler.retry_policy import RetryPolicy
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.resources import Kind, PeriodicJobSpec, ScheduledJobSpec, read
from support.operator_world import body, periodic_job, scheduled_job

ARG = {"env": "REPORT_TOKEN", "into": "token"}


def spec_of(spec: Any) -> Any:
    return read(ScheduledJobSpec, body(Kind.SCHEDULED_JOB, spec), cluster="default").spec


def task(**fields: Any) -> dict[str, Any]:
    return scheduled_job(template={"spec": {"task": "t", **fields}})


def made(**fields: Any) -> Any:
    return spec_of(task(**fields)).template.made()


def test_template_says_all_that_the_library_knows() -> None:
    spec = scheduled_job(
        template={
            "metadata": {"labels": {"team": "finance"}},
            "spec": {
                "task": "t",
                "argsFrom": [ARG],
                "retryPolicy": {
                    "maxRetries": 3,
                    "initialDelaySeconds": 1,
                    "maxDelaySeconds": 30,
                    "factor": 1.5,
                    "jitter": "Full",
                },
                "timeoutSeconds": 1800,
                "concurrency": {"key": "tenant-42", "limit": 2},
                "resultPolicy": "Database",
            },
        }
    )

    template = spec_of(spec).template.made(also="this")

    assert template.args_from == {"token": "REPORT_TOKEN"}
    assert template.labels == {"team": "finance", "also": "this"}
    assert (template.max_retries, template.timeout_seconds) == (3, 1800)
    assert template.retry_policy == RetryPolicy(initial=1, maximum=30, factor=1.5, jitter=1)
    assert (template.concurrency_key, template.concurrency_limit) == ("tenant-42", 2)
    assert template.keep_result


def test_what_is_left_out_is_the_tasks_own_choice() -> None:
    template = made()

    assert (template.max_retries, template.retry_policy, template.timeout_seconds) == (0, None, None)
    assert (template.concurrency_key, template.concurrency_limit, template.keep_result) == (None, None, False)
    assert made(retryPolicy={"maxRetries": 3}).retry_policy is None


@given(
    delays=st.fixed_dictionaries(
        {},
        optional={
            "initialDelaySeconds": st.integers(0, 100) | st.just(400),
            "maxDelaySeconds": st.integers(0, 100) | st.just(400),
            "factor": st.floats(1, 100),
            "jitter": st.sampled_from(["None", "Half", "Full"]),
        },
    )
)
def test_delays_that_the_schema_takes_are_a_policy_that_says_them(delays: dict[str, Any]) -> None:
    spec = spec_of(task(retryPolicy=delays))
    first, most = delays.get("initialDelaySeconds"), delays.get("maxDelaySeconds")
    if first is not None and most is not None and first > most:
        assert isinstance(spec, InvalidSpec)
        return

    policy = spec.template.made().retry_policy

    assert (policy is None) is (not delays)
    if policy is not None:
        assert first is None or policy.initial == first
        assert most is None or policy.maximum == most
        assert policy.factor == delays.get("factor", 2)


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        (task(retryPolicy={"maxRetries": -1}), "spec.template.spec.retryPolicy.maxRetries", "greater"),
        (
            task(retryPolicy={"initialDelaySeconds": 2, "maxDelaySeconds": 1}),
            "spec.template.spec.retryPolicy",
            "must not be above",
        ),
        (task(retryPolicy={"jitter": "Some"}), "spec.template.spec.retryPolicy.jitter", "'Full'"),
        (task(retryPolicy={"factor": 0.5}), "spec.template.spec.retryPolicy.factor", "greater"),
        (task(timeoutSeconds=0), "spec.template.spec.timeoutSeconds", "greater"),
        (task(concurrency={"key": ""}), "spec.template.spec.concurrency.key", "at least 1"),
        (task(concurrency={"key": "k", "limit": 0}), "spec.template.spec.concurrency.limit", "greater"),
        (task(concurrency={"key": "schedule:7"}), "spec.template.spec.concurrency", "schedules"),
        (task(resultPolicy="Everywhere"), "spec.template.spec.resultPolicy", "'Database'"),
        (task(argsFrom=[{"env": "PGPASSWORD", "into": "p"}]), "spec.template.spec.argsFrom[0]", "begins with PG"),
        (task(argsFrom=[{"env": "a b", "into": "p"}]), "spec.template.spec.argsFrom[0].env", "pattern"),
        (task(argsFrom=[ARG, ARG]), "spec.template.spec", "given twice"),
        (task(argsFrom=[ARG], kwargs={"token": 1}), "spec.template.spec", "given twice"),
        (
            scheduled_job(template={"metadata": {"labels": {"a": "-"}}, "spec": {"task": "t"}}),
            "spec.template.metadata.labels.a",
            "pattern",
        ),
        (scheduled_job(periodicJobRef={"name": "p"}), "spec", "exactly one of template"),
        ({"periodicJobRef": {"name": "P"}}, "spec.periodicJobRef.name", "pattern"),
        (scheduled_job(idempotencyKey=""), "spec.idempotencyKey", "at least 1"),
        (scheduled_job(idempotencyKey="a b"), "spec.idempotencyKey", "pattern"),
        (scheduled_job(idempotencyKey="x" * 129), "spec.idempotencyKey", "128"),
        (scheduled_job(conflictPolicy="Replace"), "spec.conflictPolicy", "'Ignore'"),
        (scheduled_job(readyWhen="Started"), "spec.readyWhen", "'Complete'"),
        (scheduled_job(deletionPolicy="Delete"), "spec.deletionPolicy", "'Orphan'"),
        (scheduled_job(ttlSecondsAfterFinished=-1), "spec.ttlSecondsAfterFinished", "greater"),
        (scheduled_job(startingDeadlineSeconds=-1), "spec.startingDeadlineSeconds", "greater"),
    ],
)
def test_field_out_of_its_bounds_is_named_with_its_rule(spec: Any, field: str, says: str) -> None:
    error = spec_of(spec)

    assert isinstance(error, InvalidSpec)
    assert error.field == field
    assert says in str(error)


@pytest.mark.parametrize("overlap", [None, "Skip", "Queue", "Replace", "Allow"])
def test_concurrency_of_a_periodic_job_needs_runs_that_may_overlap(overlap: str | None) -> None:
    spec = periodic_job(jobTemplate={"spec": {"task": "t", "concurrency": {"key": "k"}}}, overlapPolicy=overlap)

    read_spec = read(PeriodicJobSpec, body(Kind.PERIODIC_JOB, spec), cluster="default").spec

    assert isinstance(read_spec, InvalidSpec) is (overlap != "Allow")
    if isinstance(read_spec, InvalidSpec):
        assert "overlapPolicy Allow" in str(read_spec)


@pytest.mark.parametrize(
    ("policy", "deletion"),
    [
        (None, Deletion.CANCEL_PENDING),
        ("CancelPending", Deletion.CANCEL_PENDING),
        ("Cancel", Deletion.CANCEL),
        ("Orphan", Deletion.ORPHAN),
    ],
)
def test_deletion_policy_is_the_librarys(policy: str | None, deletion: Deletion) -> None:
    assert spec_of(scheduled_job(deletionPolicy=policy)).deletion is deletion


RUN_AT = "2026-12-01T09:00:00Z"


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ({"runAt": RUN_AT}, True),
        ({"startingDeadlineSeconds": 60}, True),
        ({"template": {"spec": {"task": "u"}}}, True),
        ({"template": {"spec": {"task": "t", "args": [1]}}}, True),
        ({"template": {"spec": {"task": "t", "queue": "default"}}}, False),
        ({"suspend": True}, False),
        ({"ttlSecondsAfterFinished": 5}, False),
        ({"deletionPolicy": "Cancel"}, False),
        ({"readyWhen": "Complete"}, False),
        ({"conflictPolicy": "Ignore"}, False),
    ],
)
def test_digest_is_of_what_the_job_is_made_from(change: dict[str, Any], is_another: bool) -> None:
    before, after = spec_of(scheduled_job()), spec_of(scheduled_job(**change))

    assert (before.digest != after.digest) is is_another


def test_digest_stays_over_releases() -> None:
    """Rows hold it: one that changed would make a conflict of every key."""
    spec = scheduled_job(template={"spec": {"task": "t", "kwargs": {"b": 1, "a": [2]}}}, runAt=RUN_AT)

    assert spec_of(spec).digest == "42dac527f6e99f6bd562485381477d29"
