from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler_operator import pacing
from pg_scheduler_operator.metrics import STATUS_BACKLOG, STATUS_BACKLOG_AGE, Metrics
from pg_scheduler_operator.pacing import Bucket, Pacer, Rank, rank_of

if TYPE_CHECKING:
    from collections.abc import Mapping


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def full(clock: Clock, *, metrics: Metrics | None = None) -> Pacer[str]:
    """One whose burst is used up."""
    pacer: Pacer[str] = Pacer(clock, metrics=metrics, per_second=50, burst=1)
    assert pacer.wait_seconds("first", urgent=True) == 0
    pacer.written("first")
    return pacer


def writes(pacer: Pacer[str], clock: Clock, seconds: float, *, urgent: bool, step: float = 0.01) -> int:
    """How often one object is written when it changes all the time."""
    count, end = 0, clock.now + seconds
    while clock.now < end:
        if pacer.wait_seconds("x", urgent=urgent) == 0:
            pacer.written("x")
            count += 1
        clock.now += step
    return count


def test_object_that_changes_all_the_time_is_written_once_a_minute() -> None:
    clock = Clock()

    assert writes(Pacer(clock), clock, 300, urgent=False, step=0.5) == 5


def test_object_whose_conditions_flap_is_written_once_a_second() -> None:
    clock = Clock()

    assert 60 <= writes(Pacer(clock), clock, 60, urgent=True) <= 64


def test_urgent_write_does_not_wait_for_the_minute() -> None:
    clock = Clock()
    pacer: Pacer[str] = Pacer(clock)
    pacer.wait_seconds("x", urgent=True)
    pacer.written("x")

    assert pacer.wait_seconds("x", urgent=False) == pytest.approx(60)
    assert pacer.wait_seconds("x", urgent=True) == 0


def test_all_objects_together_keep_to_the_bucket() -> None:
    clock = Clock()
    pacer: Pacer[int] = Pacer(clock, per_second=50, burst=400)
    for key in range(400):
        assert pacer.wait_seconds(key, urgent=True) == 0
        pacer.written(key)

    assert pacer.wait_seconds(400, urgent=True) is None
    assert pacer.call() is None
    clock.now += 0.021
    assert pacer.call() == 400
    assert pacer.wait_seconds(400, urgent=True) == 0


def test_forgotten_object_may_be_written_at_once() -> None:
    clock = Clock()
    pacer: Pacer[str] = Pacer(clock)
    pacer.wait_seconds("x", urgent=True)
    pacer.written("x")
    pacer.forget("x")

    assert pacer.wait_seconds("x", urgent=False) == 0


def test_line_is_called_by_rank_and_then_by_age() -> None:
    clock = Clock()
    pacer = full(clock)
    for key, rank in [("a", Rank.REST), ("b", Rank.READY), ("c", Rank.FINISHED), ("d", Rank.READY)]:
        pacer.wait_seconds(key, urgent=True, rank=rank)

    called = []
    for _ in range(4):
        clock.now += 0.021
        called.append(pacer.call())

    assert called == ["c", "b", "d", "a"]


def test_who_waits_moves_ahead_with_better_news_and_is_called_once() -> None:
    clock = Clock()
    pacer = full(clock)
    for key in ("a", "b"):
        pacer.wait_seconds(key, urgent=True, rank=Rank.READY)
    pacer.wait_seconds("b", urgent=True, rank=Rank.FINISHED)

    called = []
    for _ in range(3):
        clock.now += 0.021
        called.append(pacer.call())
        pacer.done(called[-1] or "")

    assert called == ["b", "a", None]


def test_token_that_is_not_used_is_anothers() -> None:
    clock = Clock()
    pacer = full(clock)
    pacer.wait_seconds("a", urgent=True)
    pacer.wait_seconds("b", urgent=True)
    clock.now += 0.021

    assert pacer.call() == "a"
    assert pacer.call() is None
    pacer.done("a")
    assert pacer.call() == "b"


def test_line_forgets_objects_that_are_gone() -> None:
    clock = Clock()
    pacer = full(clock)
    for key in range(1000):
        pacer.wait_seconds(str(key), urgent=True)
        pacer.forget(str(key))
    clock.now += 1

    assert pacer.call() is None
    assert not pacer._line
    assert not pacer._heap
    assert len(pacer._written) == 1


def test_backlog_is_told_with_the_age_of_its_oldest() -> None:
    clock, metrics = Clock(), Metrics()
    pacer = full(clock, metrics=metrics)
    pacer.wait_seconds("a", urgent=True, rank=Rank.REST)
    clock.now += 0.01
    pacer.wait_seconds("b", urgent=True, rank=Rank.FINISHED)

    pacer.tell()
    assert metrics.values(STATUS_BACKLOG) == {(): 2}
    assert metrics.values(STATUS_BACKLOG_AGE)[()] == pytest.approx(0.01)

    for _ in range(2):
        clock.now += 1
        pacer.call()
    pacer.tell()
    assert metrics.values(STATUS_BACKLOG) == {(): 0}
    assert metrics.values(STATUS_BACKLOG_AGE) == {(): 0}


