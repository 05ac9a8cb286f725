from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pg_scheduler.demand import Demand, PoolRecord, Running, Waiting, WorkerLoad
from pg_scheduler_operator.reconcile.actions import (
    Action,
    DrainPods,
    EmitEvent,
    KeepPoolRecord,
    Scale,
    SetDeletionCost,
    SetStatus,
    SparePods,
)
from pg_scheduler_operator.reconcile.pool_look import Look, Sibling
from pg_scheduler_operator.reconcile.pool_memory import Memory
from pg_scheduler_operator.reconcile.scale_in import VICTIM_COST
from pg_scheduler_operator.reconcile.worker_pool import PoolPlan, plan
from pg_scheduler_operator.resources import Kind, Pod, PodStage, Resource, TargetScale, WorkerPoolSpec, read
from support.operator_world import NOW, body, worker_pool

LONG_AGO = NOW - timedelta(hours=1)
KNOWN = PoolRecord(queues=["q"], tasks=["t"])
PODS = [Pod(name=name, uid=name, created_at=LONG_AGO, grace_seconds=330) for name in ("a", "b")]
WORKERS = [
    WorkerLoad(pod_uid=pod.uid, slots=10, started_at=LONG_AGO + timedelta(seconds=3), queues=["q"], tasks=["t"])
    for pod in PODS
]
DUE = Waiting("q", "t", 0, 1)


def pool(spec: Any = None, *, status: dict[str, Any] | None = None, **metadata: Any) -> Resource[WorkerPoolSpec]:
    made = body(Kind.WORKER_POOL, worker_pool() if spec is None else spec, status=status, **metadata)
    return read(WorkerPoolSpec, made, cluster="default")


def demand(*waiting: Waiting, **changes: Any) -> Demand:
    return Demand(at=NOW, **{"waiting": waiting, "workers": WORKERS, "schema_version": 28, **changes})


def due(jobs: int) -> Demand:
    return demand(replace(DUE, jobs=jobs))


def look(demand: Demand | None = None, *, wanted: int = 2, **changes: Any) -> Look:
    target = TargetScale(wanted=wanted, existing=wanted, selector="app=workers")
    made = Look(target=target, now=NOW, pods=PODS[:wanted], demand=demand, record=KNOWN)
    return replace(made, **changes)


def told(actions: list[Action]) -> dict[str, Any]:
    (written,) = [action for action in actions if isinstance(action, SetStatus)]
    return dict(written.desired)


def verdicts(actions: list[Action]) -> dict[str, str]:
    return {
        condition["type"]: f"{condition['status']}/{condition['reason']}" for condition in told(actions)["conditions"]
    }


def planned(spec: Any, what: Look, memory: Memory | None = None) -> PoolPlan:
    return plan(pool(spec), what, memory or Memory())


def replicas(plan: PoolPlan) -> list[int]:
    return [action.replicas for action in plan.actions if isinstance(action, Scale)]


def events(plan: PoolPlan) -> list[tuple[str, str]]:
    return [(a.notice.reason.value, a.notice.note) for a in plan.actions if isinstance(a, EmitEvent)]


def shrunk(wish: int = 1, **changes: Any) -> dict[str, Any]:
    return {**worker_pool(mode="External", minReplicas=0), "replicas": wish, **changes}


def test_pool_follows_due_running_orphaned_and_soon_due_jobs() -> None:
    busy = [replace(WORKERS[0], busy=10), replace(WORKERS[1], busy=10)]
    running = [Running("q", 20, on_living_worker=True), Running("q", 10, on_living_worker=False)]
    ahead = [Waiting("q", "t", 7, 6), Waiting("q", "t", 8, 6)]  # a worker takes three seconds, the operator four
    what = demand(replace(DUE, jobs=20), *ahead, workers=busy, running=running)

    made = planned(None, look(what))

    assert replicas(made) == [7]  # 56 slots at 80 % of ten
    assert told(made.actions)["desiredReplicas"] == 7
    assert told(made.actions)["demand"] == {"due": 20, "running": 20, "orphaned": 10, "upcoming": 6}
    assert told(made.actions)["selector"] == "app=workers"
    assert told(made.actions)["tasks"] == ["t"]
    assert (told(made.actions)["readyReplicas"], told(made.actions)["schemaVersion"]) == (2, 28)
    assert verdicts(made.actions) == {
        "Ready": "True/Accepted",
        "Stalled": "False/Accepted",
        "ScalingActive": "True/Scaling",
        "DatabaseReachable": "True/DatabaseAnswers",
        "SchemaCurrent": "True/SchemaCurrent",
        "Degraded": "False/Healthy",
    }


