from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler.demand import WorkerLoad
from pg_scheduler_operator.reconcile.scale_in import VICTIM_COST, Intent, ScaleIn, occupancies, scale_in
from pg_scheduler_operator.resources import Pod, PodStage
from pg_scheduler_operator.status import Reason
from support.operator_world import NOW

UNSCHEDULED, PENDING, UNREADY, READY = PodStage
LONG_AGO = NOW - timedelta(hours=1)
INTENT = Intent(wanted=3, desired=2, drain_seconds=300, uses_cost=True, has_workers_without_pod=False, now=NOW)


def pod(name: str, **changes: Any) -> Pod:
    return replace(Pod(name=name, uid=name, created_at=LONG_AGO, template="1"), **changes)


def worker(
    pod: str | None, busy: int = 0, *, mark: float | None = None, drained: float = 0, **changes: Any
) -> WorkerLoad:
    since = None if mark is None else drained
    made = WorkerLoad(pod_uid=pod, slots=10, started_at=LONG_AGO, busy=busy, mark_seconds=mark, drained_seconds=since)
    return replace(made, **changes)


PODS = [pod("a"), pod("b"), pod("c")]


def step(pods: list[Pod], *workers: WorkerLoad, **changes: Any) -> ScaleIn:
    return scale_in(occupancies(pods, workers), replace(INTENT, **changes))


def names(pods: object) -> list[str]:
    return [pod.name for pod in pods]  # type: ignore[attr-defined]


def test_idle_pod_is_marked_first() -> None:
    first = step(PODS, worker("a", 5), worker("b", 0), worker("c", 1))

    assert names(first.mark) == ["b"]
    assert (first.give_cost, first.lower, first.hold) == ([], [], None)
    assert first.is_under_way


def test_marked_idle_pod_gets_its_cost_and_then_the_target_is_lowered() -> None:
    workers = (worker("a", 5), worker("b", 0, mark=58), worker("c", 1))

    second = step(PODS, *workers)
    third = step([pod("a"), pod("b", deletion_cost=VICTIM_COST), pod("c")], *workers)

    assert (names(second.give_cost), names(second.lower)) == (["b"], [])
    assert (names(third.give_cost), names(third.lower)) == ([], ["b"])


def test_target_is_lowered_only_when_those_that_may_go_and_they_alone_are_cheap() -> None:
    """Else the ReplicaSet would choose among more pods than go."""
    cheap = pod("b", deletion_cost=VICTIM_COST)
    drained = (worker("b", 0, mark=58), worker("c", 0, mark=58))

    another_may_go = step([pod("a"), cheap, pod("c")], worker("a", 5), *drained, desired=1)
    another_may_not = step([replace(PODS[0], deletion_cost=VICTIM_COST), cheap, pod("c")], *drained, worker("a", 5))

    assert (names(another_may_go.give_cost), names(another_may_go.lower)) == (["c"], [])
    assert (names(another_may_not.clear_cost), names(another_may_not.lower)) == (["a"], [])


def test_busy_victim_is_drained_and_not_replaced_by_one_that_becomes_idle() -> None:
    waits = step(PODS, worker("a", 5), worker("b", 1, mark=58), worker("c", 0))

    assert (waits.mark, waits.spare, waits.give_cost, waits.lower) == ([], [], [], [])


def test_mark_is_renewed_while_the_victim_is_busy() -> None:
    assert names(step(PODS, worker("a", 5), worker("b", 1, mark=39), worker("c", 5)).mark) == ["b"]


@pytest.mark.parametrize(("drained", "lowered"), [(299, []), (300, ["b"])])
def test_busy_victim_goes_when_the_drain_has_lasted_its_time(drained: float, lowered: list[str]) -> None:
    pods = [pod("a"), pod("b", deletion_cost=VICTIM_COST), pod("c")]

    assert names(step(pods, worker("a", 5), worker("b", 1, mark=50, drained=drained), worker("c", 5)).lower) == lowered


def test_cost_of_a_pod_that_is_busy_again_is_taken_off() -> None:
    pods = [pod("a"), pod("b", deletion_cost=VICTIM_COST), pod("c")]

    again = step(pods, worker("a", 5), worker("b", 1, mark=50), worker("c", 5))

    assert (names(again.clear_cost), again.lower) == (["b"], [])


def test_pod_is_marked_only_when_all_of_its_workers_are() -> None:
    two = step(PODS, worker("a", 5), worker("b", 0, mark=58), worker("b", 0), worker("c", 5))

    assert (names(two.mark), two.give_cost) == (["b"], [])


