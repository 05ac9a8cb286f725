from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler.errors import InvalidSchedule
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.recurrence import Bounds, Cron, Interval, Policy
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.resources import (
    ARGUMENTS_MAX_BYTES,
    RESUME_REQUESTED_AT,
    AmbiguousTimePolicy,
    Kind,
    MissedRunPolicy,
    NonexistentTimePolicy,
    OverlapPolicy,
    PeriodicJobSpec,
    ScheduledJobSpec,
    WorkerPoolSpec,
    read,
)
from support.operator_world import body, periodic_job, scheduled_job, worker_pool

ALMOST_9999 = "9998-12-31T23:59:59.999999Z"
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
        (Kind.PERIODIC_JOB, periodic(intervalSeconds=5, phaseSeconds=4, jitterSeconds=4)),
        (Kind.PERIODIC_JOB, periodic(intervalSeconds=5, nonexistentTimePolicy="Skip", ambiguousTimePolicy="Both")),
        (Kind.PERIODIC_JOB, periodic(cron=["0 2 * * *"], seconds="0,30", jitterSeconds=86400)),
        (Kind.PERIODIC_JOB, periodic(cron=["0 2 * * *"], startTime="2026-12-01T00:00:00+02:00")),
        (Kind.PERIODIC_JOB, periodic(intervalSeconds=5, startTime="1970-01-01T00:00:00Z", endTime=ALMOST_9999)),
        (Kind.PERIODIC_JOB, periodic_job(suspend=False, suspendReason="moving\nhouse", overlapPolicy=None)),
        (Kind.PERIODIC_JOB, periodic_job(startingDeadlineSeconds=0, maxRuns=2**31 - 1, suspendAfterFailures=1)),
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
        (Kind.SCHEDULED_JOB, {}, "spec", "exactly one of template"),
        (Kind.SCHEDULED_JOB, None, "spec", "exactly one of template"),
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
        (Kind.SCHEDULED_JOB, scheduled_job(runAt="9999-12-31T23:59:59-12:00"), "spec.runAt", "9999"),
        (Kind.PERIODIC_JOB, periodic(intervalSeconds=5, seconds="0"), "spec.schedule.seconds", "cron only"),
        (Kind.PERIODIC_JOB, periodic(cron=["* * * * *"], seconds=0), "spec.schedule.seconds", "string"),
        (Kind.PERIODIC_JOB, periodic(cron=["* * * * *"], seconds=""), "spec.schedule.seconds", "at least 1"),
        (
            Kind.PERIODIC_JOB,
            periodic(cron=["* * * * *"], phaseSeconds=0),
            "spec.schedule.phaseSeconds",
            "intervalSeconds only",
        ),
        (Kind.PERIODIC_JOB, periodic(intervalSeconds=5, phaseSeconds=5), "spec.schedule.phaseSeconds", "below it"),
        (Kind.PERIODIC_JOB, periodic(intervalSeconds=5, phaseSeconds=-1), "spec.schedule.phaseSeconds", "-1"),
        (
            Kind.PERIODIC_JOB,
            periodic(intervalSeconds=5, jitterSeconds=5),
            "spec.schedule.jitterSeconds",
            "must be below",
        ),
        (
            Kind.PERIODIC_JOB,
            periodic(cron=["* * * * *"], jitterSeconds=86401),
            "spec.schedule.jitterSeconds",
            "less than or equal to 86400",
        ),
        (
            Kind.PERIODIC_JOB,
            periodic(intervalSeconds=5, ambiguousTimePolicy="first"),
            "spec.schedule.ambiguousTimePolicy",
            "'First'",
        ),
        (
            Kind.PERIODIC_JOB,
            periodic(intervalSeconds=5, nonexistentTimePolicy="Shift"),
            "spec.schedule.nonexistentTimePolicy",
            "'ShiftForward' or 'Skip'",
        ),
        (
            Kind.PERIODIC_JOB,
            periodic(intervalSeconds=5, startTime="2026-12-01T00:00:00Z", endTime="2026-12-01T01:00:00+01:00"),
            "spec.schedule.endTime",
            "after startTime",
        ),
        (Kind.PERIODIC_JOB, periodic(intervalSeconds=5, startTime="2026-12-01"), "spec.schedule.startTime", "its zone"),
        (
            Kind.PERIODIC_JOB,
            periodic(intervalSeconds=5, startTime="1969-12-31T23:59:59Z"),
            "spec.schedule.startTime",
            "before the year 1970",
        ),
        (
            Kind.PERIODIC_JOB,
            periodic(intervalSeconds=5, startTime="0001-01-01T00:00:00+14:00"),
            "spec.schedule.startTime",
            "before the year 1970",
        ),
        (
            Kind.PERIODIC_JOB,
            periodic(intervalSeconds=5, endTime="9999-12-31T23:59:59-12:00"),
            "spec.schedule.endTime",
            "before the year 9999",
        ),
        (Kind.PERIODIC_JOB, periodic_job(overlapPolicy="skip"), "spec.overlapPolicy", "'Replace' or 'Allow'"),
        (Kind.PERIODIC_JOB, periodic_job(overlapPolicy="Forbid"), "spec.overlapPolicy", '"Forbid"'),
        (Kind.PERIODIC_JOB, periodic_job(missedRunPolicy="All"), "spec.missedRunPolicy", "'RunAll'"),
        (Kind.PERIODIC_JOB, periodic_job(startingDeadlineSeconds=-1), "spec.startingDeadlineSeconds", "-1"),
        (Kind.PERIODIC_JOB, periodic_job(startingDeadlineSeconds=2**31), "spec.startingDeadlineSeconds", "2147483647"),
        (Kind.PERIODIC_JOB, periodic_job(maxCatchUp=0), "spec.maxCatchUp", " 0 "),
        (Kind.PERIODIC_JOB, periodic_job(maxCatchUp=10001), "spec.maxCatchUp", "10000"),
        (Kind.PERIODIC_JOB, periodic_job(maxRuns=0), "spec.maxRuns", " 0 "),
        (Kind.PERIODIC_JOB, periodic_job(suspendAfterFailures=0), "spec.suspendAfterFailures", " 0 "),
        (Kind.PERIODIC_JOB, periodic_job(suspendAfterFailures=1001), "spec.suspendAfterFailures", "1000"),
        (Kind.PERIODIC_JOB, periodic_job(suspendReason="x" * 257), "spec.suspendReason", "256"),
        (Kind.PERIODIC_JOB, periodic_job(suspendReason="\0"), "spec.suspendReason", "pattern"),
        (
            Kind.PERIODIC_JOB,
            periodic(intervalSeconds=5, overlapPolicy="Skip"),
            "spec.schedule.overlapPolicy",
            "no field",
        ),
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

    template = spec.template.made()

    assert (template.task, list(template.args), template.kwargs) == ("t", [1], {"a": [2]})
    assert (template.queue, template.priority) == ("q", JobPriority.LOW)


