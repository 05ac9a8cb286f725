"""One screen of how all is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler_operator.plugin.leader import leaders
from pg_scheduler_operator.plugin.overview import lines_of, overview
from support.live_objects import conditions, lease, pjob, pool, sjob

if TYPE_CHECKING:
    Body = dict[str, Any]

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def seen(*objects: Body, leases: list[Body] | None = None) -> Any:
    return overview(objects, None if leases is None else leaders(leases, NOW), now=NOW)


@pytest.mark.parametrize(
    ("leases", "line"),
    [
        ([lease()], "operator-0 leads, in namespace pgscheduler"),
        ([lease("2026-11-24T11:58:46.000000Z")], "operator-0 leads"),
        ([lease("2026-11-24T11:58:45.000000Z")], "nobody has led in namespace pgscheduler since 2026-11-24T11:58:45Z"),
        ([lease(holder="")], "nobody has led in namespace pgscheduler since"),
        ([{"metadata": {"name": "l", "namespace": "ops"}}], "unknown: nobody has held the Lease in namespace ops"),
        ([], "unknown: there is no Lease of it"),
        (None, "unknown: you may not read Leases"),
    ],
)
def test_operator_is_told_by_its_lease(leases: list[Body] | None, line: str) -> None:
    assert seen(leases=leases).operators[0].startswith(line)


def test_objects_that_wait_for_the_operator_are_counted() -> None:
    assert seen(pjob(), sjob(observedGeneration=2), leases=[lease()]).operators[1:] == ["1 objects wait for its answer"]


@pytest.mark.parametrize(
    ("pools", "line"),
    [
        ([pool(schemaVersion=12)], "reachable, schema 12"),
        (
            [pool(), pool("other", conditions=conditions(DatabaseReachable=(False, "DatabaseUnreachable")))],
            "not reachable (DatabaseUnreachable)",
        ),
        (
            [
                pool(
                    conditions=conditions(DatabaseReachable=(True, "DatabaseAnswers"), SchemaCurrent=(False, "Pending"))
                )
            ],
            "reachable, not current (Pending)",
        ),
        ([], "unknown: no WorkerPool tells"),
        ([pool(conditions=[])], "unknown: no WorkerPool tells"),
    ],
)
def test_database_is_as_the_pools_tell(pools: list[Body], line: str) -> None:
    assert seen(*pools).database == line


def test_pools_are_listed_with_their_figures() -> None:
    assert seen(pool(demand={"due": 90, "running": 61, "orphaned": 2}, desiredReplicas=7)).pools == [
        {
            "pool": "reports",
            "namespace": "billing",
            "ready": 4,
            "desired": 7,
            "due": 90,
            "running": 61,
            "orphaned": 2,
            "scaling": "Scaling",
        }
    ]


@pytest.mark.parametrize(
    ("body", "problem", "why"),
    [
        (
            pjob(conditions=conditions(Stalled=(True, "InvalidSchedule", "hour 25"))),
            "Stalled",
            "InvalidSchedule: hour 25",
        ),
        (pjob(conditions=conditions(LastRunSucceeded=(False, "Failed"))), "not LastRunSucceeded", "Failed"),
        (pjob(conditions=conditions(OnSchedule=(False, "TickMissed"))), "not OnSchedule", "TickMissed"),
        (
            pjob(conditions=conditions(Suspended=(True, "SuspendedAfterFailures", "5 failures"))),
            "Suspended",
            "SuspendedAfterFailures: 5 failures",
        ),
        (sjob(conditions=conditions(Failed=(True, "Expired"))), "Failed", "Expired"),
        (pool(conditions=conditions(Degraded=(True, "GraceTooShort"))), "Degraded", "GraceTooShort"),
        (pool(conditions=conditions(ScalingActive=(False, "TargetInUse"))), "not ScalingActive", "TargetInUse"),
    ],
)
def test_object_in_trouble_is_listed(body: Body, problem: str, why: str) -> None:
    (row,) = seen(body).problems

    assert (row["problem"], row["why"]) == (problem, why)


@pytest.mark.parametrize(
    "body",
    [
        pjob(conditions=conditions(Suspended=(True, "Suspended", "stock-taking"), LastRunSucceeded=(None, "NoRunYet"))),
        sjob(conditions=conditions(Complete=(True, "Complete"), Failed=(False, "Complete"))),
        pool(spec={"autoscaling": {"mode": "Off"}}, conditions=conditions(ScalingActive=(False, "ScalingOff"))),
    ],
)
def test_what_somebody_wished_is_no_trouble(body: Body) -> None:
    assert seen(body).problems == []


def test_next_ticks_of_all_come_in_their_order_and_fit_the_screen() -> None:
    hourly = [(NOW + timedelta(hours=n)).isoformat() for n in range(5)]
    held = pjob("held", nextScheduleTimes=hourly, conditions=conditions(Suspended=(True, "Suspended")))

    shown = seen(
        pjob("b", nextScheduleTimes=hourly),
        pjob("a", nextScheduleTimes=hourly),
        pjob("c", nextScheduleTimes=hourly),
        held,
    ).next

    assert [(row["at"][11:13], row["object"]) for row in shown] == [
        ("13", "pjob/a"), ("13", "pjob/b"), ("13", "pjob/c"),
        ("14", "pjob/a"), ("14", "pjob/b"), ("14", "pjob/c"),
        ("15", "pjob/a"), ("15", "pjob/b"), ("15", "pjob/c"),
        ("16", "pjob/a"),
    ]  # fmt: skip


def test_screen_reads_like_this() -> None:
    shown = lines_of(
        seen(pool(schemaVersion=12), pjob(conditions=conditions(Stalled=(True, "InvalidSpec", "x"))), leases=[lease()])
    )

    assert shown == [
        "operator  operator-0 leads, in namespace pgscheduler",
        "database  reachable, schema 12",
        "",
        "POOL     NAMESPACE  READY  DESIRED  DUE  RUNNING  ORPHANED  SCALING",
        "reports  billing    4      4        0    61       0         Scaling",
        "",
        "OBJECT        NAMESPACE  PROBLEM  WHY",
        "pjob/nightly  billing    Stalled  InvalidSpec: x",
        "",
        "AT                    OBJECT        NAMESPACE",
        "2026-11-25T02:00:00Z  pjob/nightly  billing",
    ]


def test_screen_without_anything_says_so_and_a_long_one_is_cut() -> None:
    failed = [sjob(f"job-{n}", conditions=conditions(Failed=(True, "Failed"))) for n in range(12)]

    assert lines_of(seen())[-5:] == ["no WorkerPool", "", "no object in trouble", "", "no tick to come"]
    assert "and 2 more: -o json shows all" in lines_of(seen(*failed))