@pytest.mark.parametrize("lives", [True, False])
def test_jobs_of_any_worker_of_the_pod_keep_it_busy(lives: bool) -> None:
    held = worker("b", 1, mark=58, lives=lives)

    assert step(PODS, worker("a", 5), worker("b", 0, mark=58), held, worker("c", 5)).give_cost == []


def test_nothing_stays_when_no_fewer_are_wished_for() -> None:
    pods = [pod("a"), pod("b", deletion_cost=VICTIM_COST), pod("c")]

    back = step(pods, worker("a", 0, mark=30), worker("b", 0, mark=58), worker("c"), desired=3)

    assert (names(back.spare), names(back.clear_cost)) == (["a", "b"], ["b"])
    assert not back.is_under_way


def test_marks_of_an_operator_before_us_are_taken_over() -> None:
    """Two were marked by somebody who wanted two fewer; we want one fewer: one goes on, the other is spared."""
    resumed = step(PODS, worker("a", 5), worker("b", 0, mark=20), worker("c", 3, mark=20))

    assert (names(resumed.mark), names(resumed.spare), names(resumed.give_cost)) == (["b"], ["c"], ["b"])


WORKERS = (worker("a", 5), worker("b", 0, mark=58), worker("c", 5))


@pytest.mark.parametrize(
    ("pods", "changes"),
    [
        ([pod("a"), pod("b"), pod("c", stage=UNREADY)], {}),
        ([pod("a"), pod("b"), pod("c"), pod("d", is_terminating=True)], {}),
        ([pod("a"), pod("b"), pod("c", template="2")], {}),
        ([pod("a"), pod("b"), pod("c"), pod("new", created_at=NOW)], {"wanted": 4, "desired": 3}),
    ],
    ids=["not ready", "terminating", "rollout", "no worker yet"],
)
def test_pods_that_change_hold_the_lowering_but_not_the_draining(pods: list[Pod], changes: dict[str, int]) -> None:
    held = step(pods, *WORKERS, **changes)

    assert held.hold is not None
    assert held.hold.reason is Reason.PODS_CHANGING
    assert (held.mark, held.spare, held.give_cost, held.lower) == ([], [], [], [])
    assert step(pods, *WORKERS, **{**changes, "desired": 0}).mark == []


@pytest.mark.parametrize(
    ("pods", "changes", "reason"),
    [
        ([pod("a", deletion_cost=7), pod("b"), pod("c")], {}, Reason.FOREIGN_DELETION_COST),
        (PODS, {"has_workers_without_pod": True}, Reason.PODS_UNKNOWN),
    ],
)
def test_what_will_not_pass_by_itself_ends_the_draining(
    pods: list[Pod], changes: dict[str, Any], reason: Reason
) -> None:
    held = step(pods, *WORKERS, **changes)

    assert held.hold is not None
    assert held.hold.reason is reason
    assert (names(held.spare), names(held.lower)) == (["b"], [])


def test_drained_pod_may_say_that_it_is_not_ready() -> None:
    assert names(step([pod("a"), pod("b", stage=UNREADY), pod("c")], *WORKERS).give_cost) == ["b"]


@pytest.mark.parametrize(("stage", "lowered"), [(READY, []), (UNREADY, ["b"])])
def test_busy_victim_that_is_not_ready_is_not_deleted_in_the_place_of_one_that_is(
    stage: PodStage, lowered: list[str]
) -> None:
    pods = [pod("a", stage=UNREADY), pod("b", deletion_cost=VICTIM_COST, stage=stage), pod("c")]
    workers = (worker("a", 5, mark=58), worker("b", 0, mark=58), worker("c", 5))

    assert names(step(pods, *workers, desired=1).lower) == lowered
    assert step([*pods[:1], pod("b", stage=stage), pod("c")], *workers, desired=1, uses_cost=False).lower == []


def test_old_pod_without_a_worker_goes_first_without_a_mark() -> None:
    gone = step(PODS, worker("a", 5), worker("c", 0))

    assert (gone.mark, names(gone.give_cost)) == ([], ["b"])


@pytest.mark.parametrize(("desired", "unmade"), [(4, 1), (3, 2), (0, 2), (5, 0)])
def test_replicas_that_no_pod_is_made_for_go_before_all_pods(desired: int, unmade: int) -> None:
    """Whoever drains goes on, and who is to go beside them is chosen when they are gone."""
    first = step(PODS, *WORKERS, wanted=5, desired=desired)

    assert (first.unmade, first.lowered_by, first.is_under_way) == (unmade, unmade, unmade > 0)
    assert (list(first.mark), list(first.give_cost), list(first.lower)) == ([], [], [])


