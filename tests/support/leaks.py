"""What a test starts, it ends: no task and no thread outlives the test.

Invariant: the loop's own helpers (its default executor) are the only ones let through.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOOP_EXECUTOR = "asyncio_"
ENDING_SECONDS = 10


@pytest.fixture
async def no_leaks() -> AsyncIterator[None]:
    """Fail the test if a task or thread of it is alive once its other fixtures are gone."""
    threads_before = set(threading.enumerate())
    yield
    await until(
        lambda: _is_clean(threads_before), timeout=ENDING_SECONDS, what="every task and thread of the test has ended"
    )


def _is_clean(threads_before: set[threading.Thread]) -> bool:
    threads = [
        thread.name
        for thread in set(threading.enumerate()) - threads_before
        if not thread.name.startswith(LOOP_EXECUTOR)
    ]
    tasks = [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    assert not threads + tasks, f"threads {threads}, tasks {tasks}"
    return True