@pytest.mark.parametrize(
    ("schedule", "rule"),
    [
        ({"intervalSeconds": 900}, Interval(900)),
        ({"intervalSeconds": 900, "phaseSeconds": 300}, Interval(900, 300)),
        ({"cron": ["0 2 * * *", "0 3 * * *"]}, Cron(("0 2 * * *", "0 3 * * *"))),
        (
            {
                "cron": ["0 2 * * *"],
                "seconds": "0,30",
                "timeZone": "Europe/Berlin",
                "nonexistentTimePolicy": "Skip",
                "ambiguousTimePolicy": "Last",
            },
            Cron(("0 2 * * *",), "Europe/Berlin", "0,30", "skip", "last"),
        ),
    ],
)
def test_rule_is_the_librarys(schedule: dict[str, Any], rule: Interval | Cron) -> None:
    assert spec_of(Kind.PERIODIC_JOB, periodic(**schedule)).schedule.rule == rule


def test_bounds_are_the_librarys() -> None:
    schedule = {"intervalSeconds": 60, "jitterSeconds": 5, "startTime": "2026-12-01T00:00:00Z", "endTime": ALMOST_9999}

    assert spec_of(Kind.PERIODIC_JOB, periodic_job(schedule=schedule, maxRuns=7)).bounds == Bounds(
        jitter_seconds=5,
        start_at=datetime(2026, 12, 1, tzinfo=UTC),
        end_at=datetime(9999, 1, 1, tzinfo=UTC) - timedelta(microseconds=1),
        max_runs=7,
    )


def test_policy_is_the_librarys() -> None:
    choices = {
        "overlapPolicy": "Queue",
        "missedRunPolicy": "RunAll",
        "maxCatchUp": 3,
        "startingDeadlineSeconds": 60,
        "suspendAfterFailures": 5,
    }

    assert spec_of(Kind.PERIODIC_JOB, periodic_job(**choices)).policy == Policy(
        missed="run_all", max_catch_up=3, starting_deadline_seconds=60, overlap="queue", suspend_after_failures=5
    )


def test_runs_do_not_overlap_unless_the_manifest_says_so() -> None:
    assert spec_of(Kind.PERIODIC_JOB, periodic_job()).policy == Policy(overlap="skip", missed="run_latest")
    assert spec_of(Kind.PERIODIC_JOB, periodic_job()).bounds == Bounds()