def test_replicas_without_a_pod_are_waited_for_in_a_rollout() -> None:
    """A Deployment takes what it is lowered by from the pods of both templates."""
    pods = [pod("a"), pod("b"), pod("old", template="0", is_terminating=True)]

    assert step(pods, *WORKERS).unmade == 0
    assert step(pods, *WORKERS).hold is not None


@pytest.mark.parametrize("stage", [UNSCHEDULED, PENDING, UNREADY])
def test_pod_that_never_works_goes_before_all_others_and_holds_nobody(stage: PodStage) -> None:
    """Its name: it is neither idler nor newer than the rest, and one of the rest was marked for an earlier wish."""
    workers = (worker("a", 0, mark=50), worker("c", 5))

    second = step([pod("a"), pod("b", stage=stage), pod("c")], *workers)
    third = step([pod("a"), pod("b", stage=stage, deletion_cost=VICTIM_COST), pod("c")], *workers)

    assert (second.hold, names(second.give_cost), names(second.spare)) == (None, ["b"], ["a"])
    assert (third.hold, names(third.lower)) == (None, ["b"])


@pytest.mark.parametrize("stage", [UNSCHEDULED, PENDING, UNREADY])
@pytest.mark.parametrize("uses_cost", [True, False])
def test_of_many_pods_that_never_work_some_may_stay(stage: PodStage, uses_cost: bool) -> None:
    """Which of them goes without costs is the ReplicaSet's choice: one whose containers have run is not for it."""
    cost = VICTIM_COST if uses_cost else None
    pods = [pod("a"), pod("b", stage=stage, deletion_cost=cost), pod("c", stage=stage)]

    lowered = step(pods, worker("a", 5), uses_cost=uses_cost)

    assert lowered.hold is None
    assert names(lowered.lower) == (["b"] if uses_cost or stage is not UNREADY else [])


@pytest.mark.parametrize(("stage", "is_held"), [(UNSCHEDULED, False), (PENDING, True), (UNREADY, True), (READY, True)])
def test_only_a_pod_without_a_node_is_not_given_time_to_start(stage: PodStage, is_held: bool) -> None:
    held = step([pod("a"), pod("b", stage=stage, created_at=NOW), pod("c")], worker("a", 5), worker("c", 5)).hold

    assert (held is not None) == is_held


@pytest.mark.parametrize("uses_cost", [True, False])
def test_pods_that_are_further_than_those_that_go_hold_nobody(uses_cost: bool) -> None:
    cost = VICTIM_COST if uses_cost else None
    pods = [pod("a", stage=UNREADY), pod("b", stage=UNSCHEDULED, deletion_cost=cost), pod("c", stage=PENDING)]

    assert names(step(pods, worker("a", 5), uses_cost=uses_cost).lower) == ["b"]
    assert step(pods, worker("a", 5), uses_cost=uses_cost, desired=0).hold is not None


def test_worker_that_lives_in_a_pod_said_to_be_pending_is_drained_as_any_other() -> None:
    """The kubelet tells of a start later than the worker itself."""
    pods = [pod("a"), pod("b", stage=PENDING), pod("c")]
    unmarked = step(pods, worker("a", 5), worker("b", 1), worker("c", 5))
    busy = step(pods, worker("a", 5), worker("b", 1, mark=58), worker("c", 5))

    assert unmarked.hold is not None
    assert (unmarked.give_cost, busy.give_cost, busy.lower) == ([], [], [])


def test_without_costs_the_target_is_lowered_as_soon_as_the_victim_is_drained() -> None:
    off = step([pod("a", deletion_cost=7), pod("b"), pod("c")], *WORKERS, uses_cost=False)

    assert (off.give_cost, names(off.lower)) == ([], ["b"])


