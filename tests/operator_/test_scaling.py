from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler_operator.reconcile.need import Need
from pg_scheduler_operator.reconcile.scaling import History, commanded, decide, looked, replicas_for
from pg_scheduler_operator.resources import Autoscaling
from support.operator_world import NOW

TURN_SECONDS = 2
NEEDS = st.lists(st.integers(0, 12), min_size=1, max_size=120)
BOUNDS = st.tuples(st.integers(0, 5), st.integers(1, 10)).map(sorted)
PACES = st.tuples(st.integers(1, 20), st.integers(1, 20))


def down(stabilization: int = 120, pace: int = 5, idle: int = 300) -> dict[str, int]:
    return {"stabilizationSeconds": stabilization, "maxReplicasPerMinute": pace, "zeroAfterIdleSeconds": idle}


def spec(*, lowest: int = 0, most: int = 10, up: int = 20, **scale_down: int) -> Autoscaling:
    told = {
        "minReplicas": lowest,
        "maxReplicas": most,
        "scaleUp": {"maxReplicasPerMinute": up},
        "scaleDown": down(**scale_down),
    }
    return Autoscaling.model_validate(told, by_alias=True, by_name=False)


def run(needs: list[int], autoscaling: Autoscaling, *, current: int = 0) -> list[int]:
    """The replicas after each turn, one every two seconds, of a target that does at once what it is told."""
    history, replicas = History(), []
    for turn, needed in enumerate(needs):
        now = NOW + timedelta(seconds=TURN_SECONDS * turn)
        history = looked(history, current, now)
        desired, history = decide(autoscaling.within(needed), autoscaling, current, history, now)
        if desired != current:
            history = commanded(history, current, desired, now)
        current = desired
        replicas.append(current)
    return replicas


def changes(replicas: list[int], *, since: int = 0) -> list[int]:
    """At which turns the number has changed."""
    return [turn for turn in range(max(1, since), len(replicas)) if replicas[turn] != replicas[turn - 1]]


@pytest.mark.parametrize(
    ("need", "slots", "percent", "expected"),
    [
        (0, 10, 80, 0),
        (1, 10, 80, 1),
        (8, 10, 80, 1),
        (8.1, 10, 80, 2),
        (80, 10, 80, 10),
        (10, 10, 100, 1),
        (500, 10, 80, 10),
    ],
)
def test_replicas_are_for_the_slots_at_the_wished_utilisation(
    need: float, slots: int, percent: int, expected: int
) -> None:
    wanted = Autoscaling(max_replicas=10, target_utilization_percent=percent)

    assert replicas_for(Need(slots=need), slots=slots, scaling=wanted) == expected


@pytest.mark.parametrize(("strangers", "floor", "expected"), [(False, 0, 0), (True, 0, 1), (False, 1, 1)])
def test_unknown_tasks_and_unseen_schedules_keep_one_replica(strangers: bool, floor: int, expected: int) -> None:
    wanted = Autoscaling(max_replicas=10)

    assert replicas_for(Need(slots=0), slots=10, scaling=wanted, floor=floor, strangers=strangers) == expected


def test_unknown_tasks_never_need_more_than_there_is() -> None:
    assert replicas_for(Need(slots=20), slots=10, scaling=Autoscaling(max_replicas=10), strangers=True) == 3


def test_up_is_at_once_as_far_as_the_pace_allows() -> None:
    replicas = run([9] * 61, spec(up=4))

    assert replicas[0] == 4
    assert replicas[29] == 4
    assert replicas[30] == 8
    assert replicas[60] == 9


def test_down_waits_for_the_window_and_keeps_the_pace() -> None:
    replicas = run([9, 9] + [1] * 200, spec(stabilization=120, pace=5), current=9)

    assert replicas[60] == 9  # the last need of nine is 118 s old
    assert replicas[61] == 4
    assert replicas[90] == 4
    assert replicas[91] == 1