def test_pool_that_is_right_is_not_scaled() -> None:
    assert replicas(planned(None, look(due(11)))) == []


def test_scaling_is_told_with_the_figures() -> None:
    assert events(planned(None, look(due(30)))) == [("ScaledUp", "from 2 to 4 replicas: 30 jobs due, 0 running")]


@pytest.mark.parametrize(
    ("seconds", "starts", "expected"),
    [
        (34, {}, [1]),
        (35, {}, []),
        (12, {"x": 8.0}, [1]),
        (13, {"x": 8.0}, []),
        (60, {"x": 500.0}, [1]),
        (61, {"x": 500.0}, []),
    ],
)
def test_pool_starts_ahead_of_what_will_be_due_by_the_time_a_worker_has_started(
    seconds: int, starts: dict[str, float], expected: list[int]
) -> None:
    """Thirty seconds while nothing is measured, four for the operator's own turns, and never beyond the maximum."""
    spec = worker_pool(lookahead={"maxSeconds": 60})
    record = replace(KNOWN, start_seconds=starts)
    what = demand(Waiting("q", "t", seconds, 1), workers=[])

    assert replicas(planned(spec, look(what, wanted=0, record=record))) == expected


@pytest.mark.parametrize(("has_schedules", "expected"), [(True, [1]), (False, [])])
def test_pool_that_does_not_look_ahead_keeps_a_replica_for_schedules(has_schedules: bool, expected: list[int]) -> None:
    what = demand(Waiting("q", "t", 1, 1), workers=[], has_schedules=has_schedules)

    assert replicas(planned(worker_pool(lookahead={"mode": "Off"}), look(what, wanted=0))) == expected


def test_mistyped_task_never_needs_more_than_one_replica_and_for_ten_minutes_only() -> None:
    what = demand(Waiting("q", "typo", 0, 1000), workers=[])

    made = planned(None, look(what, wanted=0))
    (kept,) = [action.record for action in made.actions if isinstance(action, KeepPoolRecord)]
    later = replace(what, at=NOW + timedelta(minutes=10))

    assert replicas(made) == [1]
    assert kept.strangers == {"q/typo": NOW}
    assert replicas(planned(None, look(what, wanted=0, record=kept))) == [1]
    assert replicas(planned(None, look(later, wanted=0, record=kept))) == []


def test_task_is_no_stranger_once_a_worker_of_the_pool_has_registered_it() -> None:
    what = demand(Waiting("q", "new", 0, 50), workers=[replace(WORKERS[0], tasks=["new"])])
    asked = PoolRecord(strangers={"q/new": NOW})

    made = planned(None, look(what, wanted=1, record=asked))

    (kept,) = [action.record for action in made.actions if isinstance(action, KeepPoolRecord)]
    assert (kept.queues, kept.tasks, kept.start_seconds) == (["q"], ["new"], {"a": 3.0})
    assert replicas(made) == [7]


def test_record_that_says_nothing_new_is_not_written() -> None:
    first = planned(None, look(due(1)))
    (kept,) = [action.record for action in first.actions if isinstance(action, KeepPoolRecord)]

    second = planned(None, look(due(1), record=kept))

    assert [action for action in second.actions if isinstance(action, KeepPoolRecord)] == []