@dataclass
class Fleet:
    """Pods and their workers as rows and a ReplicaSet would have them; time moves by half a second a turn.

    A pod has a worker from the moment that its containers run.
    """

    wanted: int
    pods: dict[str, Pod]
    busy: dict[str, int]
    marked_until: dict[str, float] = field(default_factory=dict)
    marked_since: dict[str, float] = field(default_factory=dict)
    now: float = 0.0

    def is_marked(self, name: str) -> bool:
        return self.marked_until.get(name, -1.0) > self.now

    def works(self, name: str) -> bool:
        return self.pods[name].stage > PENDING

    def start(self, name: str) -> None:
        """It is made, or comes a step further."""
        if name in self.pods:
            self._start(name)
        elif len(self.pods) < self.wanted:
            self.pods[name], self.busy[name] = pod(name, stage=UNSCHEDULED), 0

    def _start(self, name: str) -> None:
        self.pods[name] = replace(self.pods[name], stage=PodStage(min(READY, self.pods[name].stage + 1)))

    def look(self, desired: int) -> ScaleIn:
        workers = [
            worker(
                name,
                self.busy[name],
                mark=self.marked_until[name] - self.now if self.is_marked(name) else None,
                drained=self.now - self.marked_since.get(name, self.now),
            )
            for name in self.pods
            if self.works(name)
        ]
        intent = replace(INTENT, wanted=self.wanted, desired=desired, drain_seconds=10)
        return scale_in(occupancies(list(self.pods.values()), workers), intent)

    def do(self, step: ScaleIn) -> list[str]:
        """What the operator does, and the ReplicaSet; the pods that were deleted."""
        if step.lower:
            cheap = {pod.uid for pod in self.pods.values() if pod.deletion_cost is not None}
            assert cheap == {pod.uid for pod in step.lower}
        for pod in step.mark:
            if not self.is_marked(pod.uid):
                self.marked_since[pod.uid] = self.now
            self.marked_until[pod.uid] = self.now + 60
        for pod in step.spare:
            self.marked_until.pop(pod.uid, None)
        for pod in step.clear_cost:
            self.pods[pod.uid] = replace(pod, deletion_cost=None)
        for pod in step.give_cost:
            self.pods[pod.uid] = replace(pod, deletion_cost=VICTIM_COST)
        self.wanted -= step.lowered_by
        order = sorted(self.pods, key=lambda name: (self.pods[name].stage, self.pods[name].deletion_cost or 0))
        return order[: max(0, len(self.pods) - self.wanted)]


MOVES = st.lists(
    st.tuples(st.sampled_from(["claim", "finish", "start", "operator", "wish", "crash"]), st.integers(0, 5)),
    max_size=80,
)
STAGES = st.lists(st.sampled_from(PodStage), min_size=1, max_size=6)


def fleet_of(stages: list[PodStage], *, busy: int, unmade: int) -> Fleet:
    """Of those that work, each has up to so many jobs."""
    pods = {f"p{n}": pod(f"p{n}", stage=stage) for n, stage in enumerate(stages)}
    jobs = {f"p{n}": n % (busy + 1) if stage > PENDING else 0 for n, stage in enumerate(stages)}
    return Fleet(len(stages) + unmade, pods, jobs)


@given(MOVES, STAGES, st.integers(0, 2))
def test_no_busy_pod_goes_before_the_drain_has_lasted_its_time(
    moves: list[tuple[str, int]], stages: list[PodStage], unmade: int
) -> None:
    """Whatever workers, wishes and operators do between the turns. A crash loses what was planned and not yet done."""
    fleet = fleet_of(stages, busy=2, unmade=unmade)
    desired = 0
    for move, number in moves:
        fleet.now += 0.5
        name = f"p{number}"
        match move:
            case "start":
                fleet.start(name)
            case "claim" if name in fleet.pods and fleet.works(name) and not fleet.is_marked(name):
                fleet.busy[name] += 1
            case "finish" if fleet.busy.get(name):
                fleet.busy[name] -= 1
            case "wish":
                desired = number
            case "crash":
                fleet.now += 61
            case "operator":
                for gone in fleet.do(fleet.look(desired)):
                    drained = fleet.now - fleet.marked_since.get(gone, fleet.now)
                    assert fleet.busy[gone] == 0 or (fleet.is_marked(gone) and drained >= 10)
                    del fleet.pods[gone]
            case _:  # nobody there to claim or to finish
                pass


@given(st.lists(st.sampled_from([UNSCHEDULED, PENDING, READY]), min_size=1, max_size=6), st.data())
def test_idle_fleet_shrinks_to_what_is_wished_in_four_turns(stages: list[PodStage], data: st.DataObject) -> None:
    """Pods that wait for a node or an image for ever among them, and such as nobody makes."""
    desired = data.draw(st.integers(0, len(stages)))
    fleet = fleet_of(stages, busy=0, unmade=data.draw(st.integers(0, 2)))
    for _ in range(4):
        fleet.now += 0.5
        for gone in fleet.do(fleet.look(desired)):
            del fleet.pods[gone]

    assert len(fleet.pods) == fleet.wanted == desired
    assert not any(fleet.is_marked(name) for name in fleet.pods)
