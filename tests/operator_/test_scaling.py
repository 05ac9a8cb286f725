from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler.control import Demand
from pg_scheduler_operator.reconcile.scaling import Bounds, desired_replicas

JOBS = st.integers(0, 2000)
DEMANDS = st.builds(Demand, due=JOBS, running=JOBS, orphaned=JOBS, workers=st.just(1), slots_per_worker=st.none())
BOUNDS = st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda two: Bounds(minimum=min(two), maximum=max(two)))
SLOTS = st.integers(1, 100)
CURRENT = st.integers(0, 60)


@given(DEMANDS, SLOTS, BOUNDS, CURRENT)
def test_replicas_stay_within_bounds_but_for_running_jobs(
    demand: Demand, slots: int, bounds: Bounds, current: int
) -> None:
    desired = desired_replicas(demand, slots=slots, bounds=bounds, current=current)

    assert desired >= bounds.minimum
    assert desired <= max(bounds.maximum, min(current, -(-demand.running // slots)))


@given(DEMANDS, SLOTS, BOUNDS, CURRENT)
def test_going_down_keeps_a_slot_for_every_running_job(
    demand: Demand, slots: int, bounds: Bounds, current: int
) -> None:
    desired = desired_replicas(demand, slots=slots, bounds=bounds, current=current)

    assert desired >= current or desired * slots >= demand.running


@given(DEMANDS, SLOTS, BOUNDS, CURRENT)
def test_every_job_has_a_slot_unless_the_maximum_forbids_it(
    demand: Demand, slots: int, bounds: Bounds, current: int
) -> None:
    desired = desired_replicas(demand, slots=slots, bounds=bounds, current=current)

    assert desired * slots >= demand.due + demand.running + demand.orphaned or desired >= bounds.maximum


@given(DEMANDS, SLOTS, BOUNDS, CURRENT, JOBS)
def test_more_jobs_never_mean_fewer_replicas(
    demand: Demand, slots: int, bounds: Bounds, current: int, more: int
) -> None:
    before = desired_replicas(demand, slots=slots, bounds=bounds, current=current)
    after = desired_replicas(replace(demand, due=demand.due + more), slots=slots, bounds=bounds, current=current)

    assert after >= before


@given(DEMANDS, SLOTS, BOUNDS, CURRENT)
def test_same_figures_do_not_flap(demand: Demand, slots: int, bounds: Bounds, current: int) -> None:
    once = desired_replicas(demand, slots=slots, bounds=bounds, current=current)

    assert desired_replicas(demand, slots=slots, bounds=bounds, current=once) == once


@given(SLOTS, BOUNDS, CURRENT)
def test_nothing_to_do_means_the_minimum(slots: int, bounds: Bounds, current: int) -> None:
    nothing = Demand(due=0, running=0, orphaned=0, workers=0, slots_per_worker=None)

    assert desired_replicas(nothing, slots=slots, bounds=bounds, current=current) == bounds.minimum