def test_two_pools_share_what_both_are_asked_for_by_their_slots() -> None:
    other = Sibling(name="o", uid="o", created_at=NOW, target="others", queues=["q"], capacity=300)
    elsewhere = replace(other, queues=["p"])

    assert replicas(planned(None, look(due(160)))) == [10]
    assert replicas(planned(None, look(due(160), siblings=[other]))) == [5]
    assert replicas(planned(None, look(due(160), siblings=[elsewhere]))) == [10]


@pytest.mark.parametrize(("globs", "expected"), [(None, [3]), (["t*"], [3]), (["x.*"], []), ([], [])])
def test_tasks_that_the_pool_does_not_allow_do_not_count(globs: list[str] | None, expected: list[int]) -> None:
    spec = worker_pool() if globs is None else {**worker_pool(), "allowedTasks": globs}
    what = demand(replace(DUE, jobs=60), workers=[])

    assert replicas(planned(spec, look(what, wanted=0))) == expected


def test_what_is_remembered_of_strangers_is_bounded_and_the_oldest_stay() -> None:
    many = demand(*(Waiting("q", f"typo{n:03}", 0, 1) for n in range(150)), workers=[])
    first = planned(None, look(many, wanted=0))
    (kept,) = [action.record for action in first.actions if isinstance(action, KeepPoolRecord)]

    again = planned(None, look(replace(many, at=NOW + timedelta(minutes=11)), wanted=0, record=kept))

    assert len(kept.strangers) == 100
    assert [action for action in again.actions if isinstance(action, KeepPoolRecord | Scale)] == []


def test_pool_is_held_while_nobody_knows_the_demand() -> None:
    made = planned(shrunk(), look(None))

    assert replicas(made) == []
    assert verdicts(made.actions)["ScalingActive"] == "False/DemandUnknown"
    assert verdicts(made.actions)["DatabaseReachable"] == "False/DatabaseUnreachable"
    assert verdicts(made.actions)["SchemaCurrent"] == "Unknown/DatabaseUnreachable"
    assert "demand" not in told(made.actions)


def test_after_ten_minutes_without_figures_nothing_is_taken_away_in_haste() -> None:
    """In virtual time. Who is idle before, and just after, may have worked in between, or is about to."""
    idle, memory = worker_pool(minReplicas=0), Memory()
    for second in range(0, 200, 5):
        memory = planned(idle, look(demand(), now=NOW + timedelta(seconds=second)), memory).memory
    for second in range(200, 800, 5):
        away = planned(idle, look(None, now=NOW + timedelta(seconds=second)), memory)
        assert [action for action in away.actions if not isinstance(action, SetStatus)] == []
        memory = away.memory

    marked = []
    for second in range(800, 1200, 5):
        back = planned(idle, look(demand(), now=NOW + timedelta(seconds=second)), memory)
        marked += [(second - 800, len(a.pod_uids)) for a in back.actions if isinstance(a, DrainPods)]
        memory = back.memory

    assert marked[0] == (120, 1)  # the window
    assert next(each for each in marked if each[1] == 2) == (300, 2)  # the last one's idle time


@pytest.mark.parametrize(("mode", "verdict"), [("External", "True/Scaling"), ("Off", "False/ScalingOff")])
def test_wish_of_others_is_carried_out_within_the_bounds(mode: str, verdict: str) -> None:
    spec = worker_pool(mode=mode, minReplicas=1)

    up = planned({**spec, "replicas": 4}, look(due(0)))

    assert replicas(up) == [4]
    assert verdicts(up.actions)["ScalingActive"] == verdict
    assert replicas(planned({**spec, "replicas": 40}, look(due(0)))) == [10]
    assert replicas(planned({**spec, "replicas": 2}, look(due(1000)))) == []
    assert [a.pod_uids for a in planned({**spec, "replicas": 0}, look(due(0))).actions if isinstance(a, DrainPods)] == [
        ("a",)
    ]


def test_wish_is_ignored_and_that_is_told_once_while_the_operator_decides() -> None:
    spec = {**worker_pool(), "replicas": 5}
    first = planned(spec, look(due(11)))
    again = plan(pool(spec, status=told(first.actions)), look(due(11)), Memory())

    assert replicas(first) == []
    assert [reason for reason, _ in events(first)] == ["ReplicasIgnored"]
    assert events(again) == []