async def test_caller_waits_until_somebody_waits() -> None:
    pacer: Pacer[str] = Pacer(asyncio.get_running_loop().time, per_second=1000, burst=1)
    calling = asyncio.create_task(pacer.called())
    await asyncio.sleep(0)
    assert not calling.done()
    pacer.wait_seconds("first", urgent=True)

    pacer.wait_seconds("x", urgent=True)

    assert await calling == "x"


async def test_who_was_held_back_is_called_as_soon_as_all_are_served_again() -> None:
    pacer: Pacer[str] = Pacer(asyncio.get_running_loop().time, per_second=1000, burst=10)
    with pacer.only(Rank.FINISHED):
        calling = asyncio.create_task(pacer.called())
        assert pacer.wait_seconds("a", urgent=True, rank=Rank.READY) is None
        assert pacer.wait_seconds("b", urgent=True, rank=Rank.FINISHED) is None  # behind nobody who is served
        assert await calling == "b"
        calling = asyncio.create_task(pacer.called())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not calling.done()

    assert await asyncio.wait_for(calling, 10) == "a"


async def test_no_more_are_called_than_can_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "CALLED", 2)
    pacer: Pacer[str] = Pacer(asyncio.get_running_loop().time, per_second=1000, burst=100)
    with pacer.only(Rank.FINISHED):
        for key in "abcd":
            pacer.wait_seconds(key, urgent=True, rank=Rank.READY)
    assert [await pacer.called(), await pacer.called()] == ["a", "b"]
    calling = asyncio.create_task(pacer.called())
    await asyncio.sleep(0)
    assert pacer.call() is None

    pacer.written("b")
    assert await asyncio.wait_for(calling, 10) == "c"
    calling = asyncio.create_task(pacer.called())
    await asyncio.sleep(0)
    pacer.done("a")  # it had nothing to write
    assert await asyncio.wait_for(calling, 10) == "d"


KEYS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.tuples(st.just("ask"), KEYS, st.sampled_from(list(Rank)))
    | st.tuples(st.just("pass"), st.floats(0, 0.2), st.none())
    | st.tuples(st.just("call"), st.none(), st.none())
    | st.tuples(st.just("only"), st.none(), st.sampled_from(list(Rank)))
    | st.tuples(st.just("forget"), KEYS, st.none()),
    max_size=80,
)


@given(STEPS)
def test_no_more_is_written_than_the_bucket_gives_and_nobody_is_left_behind(steps: list[tuple[Any, Any, Any]]) -> None:
    clock = Clock()
    pacer: Pacer[str] = Pacer(clock, per_second=10, burst=2)
    begin, written = clock.now, 0
    waiting: dict[str, Rank] = {}
    last, served = Rank.REST, ExitStack()

    def turn(key: str, rank: Rank) -> int:
        answer = pacer.wait_seconds(key, urgent=True, rank=rank)
        before = waiting.pop(key, rank)
        if answer is None:
            waiting[key] = min(before, rank)
        elif answer == 0:
            pacer.written(key)
        pacer.done(key)
        return int(answer == 0)

    for what, value, rank in steps:
        match what:
            case "ask":
                count = turn(value, rank)
                written += count
                assert not count or rank <= last
            case "pass":
                clock.now += value
            case "only":
                served.close()
                served.enter_context(pacer.only(rank))
                last = rank
            case "call":
                key = pacer.call()
                assert key is None or waiting[key] <= last
                written += turn(key, Rank.REST) if key else 0
            case _:
                pacer.forget(value)
                waiting.pop(value, None)
        assert written <= 2 + 10 * (clock.now - begin) + 1e-6
        assert pacer._line.keys() == waiting.keys()


@given(st.lists(st.floats(0, 10), max_size=50))
def test_bucket_never_gives_more_than_burst_and_rate(steps: list[float]) -> None:
    clock = Clock()
    bucket = Bucket(per_second=2, burst=3, clock=clock)
    begin, taken = clock.now, 0
    for step in steps:
        clock.now += step
        while bucket.wait_seconds() == 0:
            bucket.take()
            taken += 1
        assert taken <= 3 + 2 * (clock.now - begin) + 1e-6


def status(*, generation: int = 1, **verdicts: str) -> dict[str, Any]:
    conditions = [{"type": name, "status": verdict} for name, verdict in verdicts.items()]
    return {"observedGeneration": generation, "conditions": conditions}


@pytest.mark.parametrize(
    ("live", "desired", "rank"),
    [
        (status(Finished="False"), status(Finished="True"), Rank.FINISHED),
        ({}, status(Finished="True", Ready="True"), Rank.FINISHED),
        ({}, status(Ready="True"), Rank.READY),
        (status(Ready="True"), status(Ready="False"), Rank.READY),
        (status(), status(generation=2), Rank.READY),
        (status(Ready="True"), status(Ready="True", Started="True"), Rank.REST),
    ],
)
def test_rank_is_what_a_write_would_tell(live: Mapping[str, Any], desired: Mapping[str, Any], rank: Rank) -> None:
    assert rank_of(live, desired) == rank
