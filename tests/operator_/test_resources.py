from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler.job_priority import JobPriority
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.resources import (
    ARGUMENTS_MAX_BYTES,
    Kind,
    PeriodicJobSpec,
    ScheduledJobSpec,
    WorkerPoolSpec,
    read,
)
from support.operator_world import body, periodic_job, scheduled_job, worker_pool

MODELS: dict[Kind, Any] = {
    Kind.SCHEDULED_JOB: ScheduledJobSpec,
    Kind.PERIODIC_JOB: PeriodicJobSpec,
    Kind.WORKER_POOL: WorkerPoolSpec,
}


def spec_of(kind: Kind, spec: Any, **metadata: Any) -> Any:
    return read(MODELS[kind], body(kind, spec, **metadata), cluster="default").spec


def task(**fields: Any) -> dict[str, Any]:
    return scheduled_job(template={"spec": {"task": "t", **fields}})


def periodic(**schedule: Any) -> dict[str, Any]:
    return periodic_job(schedule=schedule)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (Kind.SCHEDULED_JOB, scheduled_job()),
        (Kind.SCHEDULED_JOB, scheduled_job(runAt="1970-01-01T00:00:00Z")),
        (Kind.SCHEDULED_JOB, scheduled_job(runAt="2026-12-01T09:00:00.5+02:00", suspend=True, cancel=True)),
        (Kind.SCHEDULED_JOB, scheduled_job(runAt=None, suspend=None, cancel=None)),
        (Kind.SCHEDULED_JOB, task(args=[None, 1, [True, {"a": None}]], kwargs={"a": None}, priority="Critical")),
        (Kind.SCHEDULED_JOB, task(args=["x" * (ARGUMENTS_MAX_BYTES - 9)])),
        (Kind.PERIODIC_JOB, periodic(cron=["0 2 * * MON-FRI"], timeZone="America/New_York")),
        (Kind.PERIODIC_JOB, periodic(cron=["* * * * *"] * 16)),
        (Kind.PERIODIC_JOB, periodic(intervalSeconds=1)),
        (Kind.PERIODIC_JOB, periodic(intervalSeconds=5, cron=None, timeZone=None)),
        (Kind.WORKER_POOL, worker_pool()),
        (Kind.WORKER_POOL, worker_pool(minReplicas=10)),
        (Kind.WORKER_POOL, worker_pool(mode="Off", maxReplicas=None)),
    ],
)
def test_spec_that_the_schema_accepts_is_accepted(kind: Kind, spec: dict[str, Any]) -> None:
    assert not isinstance(spec_of(kind, spec), InvalidSpec)


@pytest.mark.parametrize(
    ("kind", "spec", "field", "says"),
    [
        (Kind.SCHEDULED_JOB, {}, "spec.template", "missing"),
        (Kind.SCHEDULED_JOB, None, "spec.template", "missing"),
        (Kind.SCHEDULED_JOB, "text", "spec", "object"),
        (Kind.SCHEDULED_JOB, scheduled_job(runAt="2026-12-01T09:00:00"), "spec.runAt", "with its zone"),
        (Kind.SCHEDULED_JOB, scheduled_job(runAt="2026-12-01 09:00:00Z"), "spec.runAt", "with its zone"),
        (Kind.SCHEDULED_JOB, scheduled_job(runAt="2026-12-01"), "spec.runAt", "with its zone"),
        (Kind.SCHEDULED_JOB, scheduled_job(runAt=1764579600), "spec.runAt", "with its zone"),
        (Kind.SCHEDULED_JOB, scheduled_job(runAt="2026-13-01T09:00:00Z"), "spec.runAt", "month"),
        (Kind.SCHEDULED_JOB, scheduled_job(runAt="9999-01-01T00:00:00Z"), "spec.runAt", "9999"),
        (Kind.SCHEDULED_JOB, scheduled_job(suspend="yes"), "spec.suspend", "boolean"),
        (Kind.SCHEDULED_JOB, scheduled_job(run_at="2026-12-01T09:00:00Z"), "spec.run_at", "no field"),
        (Kind.SCHEDULED_JOB, task(task="os system"), "spec.template.spec.task", '"os system"'),
        (Kind.SCHEDULED_JOB, task(task="x" * 254), "spec.template.spec.task", "253"),
        (Kind.SCHEDULED_JOB, task(priority="high"), "spec.template.spec.priority", "'High'"),
        (Kind.SCHEDULED_JOB, task(queue=""), "spec.template.spec.queue", "pattern"),
        (Kind.SCHEDULED_JOB, task(args=["x"] * 1001), "spec.template.spec.args", "1000"),
        (Kind.SCHEDULED_JOB, task(args=["x" * (ARGUMENTS_MAX_BYTES - 8)]), "spec.template.spec", "32769 bytes"),
        (Kind.SCHEDULED_JOB, task(args=[float("nan")]), "spec", "NaN"),
        (Kind.PERIODIC_JOB, periodic(), "spec.schedule", "exactly one"),
        (Kind.PERIODIC_JOB, periodic(cron=["* * * * *"], intervalSeconds=1), "spec.schedule", "exactly one"),
        (Kind.PERIODIC_JOB, periodic(cron=[]), "spec.schedule.cron", "at least 1"),
        (Kind.PERIODIC_JOB, periodic(cron="0 2 * * *"), "spec.schedule.cron", "array"),
        (Kind.PERIODIC_JOB, periodic(cron=["x" * 129]), "spec.schedule.cron[0]", "128"),
        (Kind.PERIODIC_JOB, periodic(cron=["* * * * *"] * 17), "spec.schedule.cron", "16"),
        (Kind.PERIODIC_JOB, periodic(intervalSeconds=0), "spec.schedule.intervalSeconds", " 0 "),
        (Kind.PERIODIC_JOB, periodic(intervalSeconds="5"), "spec.schedule.intervalSeconds", "integer"),
        (Kind.WORKER_POOL, worker_pool(maxReplicas=None), "spec.autoscaling", "maxReplicas"),
        (Kind.WORKER_POOL, worker_pool(minReplicas=11), "spec.autoscaling", "minReplicas"),
        (Kind.WORKER_POOL, worker_pool(mode=False), "spec.autoscaling.mode", "quotes"),
        (Kind.WORKER_POOL, {**worker_pool(), "slotsHint": 0}, "spec.slotsHint", "greater"),
    ],
)
def test_spec_that_cannot_be_served_names_the_field_and_the_rule(kind: Kind, spec: Any, field: str, says: str) -> None:
    error = spec_of(kind, spec)

    assert isinstance(error, InvalidSpec)
    assert error.field == field
    assert says in str(error)
    assert len(str(error)) < 400


