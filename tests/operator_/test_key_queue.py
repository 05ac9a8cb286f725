from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler_operator.reconciler.queue import BACKOFF_MAX_SECONDS, KeyQueue, backoff_seconds
from pg_scheduler_operator.resources import Key, Kind
from support.waiting import PATIENCE

A = Key(kind=Kind.SCHEDULED_JOB, namespace="n", name="a")
B = Key(kind=Kind.SCHEDULED_JOB, namespace="n", name="b")


async def is_empty(queue: KeyQueue) -> bool:
    try:
        async with asyncio.timeout(0.01):
            await queue.get()
    except TimeoutError:
        return True
    return False


async def test_key_put_twice_is_worked_on_once() -> None:
    queue = KeyQueue()
    queue.put(A)
    queue.put(A)

    assert await queue.get() == A
    queue.done(A)
    assert await is_empty(queue)


async def test_key_put_while_it_is_worked_on_comes_again_when_that_is_done() -> None:
    queue = KeyQueue()
    queue.put(A)
    await queue.get()
    queue.put(A)
    queue.put(A)

    assert await is_empty(queue)
    queue.done(A)
    assert await queue.get() == A
    queue.done(A)
    assert await is_empty(queue)


async def test_version_that_is_our_own_is_no_news() -> None:
    queue = KeyQueue(is_own=lambda _, version: version == "7")

    queue.tell(A, "7")
    assert await is_empty(queue)
    queue.tell(A, "8")
    assert await asyncio.wait_for(queue.get(), PATIENCE) == A


@pytest.mark.parametrize(("told", "is_news"), [(["7"], False), (["8"], True), (["8", "7"], False), (["7", "8"], True)])
async def test_version_told_before_the_write_that_made_it_was_answered_is_no_news(
    told: list[str], is_news: bool
) -> None:
    """A version that is ours has all that came before it."""
    own: set[str] = set()
    queue = KeyQueue(is_own=lambda _, version: version in own)
    queue.put(A)
    await queue.get()
    for version in told:
        queue.tell(A, version)
    own.add("7")

    queue.done(A)

    assert await is_empty(queue) is not is_news


async def test_key_put_by_others_comes_again_whatever_was_told_of_it() -> None:
    queue = KeyQueue(is_own=lambda *_: True)
    queue.put(A)
    await queue.get()
    queue.put(A)
    queue.tell(A, "7")

    queue.done(A)

    assert await asyncio.wait_for(queue.get(), PATIENCE) == A


async def test_one_key_does_not_hold_up_another() -> None:
    queue = KeyQueue()
    queue.put(A)
    queue.put(B)

    assert [await queue.get(), await queue.get()] == [A, B]


async def test_of_two_times_the_earlier_counts() -> None:
    queue = KeyQueue()
    queue.put_later(A, 60)
    queue.put_later(A, 0.001)
    queue.put_later(A, 60)

    assert await asyncio.wait_for(queue.get(), 1) == A
    queue.close()


async def test_failed_key_comes_back_and_counts_its_failures() -> None:
    queue = KeyQueue()
    queue.put(A)
    await queue.get()

    assert queue.failed(A) == 1
    assert await asyncio.wait_for(queue.get(), PATIENCE) == A
    assert queue.failed(A) == 2
    queue.close()


async def test_key_that_succeeds_forgets_its_failures() -> None:
    queue = KeyQueue()
    queue.put(A)
    await queue.get()
    queue.failed(A)
    await queue.get()
    queue.done(A)
    queue.put(A)
    await queue.get()

    assert queue.failed(A) == 1
    queue.close()


async def test_server_that_asks_to_wait_is_waited_for() -> None:
    queue = KeyQueue()
    queue.put(A)
    await queue.get()
    queue.failed(A, at_least_seconds=30)

    assert queue._later[A].when() == pytest.approx(asyncio.get_running_loop().time() + 30, abs=5)
    queue.close()


async def test_failed_keys_need_not_wait_when_the_reason_is_gone() -> None:
    queue = KeyQueue()
    queue.put(A)
    await queue.get()
    queue.failed(A, at_least_seconds=30)

    queue.retry_failed()

    assert await asyncio.wait_for(queue.get(), 0.1) == A
    queue.close()


@given(st.integers(1, 10_000))
def test_backoff_never_exceeds_its_maximum(failures: int) -> None:
    assert 0 < backoff_seconds(failures) <= backoff_seconds(failures + 1) <= BACKOFF_MAX_SECONDS


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.25), (2, 0.5), (7, 15.0)])
def test_backoff_doubles(failures: int, seconds: float) -> None:
    assert backoff_seconds(failures) == seconds