def test_last_replica_goes_after_the_idle_time() -> None:
    replicas = run([1] + [0] * 200, spec(stabilization=60, idle=300), current=1)

    assert replicas[150] == 1
    assert replicas[151] == 0


def test_work_in_between_starts_the_idle_time_anew() -> None:
    assert run([1] + [0] * 140 + [1] + [0] * 149, spec(stabilization=0, idle=300), current=1)[-1] == 1


def test_operator_that_has_just_started_takes_nothing_away_in_haste() -> None:
    replicas = run([0] * 61, spec(stabilization=120, pace=20, idle=0), current=8)

    assert replicas[59] == 8
    assert replicas[60] == 0


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_ten_minutes_changes_replicas_at_most_once_a_window(seed: int) -> None:
    noise = random.Random(seed)  # noqa: S311
    needs = [noise.randint(3, 7) for _ in range(300)]

    replicas = run(needs, spec(most=20, stabilization=120))

    for turn in range(30, len(replicas) - 60):  # once it has begun
        assert len(changes(replicas[turn : turn + 60])) <= 1
    assert min(replicas[60:]) >= 6


@given(NEEDS, st.integers(0, 10), st.integers(1, 30))
def test_up_and_down_again_takes_a_window_at_least(needs: list[int], current: int, window: int) -> None:
    replicas = run(needs, spec(stabilization=window * TURN_SECONDS, idle=0, pace=20), current=current)

    for turn in changes(replicas):
        if replicas[turn] < replicas[turn - 1]:
            needed = [min(need, 10) for need in needs[max(0, turn - window + 1) : turn + 1]]
            assert max(needed) <= replicas[turn]
            assert turn >= window


@given(NEEDS, st.integers(0, 10), BOUNDS, PACES)
def test_replicas_stay_within_bounds_and_paces(
    needs: list[int], current: int, bounds: list[int], paces: tuple[int, int]
) -> None:
    lowest, most = bounds
    current = min(max(current, lowest), most)
    replicas = [current, *run(needs, spec(lowest=lowest, most=most, up=paces[0], pace=paces[1]), current=current)]

    assert all(lowest <= each <= most for each in replicas)
    for turn in range(len(replicas)):
        steps = [b - a for a, b in zip(replicas[turn : turn + 30], replicas[turn + 1 : turn + 31], strict=False)]
        assert sum(step for step in steps if step > 0) <= paces[0]
        assert -sum(step for step in steps if step < 0) <= paces[1]


@given(NEEDS, st.integers(0, 10))
def test_what_is_needed_is_there_in_the_same_turn(needs: list[int], current: int) -> None:
    for needed, replicas in zip(needs, run(needs, spec(up=10_000), current=current), strict=True):
        assert replicas >= min(needed, 10)


@given(st.integers(0, 10), st.integers(0, 10))
def test_history_does_not_grow_with_time(needed: int, current: int) -> None:
    history = History()
    for turn in range(500):
        now = NOW + timedelta(seconds=TURN_SECONDS * turn)
        _, history = decide(needed + turn % 3, spec(), current, looked(history, current, now), now)

    assert len(history.needs) <= 3


def test_replicas_that_somebody_else_writes_three_times_are_contested_for_ten_minutes() -> None:
    history = looked(History(), 3, NOW)
    for minute in range(3):
        assert not history.is_contested
        history = commanded(history, 3, 5, NOW + timedelta(minutes=minute))
        history = looked(history, 3, NOW + timedelta(minutes=minute, seconds=2))  # as Git does, at once

    assert history.is_contested
    assert not looked(history, 3, NOW + timedelta(minutes=11)).is_contested


def test_own_writes_are_nobody_elses() -> None:
    history = looked(History(), 3, NOW)
    for replicas in (5, 6, 4, 2):
        history = looked(commanded(history, history.replicas or 0, replicas, NOW), replicas, NOW)

    assert history.foreign == ()