def test_name_is_at_most_63_characters() -> None:
    assert not isinstance(spec_of(Kind.SCHEDULED_JOB, scheduled_job(), name="x" * 63), InvalidSpec)
    assert spec_of(Kind.SCHEDULED_JOB, scheduled_job(), name="x" * 64).field == "metadata.name"


CANARY = "c4n4ry"
JSON = st.recursive(
    st.just(CANARY) | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([CANARY, "a"]), inner, max_size=3),
    max_leaves=8,
)


@given(
    value=JSON, where=st.sampled_from(["args", "kwargs", "arg", "argsFrom"]), task=st.sampled_from([{}, {"task": "t"}])
)
def test_error_about_a_spec_never_holds_an_argument(value: Any, where: str, task: dict[str, Any]) -> None:
    error = spec_of(Kind.SCHEDULED_JOB, {"template": {"spec": {where: value, **task}}})

    if isinstance(error, InvalidSpec):
        assert CANARY not in f"{error} {error.field} {error.why}"


@pytest.mark.parametrize("spec", [CANARY, {"template": CANARY}, {"template": {"spec": CANARY}}, [CANARY]])
def test_error_about_a_spec_quotes_nothing_where_an_object_belongs(spec: Any) -> None:
    error = spec_of(Kind.SCHEDULED_JOB, spec)

    assert isinstance(error, InvalidSpec)
    assert CANARY not in str(error)


def test_tenant_of_the_source_is_the_namespace() -> None:
    resource = read(ScheduledJobSpec, body(Kind.SCHEDULED_JOB, scheduled_job(), namespace="billing"), cluster="east")

    assert (resource.meta.source.tenant, resource.meta.source.cluster) == ("billing", "east")


def test_template_is_the_librarys() -> None:
    spec = spec_of(Kind.SCHEDULED_JOB, task(args=[1], kwargs={"a": [2]}, queue="q", priority="Low"))

    template = spec.template.spec.template

    assert (template.task, list(template.args), template.kwargs) == ("t", [1], {"a": [2]})
    assert (template.queue, template.priority) == ("q", JobPriority.LOW)


def test_run_at_keeps_its_instant() -> None:
    spec = spec_of(Kind.SCHEDULED_JOB, scheduled_job(runAt="2026-12-01T09:00:00+02:00"))

    assert spec.run_at == datetime(2026, 12, 1, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "inexact"),
    [
        ({"args": [2**53]}, False),
        ({"args": [2**53 + 1]}, True),
        ({"kwargs": {"a": [{"b": -(2**60)}]}}, True),
        ({"kwargs": {"a": 1.5e300}}, True),
        ({"kwargs": {"a": 0.1}}, False),
        ({"kwargs": {"true": 1}}, True),
        ({"args": [{"false": 1}]}, True),
        ({"args": [True, "true", None]}, False),
    ],
)
def test_arguments_that_yaml_or_json_may_have_changed_are_seen(fields: dict[str, Any], inexact: bool) -> None:
    assert spec_of(Kind.SCHEDULED_JOB, task(**fields)).template.spec.is_inexact is inexact


def test_arguments_survive_reading_exactly() -> None:
    arguments = [10**30, -0.0, "\u2028\u0000é", {"1": None}]

    assert json.dumps(list(spec_of(Kind.SCHEDULED_JOB, task(args=arguments)).template.spec.args)) == json.dumps(
        arguments
    )