def test_pool_without_its_target_is_stalled() -> None:
    made = planned(None, look(due(100), target=None))

    assert replicas(made) == []
    assert verdicts(made.actions)["Ready"] == "False/TargetNotFound"
    assert verdicts(made.actions)["ScalingActive"] == "False/TargetNotFound"


def test_pool_with_an_invalid_spec_is_held() -> None:
    made = planned(worker_pool(minReplicas=11), look(due(100)))

    assert replicas(made) == []
    assert verdicts(made.actions)["Ready"] == "False/InvalidSpec"


OLDER = Sibling(name="o", uid="o", created_at=LONG_AGO, target="workers", queues=[], capacity=1)
DRAINING = [replace(WORKERS[0], mark_seconds=50.0, drained_seconds=10.0), WORKERS[1]]
MARKED = [replace(PODS[0], deletion_cost=VICTIM_COST), PODS[1]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"autoscaler": "hpa"}, "ForeignAutoscaler"),
        ({"siblings": [OLDER]}, "TargetInUse"),
    ],
)
def test_pool_whose_target_others_scale_is_held(changes: dict[str, Any], reason: str) -> None:
    made = planned(None, look(due(100), **changes))

    assert replicas(made) == []
    assert verdicts(made.actions)["ScalingActive"] == f"False/{reason}"
    assert verdicts(made.actions)["Ready"] == "True/Accepted"


def test_pool_that_may_not_scale_leaves_no_mark_and_no_cost() -> None:
    made = planned(shrunk(), look(demand(workers=DRAINING), pods=MARKED, autoscaler="hpa"))

    assert [a.pod_uids for a in made.actions if isinstance(a, SparePods)] == [("a",)]
    assert [(a.pod, a.cost) for a in made.actions if isinstance(a, SetDeletionCost)] == [("a", None)]


def test_younger_of_two_pools_does_not_touch_the_marks_of_the_older() -> None:
    made = planned(shrunk(), look(demand(workers=DRAINING), pods=MARKED, siblings=[OLDER]))

    assert not [a for a in made.actions if isinstance(a, SparePods | SetDeletionCost | Scale)]


def test_older_of_two_pools_goes_on() -> None:
    younger = replace(OLDER, created_at=NOW + timedelta(hours=1))

    assert replicas(planned(None, look(due(30), siblings=[younger]))) == [4]


def test_replicas_that_somebody_keeps_writing_are_left_alone() -> None:
    memory = Memory()
    for minute in range(3):
        made = planned(None, look(due(30), now=NOW + timedelta(minutes=minute)), memory)
        assert replicas(made) == [4]
        memory = made.memory

    contested = planned(None, look(due(30), now=NOW + timedelta(minutes=3)), memory)
    quiet = planned(None, look(due(30), now=NOW + timedelta(minutes=14)), contested.memory)

    assert replicas(contested) == []
    assert verdicts(contested.actions)["ScalingActive"] == "False/ReplicasContested"
    assert replicas(quiet) == [4]


def test_scale_in_is_mark_cost_and_lowering_in_this_order() -> None:
    first = planned(shrunk(), look(demand()))
    second = planned(shrunk(), look(demand(workers=DRAINING)))
    third = planned(shrunk(), look(demand(workers=DRAINING), pods=MARKED))

    assert [a.pod_uids for a in first.actions if isinstance(a, DrainPods)] == [("a",)]
    assert [(a.pod, a.cost) for a in second.actions if isinstance(a, SetDeletionCost)] == [("a", VICTIM_COST)]
    assert [(a.wanted, a.replicas, [pod.name for pod in a.victims]) for a in third.actions if isinstance(a, Scale)] == [
        (2, 1, ["a"])
    ]
    assert [replicas(each) for each in (first, second, third)] == [[], [], [1]]
    assert [each.again_in_seconds for each in (first, second, third)] == [0.5, 0.5, 0.5]
    assert [(each.marked_pods, each.is_held) for each in (first, second, third)] == [(1, False)] * 3


