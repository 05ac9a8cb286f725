from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pg_scheduler.control import Demand
from pg_scheduler_operator.reconcile.actions import Action, EmitEvent, Scale, SetStatus
from pg_scheduler_operator.reconcile.worker_pool import plan
from pg_scheduler_operator.resources import Kind, Resource, TargetScale, WorkerPoolSpec, read
from support.operator_world import NOW, body, worker_pool

TWO = TargetScale(wanted=2, existing=2)


def pool(spec: Any = None, *, status: dict[str, Any] | None = None, **metadata: Any) -> Resource[WorkerPoolSpec]:
    made = body(Kind.WORKER_POOL, worker_pool() if spec is None else spec, status=status, **metadata)
    return read(WorkerPoolSpec, made, cluster="default")


def demand(due: int = 0, running: int = 0, orphaned: int = 0, *, slots: int | None = 10) -> Demand:
    return Demand(due=due, running=running, orphaned=orphaned, workers=1, slots_per_worker=slots)


def told(actions: list[Action]) -> dict[str, Any]:
    (written,) = [action for action in actions if isinstance(action, SetStatus)]
    return dict(written.desired)


def verdicts(actions: list[Action]) -> dict[str, str]:
    return {
        condition["type"]: f"{condition['status']}/{condition['reason']}" for condition in told(actions)["conditions"]
    }


def replicas(actions: list[Action]) -> list[int]:
    return [action.replicas for action in actions if isinstance(action, Scale)]


def test_pool_follows_due_running_and_orphaned_jobs() -> None:
    actions = plan(pool(), TWO, demand(21, 20, 10), now=NOW)

    assert replicas(actions) == [6]
    assert told(actions)["desiredReplicas"] == 6
    assert told(actions)["demand"] == {"due": 21, "running": 20, "orphaned": 10}
    assert verdicts(actions) == {
        "Ready": "True/Accepted",
        "Stalled": "False/Accepted",
        "ScalingActive": "True/Scaling",
        "DatabaseReachable": "True/DatabaseAnswers",
    }


def test_pool_that_is_right_is_not_scaled() -> None:
    assert replicas(plan(pool(), TWO, demand(11), now=NOW)) == []


def test_scaling_is_told_with_the_figures() -> None:
    actions = plan(pool(), TWO, demand(running=1), now=NOW)

    (event,) = [action.notice for action in actions if isinstance(action, EmitEvent)]
    assert event.reason == "ScaledDown"
    assert event.note == "from 2 to 1 replicas: 0 due, 1 running, 0 orphaned"


def test_pool_is_held_while_nobody_knows_the_demand() -> None:
    actions = plan(pool(), TWO, None, now=NOW)

    assert replicas(actions) == []
    assert verdicts(actions)["ScalingActive"] == "False/DemandUnknown"
    assert verdicts(actions)["DatabaseReachable"] == "False/DatabaseUnreachable"
    assert "demand" not in told(actions)


def test_pool_that_is_off_is_only_counted() -> None:
    actions = plan(pool(worker_pool(mode="Off")), TWO, demand(100), now=NOW)

    assert replicas(actions) == []
    assert verdicts(actions)["ScalingActive"] == "False/ScalingOff"
    assert told(actions)["demand"]["due"] == 100


def test_pool_without_its_target_is_stalled() -> None:
    actions = plan(pool(), None, demand(100), now=NOW)

    assert replicas(actions) == []
    assert verdicts(actions)["Ready"] == "False/TargetNotFound"
    assert verdicts(actions)["ScalingActive"] == "False/TargetNotFound"


def test_pool_with_an_invalid_spec_is_held() -> None:
    actions = plan(pool(worker_pool(minReplicas=11)), TWO, demand(100), now=NOW)

    assert replicas(actions) == []
    assert verdicts(actions)["Ready"] == "False/InvalidSpec"


@pytest.mark.parametrize(
    ("reported", "remembered", "hint", "expected"),
    [(10, 20, 50, 10), (None, 20, 50, 5), (None, None, 50, 2), (None, None, None, 4)],
)
def test_slots_are_those_reported_then_remembered_then_hinted(
    reported: int | None, remembered: int | None, hint: int | None, expected: int
) -> None:
    spec = worker_pool() if hint is None else {**worker_pool(), "slotsHint": hint}
    status = {} if remembered is None else {"slotsPerReplica": remembered}

    actions = plan(pool(spec, status=status), TargetScale(wanted=0, existing=0), demand(100, slots=reported), now=NOW)

    assert replicas(actions) == [expected]
    assert told(actions).get("slotsPerReplica") == (reported or remembered)


def test_pool_that_is_being_deleted_is_left_alone() -> None:
    assert plan(pool(deletionTimestamp="2026-11-24T12:00:00Z"), TWO, demand(100), now=NOW) == []


@pytest.mark.parametrize("counted", [None, demand(11)])
def test_plan_after_the_status_is_written_is_empty(counted: Demand | None) -> None:
    first = plan(pool(), TWO, counted, now=NOW)

    assert plan(pool(status=told(first)), TWO, counted, now=NOW + timedelta(minutes=1)) == []
