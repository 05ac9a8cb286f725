from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler.demand import Demand, QueueLimit, Running, Waiting, WorkerLoad
from pg_scheduler_operator.reconcile.need import Need, Outlook, busiest, need_of
from support.operator_world import NOW

OUTLOOK = Outlook(lead_seconds=30, pod_uids={"a", "b"}, queues={"p", "q"}, tasks={"t"})
WAITING = st.builds(
    Waiting, st.sampled_from(["p", "q"]), st.sampled_from(["t", "u"]), st.integers(0, 60), st.integers(1, 50)
)
RUNNING = st.builds(Running, st.sampled_from(["p", "q"]), st.integers(1, 50), st.booleans())


def demand(*waiting: Waiting, **changes: Any) -> Demand:
    return Demand(at=NOW, waiting=waiting, **changes)


def worker(pod: str | None, busy: int, *, lives: bool = True) -> WorkerLoad:
    return WorkerLoad(pod_uid=pod, slots=10, started_at=NOW, lives=lives, busy=busy, tasks=["t"])


SERVES = replace(worker("a", 0), queues=["q"])


@pytest.mark.parametrize(
    ("what", "slots"),
    [
        (demand(), 0),
        (demand(Waiting("q", "t", 0, 7)), 7),
        (demand(Waiting("q", "t", 30, 7)), 7),
        (demand(Waiting("q", "t", 31, 7)), 0),
        (demand(Waiting("q", "t", 0, 7), paused=["q"]), 0),
        (demand(Waiting("q", "t", 0, 7), Waiting("p", "t", 0, 1), paused=["q"]), 1),
        (demand(workers=[worker("a", 3), worker("elsewhere", 5), worker(None, 2)]), 5),
        (demand(workers=[worker("a", 3, lives=False)]), 0),
        (demand(running=[Running("q", 4, on_living_worker=False), Running("q", 9, on_living_worker=True)]), 8),
    ],
)
def test_slots_are_for_what_runs_is_due_is_orphaned_or_soon_due(what: Demand, slots: float) -> None:
    assert need_of(what, replace(OUTLOOK, orphan_weight=2)) == Need(slots=slots, strangers=set())


@pytest.mark.parametrize(
    ("limits", "slots"),
    [
        ([], 150),
        ([QueueLimit("p", 1, 1)], 150),
        ([QueueLimit("q", 40, None)], 38),
        ([QueueLimit("q", 1, None)], 0),
        ([QueueLimit("q", None, 2)], 60),
        ([QueueLimit("q", None, 0.01)], 1),
        ([QueueLimit("q", 40, 1)], 30),
    ],
)
def test_queue_counts_what_its_limits_let_run(limits: list[QueueLimit], slots: float) -> None:
    running = [Running("q", 2, on_living_worker=True)]
    what = demand(Waiting("q", "t", 0, 100), Waiting("q", "t", 5, 50), running=running, limits=limits)

    assert need_of(what, OUTLOOK).slots == slots


def test_pool_counts_its_share_of_what_others_serve_too() -> None:
    what = demand(Waiting("p", "t", 0, 4), Waiting("q", "t", 0, 100), running=[Running("q", 8, on_living_worker=False)])

    assert need_of(what, replace(OUTLOOK, shares={"q": 0.25})).slots == 4 + 25 + 2


def test_what_no_worker_runs_is_named_and_needs_no_slots() -> None:
    what = demand(Waiting("p", "t", 0, 3), Waiting("elsewhere", "t", 0, 5), Waiting("p", "typo", 9, 1000))

    assert need_of(what, OUTLOOK) == Need(slots=3, strangers={"elsewhere/t", "p/typo"})


@pytest.mark.parametrize(
    ("waiting", "medians", "most"),
    [
        ([], {}, 0),
        ([Waiting("q", "t", 1, 5), Waiting("q", "t", 10, 5)], {}, 10),
        ([Waiting("q", "t", 1, 5), Waiting("q", "t", 10, 5)], {"t": 8.9}, 5),
        ([Waiting("q", "t", 1, 5), Waiting("q", "t", 10, 5)], {"t": 9.1}, 10),
        ([Waiting("q", "t", 1, 200)], {"t": 0.001}, 200),
        ([Waiting("q", "t", second, 1) for second in range(1, 61)], {"t": 0.5}, 1),
        ([Waiting("q", "t", second, 1) for second in range(1, 61)], {"t": 10.0}, 10),
    ],
)
def test_jobs_to_come_need_as_many_slots_as_will_run_at_once(
    waiting: list[Waiting], medians: dict[str, float], most: int
) -> None:
    assert busiest(waiting, medians, otherwise_seconds=60) == most


@given(st.lists(WAITING), st.lists(RUNNING), st.integers(0, 60))
def test_what_lies_beyond_the_lead_is_ignored(waiting: list[Waiting], running: list[Running], lead: int) -> None:
    outlook = replace(OUTLOOK, lead_seconds=lead)
    within = [each for each in waiting if each.in_seconds <= lead]

    assert need_of(demand(*waiting, running=running), outlook) == need_of(demand(*within, running=running), outlook)


@given(st.lists(WAITING), WAITING, st.integers(1, 50))
def test_one_more_job_never_needs_fewer_slots(waiting: list[Waiting], more: Waiting, concurrency: int) -> None:
    outlook, limits = replace(OUTLOOK, tasks={"t", "u"}), [QueueLimit("q", concurrency, None)]

    before = need_of(demand(*waiting, limits=limits), outlook).slots
    assert need_of(demand(*waiting, more, limits=limits), outlook).slots >= before


@given(st.lists(WAITING), st.lists(RUNNING))
def test_orphans_raise_the_need_and_it_falls_back_when_they_are_rescued(
    waiting: list[Waiting], running: list[Running]
) -> None:
    living = [replace(each, on_living_worker=True) for each in running]
    lost = sum(each.jobs for each in running if not each.on_living_worker)

    before = need_of(demand(*waiting, running=living), OUTLOOK).slots
    assert need_of(demand(*waiting, running=running), OUTLOOK).slots == before + lost


@pytest.mark.parametrize(
    ("what", "jobs"),
    [
        (demand(), 0),
        (demand(Waiting("q", "t", 0, 2), Waiting("q", "t", 1, 9), Waiting("q", "typo", 0, 3)), 5),
        (demand(Waiting("q", "t", 0, 2), Waiting("q", "typo", 0, 3), workers=[SERVES]), 3),
        (demand(Waiting("p", "t", 0, 2), workers=[SERVES]), 2),
        (demand(Waiting("p", "t", 0, 2), workers=[SERVES], paused=["p"]), 0),
        (demand(Waiting("q", "t", 0, 2), workers=[replace(SERVES, lives=False)]), 2),
        (demand(Waiting("q", "u", 0, 2), workers=[SERVES, replace(SERVES, queues=["p"], tasks=["u"])]), 2),
    ],
)
def test_unroutable_is_what_is_due_and_no_living_worker_takes(what: Demand, jobs: int) -> None:
    assert what.unroutable_jobs == jobs
