"""Why something does not run: each cause, found in the objects and events that show it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler_operator.plugin.causes import LOOKS
from pg_scheduler_operator.plugin.explanation import Explanation, explain, lines_of
from pg_scheduler_operator.plugin.leader import leaders
from pg_scheduler_operator.plugin.picture import Cause, Picture
from support.live_objects import TASK, conditions, lease, pjob, pool, sjob
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

Body = dict[str, Any]

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = {"concurrency": {"key": "tenant-42", "limit": 1}}
HALTED = conditions(Suspended=(True, "SuspendedAfterFailures", "5 failures in a row"))
FULL: Body = {"replicas": 20, "readyReplicas": 20, "demand": {"due": 90, "running": 500, "orphaned": 0}}


def explained(
    body: Body, *others: Body, events: Sequence[Body] = (), leases: Sequence[Body] | None = None
) -> Explanation:
    led = None if leases is None else leaders(leases, NOW)
    return explain(Picture(body=body, objects=[body, *others], events=events, leaders=led, now=NOW))


CASES = [
    pytest.param(
        sjob(
            state="Complete",
            completionTime="2026-11-24T09:00:00Z",
            conditions=conditions(Finished=(True, "Complete")),
        ),
        [pool()],
        Cause.ENDED,
        "it has ended at 2026-11-24T09:00:00Z: Complete",
        id="ended",
    ),
    pytest.param(
        sjob(state="Failed", lastError={"type": "KeyError"}, conditions=conditions(Finished=(True, "Failed"))),
        [pool()],
        Cause.ENDED,
        "it has ended: Failed (KeyError)",
        id="failed",
    ),
    pytest.param(
        sjob(state="Running", worker="report-workers-7c9f", attempt=2),
        [pool()],
        Cause.RUNNING,
        "it runs on report-workers-7c9f, attempt 2",
        id="running",
    ),
    pytest.param(
        sjob(conditions=conditions(Stalled=(True, "InvalidSpec", "spec.runAt is no instant"))),
        [pool()],
        Cause.REFUSED,
        "its spec was refused: InvalidSpec: spec.runAt is no instant",
        id="refused",
    ),
    pytest.param(
        pjob(conditions=conditions(Stalled=(True, "InvalidSchedule", "hour 25"))),
        [pool()],
        Cause.REFUSED,
        "its spec was refused: InvalidSchedule: hour 25; the last good schedule goes on",
        id="schedule refused",
    ),
    pytest.param(
        sjob(observedGeneration=2),
        [pool()],
        Cause.OPERATOR_AWAY,
        "the operator has not answered generation 3 of it, it has answered generation 2",
        id="operator behind",
    ),
    pytest.param(
        sjob(observedGeneration=None),
        [pool()],
        Cause.OPERATOR_AWAY,
        "it has answered none yet",
        id="operator never came",
    ),
    pytest.param(
        sjob(),
        [pool(conditions=conditions(DatabaseReachable=(False, "DatabaseUnreachable")))],
        Cause.DATABASE_UNREACHABLE,
        "cannot reach the database since 2026-11-24T06:00:00Z: DatabaseUnreachable",
        id="database",
    ),
    pytest.param(
        sjob(spec={"periodicJobRef": {"name": "gone"}}),
        [pool()],
        Cause.PERIODIC_JOB_MISSING,
        "it names the PeriodicJob gone, which this namespace does not have",
        id="its PeriodicJob",
    ),
    pytest.param(sjob(spec={"cancel": True}), [pool()], Cause.CANCEL_WANTED, "cancelled", id="cancelled"),
    pytest.param(
        sjob(spec={"suspend": True}), [pool()], Cause.SUSPENDED, "it is suspended by its spec", id="job suspended"
    ),
    pytest.param(
        pjob(spec={"suspend": True, "suspendReason": "stock-taking"}),
        [pool()],
        Cause.SUSPENDED,
        "it is suspended by its spec: stock-taking",
        id="schedule suspended",
    ),
    pytest.param(
        pjob(conditions=HALTED),
        [pool()],
        Cause.HALTED,
        "its runs have failed too often: SuspendedAfterFailures: 5 failures in a row",
        id="halted",
    ),
    pytest.param(
        pjob(
            conditions=conditions(Exhausted=(True, "MaxRunsReached", "it has made its 3 runs")),
            nextScheduleTimes=[],
        ),
        [pool()],
        Cause.EXHAUSTED,
        "it ticks no more: MaxRunsReached: it has made its 3 runs",
        id="exhausted",
    ),
    pytest.param(
        sjob(spec={"runAt": "2026-12-01T09:00:00Z"}),
        [pool()],
        Cause.NOT_DUE,
        "it is due at 2026-12-01T09:00:00Z, in 6d 21h",
        id="not due",
    ),
    pytest.param(pjob(), [pool()], Cause.NOT_DUE, "its next tick is at 2026-11-25T02:00:00Z, in 14h", id="no tick due"),
    pytest.param(
        sjob(attempt=2, lastError={"type": "KeyError"}),
        [pool()],
        Cause.RETRY_WAITS,
        "attempt 2 has ended with KeyError, and the next one waits",
        id="retry",
    ),
    pytest.param(
        pjob(lastRun={"state": "Running", "scheduledTime": "2026-11-24T02:00:00Z", "attempt": 1}),
        [pool()],
        Cause.RUN_GOES_ON,
        "the run of 2026-11-24T02:00:00Z goes on: until it ends, ticks do not run (overlapPolicy Skip)",
        id="predecessor",
    ),
    pytest.param(
        sjob(template=KEY, state="Waiting"),
        [pool(), sjob("other", template=KEY, state="Running"), sjob("idle", template=KEY)],
        Cause.KEY_FULL,
        "its concurrency key 'tenant-42' is full, 1 at a time: held by sjob/other",
        id="key held by an object",
    ),
    pytest.param(
        sjob(template=KEY, state="Waiting"),
        [pool()],
        Cause.KEY_FULL,
        "held by jobs without an object",
        id="key held by the library",
    ),
    pytest.param(
        sjob(spec={"periodicJobRef": {"name": "nightly"}}),
        [pjob(template=KEY, lastRun={"state": "Running"}), pool()],
        Cause.KEY_FULL,
        "held by pjob/nightly",
        id="key of its PeriodicJob",
    ),
    pytest.param(
        sjob(template={"queue": "mail"}),
        [pool(spec={"queues": [{"name": "mail", "paused": True}]})],
        Cause.QUEUE_PAUSED,
        "its queue mail is paused by wpool/reports",
        id="queue paused",
    ),
    pytest.param(
        sjob(),
        [pool(spec={"allowedTasks": ["mail.*"]})],
        Cause.TASK_NOT_ALLOWED,
        f"the task {TASK} is none of spec.allowedTasks of reports",
        id="task not allowed",
    ),
    pytest.param(sjob(), [pool(tasks=["mail.send"])], Cause.TASK_UNKNOWN, f"knows the task {TASK}", id="task unknown"),
    pytest.param(
        sjob(),
        [pool(replicas=0, readyReplicas=0, conditions=conditions(ScalingActive=(False, "DemandUnknown", "stays")))],
        Cause.NO_WORKERS,
        "no WorkerPool of this namespace has a ready worker (reports: DemandUnknown: stays)",
        id="no worker",
    ),
    pytest.param(
        sjob(),
        [pool(**FULL)],
        Cause.POOL_AT_MAXIMUM,
        "every pool is at its maximum: reports at 20 of 20 replicas, 500 running and 90 due",
        id="pool at maximum",
    ),
    pytest.param(sjob(), [pool()], Cause.NOTHING, "a worker should start it within seconds", id="nothing"),
    pytest.param(sjob(), [], Cause.NOTHING, "a worker should start it within seconds", id="nothing, without pools"),
    pytest.param(
        pool(conditions=conditions(ScalingActive=(False, "ReplicasContested", "remove replicas from Git"))),
        [],
        Cause.SCALING_HELD,
        "replicas stay as they are: ReplicasContested: remove replicas from Git",
        id="scaling held",
    ),
    pytest.param(
        pool(conditions=conditions(Degraded=(True, "GraceTooShort", "30 s"))),
        [],
        Cause.DEGRADED,
        "GraceTooShort: 30 s",
        id="degraded",
    ),
    pytest.param(
        pool(**FULL),
        [],
        Cause.POOL_AT_MAXIMUM,
        "it is at its maximum, 20 replicas: 90 due, 500 running",
        id="own maximum",
    ),
    pytest.param(pool(readyReplicas=1), [], Cause.NO_WORKERS, "1 of 4 workers are ready", id="pods missing"),
    pytest.param(pool(), [], Cause.NOTHING, "it follows the demand", id="pool is well"),
]


@pytest.mark.parametrize(("body", "others", "cause", "words"), CASES)
def test_cause_is_the_answer(body: Body, others: Sequence[Body], cause: Cause, words: str) -> None:
    first = explained(body, *others).findings[0]

    assert first.cause is cause
    assert words in first.what


def test_every_cause_has_its_case() -> None:
    assert {case.values[2] for case in CASES} == set(Cause)


def test_of_two_pools_that_name_a_queue_the_older_counts() -> None:
    mail = sjob(template={"queue": "mail"})
    pauses = pool("a", spec={"queues": [{"name": "mail", "paused": True}]})
    lets_go = pool("b", spec={"queues": [{"name": "mail", "concurrency": 40}]})
    pauses["metadata"]["creationTimestamp"] = "2026-11-02T00:00:00Z"
    lets_go["metadata"]["creationTimestamp"] = "2026-11-01T00:00:00Z"

    told = explained(mail, pauses, lets_go)

    assert told.findings[0].cause is Cause.NOTHING
    assert told.chain["queue"] == "mail: at most 40 at a time, by wpool/b"


def test_pool_that_allows_nothing_allows_nothing_and_another_may_allow_it() -> None:
    closed = pool(spec={"allowedTasks": []})

    assert explained(sjob(), closed).findings[0].cause is Cause.TASK_NOT_ALLOWED
    assert explained(sjob(), closed, pool("open")).findings[0].cause is Cause.NOTHING


def test_task_that_no_pool_tells_of_is_unknown_by_the_operators_event() -> None:
    silent = pool(tasks=[])

    assert explained(sjob(), silent).findings[0].cause is Cause.NOTHING
    told = explained(sjob(), silent, events=[{"reason": "UnknownTask", "note": "no living worker"}])
    assert told.findings[0].cause is Cause.TASK_UNKNOWN
    assert told.chain["events"] == "UnknownTask: no living worker"


def test_dead_operator_is_told_though_all_is_answered() -> None:
    away = explained(sjob(), pool(), leases=[lease("2026-11-24T11:00:00Z")]).findings[0]

    assert away.cause is Cause.OPERATOR_AWAY
    assert "nobody has led in namespace pgscheduler since 2026-11-24T11:00:00Z" in away.what
    assert explained(sjob(), pool(), leases=[lease()]).findings[0].cause is Cause.NOTHING


def test_lease_that_nobody_ever_held_tells_nothing() -> None:
    unheld = {"metadata": {"name": "pgscheduler-operator", "namespace": "pgscheduler"}}

    assert explained(sjob(), pool(), leases=[unheld]).findings[0].cause is Cause.NOTHING


def test_other_causes_stand_beside_the_answer() -> None:
    held = sjob(spec={"suspend": True, "runAt": "2026-12-01T09:00:00Z"})

    causes = [finding.cause for finding in explained(held, pool(**FULL)).findings]

    assert causes == [Cause.SUSPENDED, Cause.NOT_DUE, Cause.POOL_AT_MAXIMUM]


def test_a_run_that_waits_is_explained_before_the_next_tick() -> None:
    body = pjob(lastRun={"state": "Pending", "attempt": 0})

    assert explained(body, pool(**FULL)).findings[0].cause is Cause.POOL_AT_MAXIMUM


def test_a_pool_that_may_grow_is_not_at_its_maximum() -> None:
    demand = {"due": 90, "running": 100, "orphaned": 0}

    assert explained(sjob(), pool(demand=demand)).findings[0].cause is Cause.NOTHING


def test_a_pool_at_its_maximum_with_nothing_due_is_well() -> None:
    idle = pool(replicas=20, readyReplicas=20, demand={"due": 0, "running": 2, "orphaned": 0})

    assert explained(idle).findings[0].cause is Cause.NOTHING


def test_accepted_extra_run_does_not_miss_its_periodic_job() -> None:
    body = sjob(spec={"periodicJobRef": {"name": "gone"}}, conditions=conditions(Ready=(True, "Accepted")))

    assert explained(body, pool(spec={"allowedTasks": ["mail.*"]})).findings[0].cause is Cause.NOTHING
    assert explained(body, pool()).findings[0].cause is Cause.NOTHING


def test_chain_leads_from_the_object_to_the_workers() -> None:
    body = sjob(template=KEY, conditions=conditions(Ready=(True, "Accepted")))

    assert explained(body, pool()).chain == {
        "object": "generation 3, the operator has seen 3",
        "conditions": "Ready=True (Accepted)",
        "wants": "task reports.nightly, queue default, key 'tenant-42' (1 at a time)",
        "row": "sj-7f0c, Pending",
        "pools": "reports: 4 workers of at most 20, 0 due, 61 running, 0 orphaned",
        "workers": "known to the workers of reports",
    }


@pytest.mark.parametrize("short", LOOKS)
def test_object_that_nobody_has_answered_is_explained(short: str) -> None:
    body = {"pjob": pjob, "sjob": sjob, "wpool": pool}[short]()
    del body["status"]

    assert explained(body).findings[0].cause is Cause.OPERATOR_AWAY


def test_no_argument_is_told() -> None:
    body = sjob(template={"args": ["s3cret"], "kwargs": {"token": "s3cret"}}, state="Waiting")

    assert "s3cret" not in str(explained(body, pool(tasks=["other"])))


def test_explanation_reads_like_this() -> None:
    held = sjob(spec={"suspend": True, "runAt": "2026-12-01T09:00:00Z"})

    assert lines_of(explained(held, pool()))[:5] == [
        "sjob/once in billing: it is suspended by its spec",
        "  fix:        kubectl pgscheduler resume sjob/once",
        "  also:       it is due at 2026-12-01T09:00:00Z, in 6d 21h",
        "  fix:        change spec.runAt to run it earlier",
        "  object:     generation 3, the operator has seen 3",
    ]


def test_the_how_to_shows_what_is_printed() -> None:
    page = (ROOT / "docs" / "how-to" / "kubectl-plugin.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    task = "billing.send_invoices"
    body = sjob("send-invoices", template={"task": task, "queue": "mail"})
    pauses = pool(spec={"queues": [{"name": "mail", "paused": True}]}, tasks=[task])

    assert "\n".join(lines_of(explained(body, pauses))) + "\n" == shown