@pytest.mark.parametrize(
    ("words", "field", "read_back"),
    [
        (OverlapPolicy, "overlapPolicy", lambda spec: spec.policy.overlap),
        (MissedRunPolicy, "missedRunPolicy", lambda spec: spec.policy.missed),
        (NonexistentTimePolicy, "nonexistentTimePolicy", lambda spec: spec.schedule.rule.nonexistent),
        (AmbiguousTimePolicy, "ambiguousTimePolicy", lambda spec: spec.schedule.rule.ambiguous),
    ],
)
def test_every_word_of_a_manifest_is_one_of_the_library(words: Any, field: str, read_back: Any) -> None:
    for word in words:
        on_top = {field: word.value} if field in {"overlapPolicy", "missedRunPolicy"} else {}
        schedule = {"cron": ["0 2 * * *"], **({} if on_top else {field: word.value})}

        assert read_back(spec_of(Kind.PERIODIC_JOB, periodic_job(schedule=schedule, **on_top))) == word.name.lower()


@pytest.mark.parametrize(
    ("cron", "seconds", "gap"),
    [
        (["* * * * *"], None, 60),
        (["* * * * *"], "0,20,55", 5),
        (["0 2 * * *", "0 3 * * MON"], None, 3600),
        (["0 2 * * *"], None, 23 * 3600),  # the night on which the clocks go forward
        (["0 2 * * SAT"], None, None),
        (["0 0 29 2 *"], None, None),
    ],
)
def test_jitter_beside_cron_is_less_than_the_shortest_gap(
    cron: list[str], seconds: str | None, gap: int | None
) -> None:
    def bounds(jitter: int) -> Bounds:
        rule = {"cron": cron, "seconds": seconds, "timeZone": "Europe/Berlin"}
        bounds: Bounds = spec_of(Kind.PERIODIC_JOB, periodic(**rule, jitterSeconds=jitter)).bounds
        return bounds

    allowed = 86400 if gap is None else gap - 1
    assert bounds(allowed).jitter_seconds == allowed
    if gap is not None:
        with pytest.raises(InvalidSchedule, match=f"two ticks lie {gap} seconds apart") as refused:
            bounds(gap)
        assert refused.value.field == "jitterSeconds"


EDGES = st.sampled_from([None, 0, 1, 2, 1000, 1001, 10_000, 10_001, 2**31 - 1, 2**31])


@given(
    interval=st.integers(2, 5),
    phase=st.none() | st.integers(-1, 5),
    jitter=st.none() | st.integers(-1, 5),
    start=st.none() | st.datetimes(datetime(1969, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 (UTC is added)
    end=st.none() | st.datetimes(datetime(9998, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    overlap=st.sampled_from(OverlapPolicy),
    missed=st.sampled_from(MissedRunPolicy),
    numbers=st.tuples(EDGES, EDGES, EDGES, EDGES),
)
def test_what_the_schema_takes_the_library_takes(
    interval: int,
    phase: int | None,
    jitter: int | None,
    start: datetime | None,
    end: datetime | None,
    overlap: OverlapPolicy,
    missed: MissedRunPolicy,
    numbers: tuple[int | None, ...],
) -> None:
    instants = {"startTime": start and start.isoformat(), "endTime": end and end.isoformat()}
    schedule = {"intervalSeconds": interval, "phaseSeconds": phase, "jitterSeconds": jitter, **instants}
    fields = ("startingDeadlineSeconds", "maxCatchUp", "maxRuns", "suspendAfterFailures")
    policies = {"overlapPolicy": overlap, "missedRunPolicy": missed, **dict(zip(fields, numbers, strict=True))}

    spec = spec_of(Kind.PERIODIC_JOB, periodic_job(schedule=schedule, **policies))

    if not isinstance(spec, InvalidSpec):
        assert (spec.schedule.rule.every_seconds, spec.bounds.start_at, spec.bounds.end_at) == (interval, start, end)
        assert spec.policy.overlap == overlap.name.lower()


def test_instant_that_is_no_instant_asks_for_no_resumption() -> None:
    def asked(text: object) -> datetime | None:
        made = body(Kind.PERIODIC_JOB, periodic_job(), annotations={RESUME_REQUESTED_AT: text, "other": "x"})
        return read(PeriodicJobSpec, made, cluster="default").meta.resume_requested_at

    assert asked("2026-12-01T09:00:00+01:00") == datetime(2026, 12, 1, 8, tzinfo=UTC)
    assert [asked(text) for text in ("now", "", "2026-12-01", None)] == [None] * 4


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