def test_scale_in_that_is_held_is_told() -> None:
    made = planned(shrunk(), look(demand(), pods=[replace(PODS[0], stage=PodStage.UNREADY), PODS[1]]))

    assert (made.is_held, made.marked_pods) == (True, 0)


@pytest.mark.parametrize(
    ("left", "wrong"), [(["b"], 0), (["a"], 1), (["a", "b"], 0), ([], 0)], ids=["right", "wrong", "not yet", "both"]
)
def test_pod_that_goes_in_the_place_of_a_victim_is_told(left: list[str], wrong: int) -> None:
    lowered = planned(shrunk(), look(demand(workers=DRAINING), pods=MARKED))
    standing = [pod for pod in MARKED if pod.name in left]
    after = look(demand(), wanted=1, pods=standing, now=NOW + timedelta(seconds=2))

    made = planned(shrunk(), after, lowered.memory)

    assert made.wrong_victims == wrong
    assert [reason for reason, _ in events(made)] == ["WrongVictim"] * wrong
    assert planned(shrunk(), after, made.memory).wrong_victims == 0 or left == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "False/Healthy"),
        ({"pods": [replace(PODS[0], grace_seconds=299), PODS[1]]}, "True/GraceTooShort"),
        ({"pods": [replace(PODS[0], deletion_cost=3), PODS[1]]}, "True/ForeignDeletionCost"),
        ({"pods": [replace(PODS[0], stage=PodStage.UNREADY), PODS[1]]}, "False/Healthy"),
    ],
)
def test_what_hinders_the_draining_is_a_condition(changes: dict[str, Any], verdict: str) -> None:
    assert verdicts(planned(shrunk(), look(demand(), **changes)).actions)["Degraded"] == verdict


def test_worker_that_does_not_know_its_pod_hinders_the_draining() -> None:
    what = demand(workers=[*WORKERS, replace(WORKERS[0], pod_uid=None)])

    assert verdicts(planned(shrunk(), look(what)).actions)["Degraded"] == "True/PodsUnknown"


def test_database_of_another_release_is_told() -> None:
    made = planned(None, look(demand(is_schema_current=False)))

    assert verdicts(made.actions)["SchemaCurrent"] == "False/SchemaOutdated"


@pytest.mark.parametrize(
    ("reported", "remembered", "hint", "expected"),
    [(10, 20, 50, 10), (None, 20, 50, 5), (None, None, 50, 2), (None, None, None, 4)],
)
def test_slots_are_those_reported_then_remembered_then_hinted(
    reported: int | None, remembered: int | None, hint: int | None, expected: int
) -> None:
    spec = worker_pool(targetUtilizationPercent=100)
    spec = spec if hint is None else {**spec, "slotsHint": hint}
    status = {} if remembered is None else {"slotsPerReplica": remembered}
    workers = [] if reported is None else [replace(WORKERS[0], slots=reported)]
    what = demand(replace(DUE, jobs=100), workers=workers)

    made = plan(pool(spec, status=status), look(what, wanted=0, pods=PODS), Memory())

    assert replicas(made) == [expected]
    assert told(made.actions).get("slotsPerReplica") == (reported or remembered)


def test_pool_that_is_being_deleted_is_left_alone() -> None:
    deleted = pool(deletionTimestamp="2026-11-24T12:00:00Z")

    assert plan(deleted, look(due(100)), Memory()).actions == []


@pytest.mark.parametrize("counted", [None, due(11)])
def test_plan_after_the_status_is_written_is_empty(counted: Demand | None) -> None:
    first = planned(None, look(counted))
    records = [action.record for action in first.actions if isinstance(action, KeepPoolRecord)]
    later = look(counted, now=NOW + timedelta(minutes=1), record=records[0] if records else KNOWN)

    assert plan(pool(status=told(first.actions)), later, first.memory).actions == []
