"""The guard of the engine tests sees a task or a thread that is left."""

from __future__ import annotations

import asyncio
import threading

import pytest

from support import leaks


async def test_guard_names_a_task_that_is_left() -> None:
    task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    with pytest.raises(AssertionError, match="forgotten"):
        leaks._is_clean(set(threading.enumerate()))
    task.cancel()


async def test_guard_names_a_thread_that_is_left() -> None:
    before = set(threading.enumerate())
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten", daemon=True)
    thread.start()
    with pytest.raises(AssertionError, match="forgotten"):
        leaks._is_clean(before)
    end.set()
    thread.join()
    assert leaks._is_clean(before)


async def test_guard_lets_the_executor_of_the_loop_be() -> None:
    before = set(threading.enumerate())
    await asyncio.to_thread(lambda: None)
    assert leaks._is_clean(before)
