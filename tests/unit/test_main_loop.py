"""The watch over the main loop, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import logging

import pytest

from pg_scheduler._engine.main_loop import MainLoopWatch
from pg_scheduler.errors import MainLoopStalled


class Watched:
    """A watch that looks when the test says so; the running loop turns only where the test awaits."""

    def __init__(self, *, max_stall_seconds: float = 60) -> None:
        self.now = 100.0
        self.watch = MainLoopWatch(max_stall_seconds=max_stall_seconds, clock=lambda: self.now)
        self.watch._looked_at = self.now
        self.watch.attach()

    def look(self, *, after: float = 1.0, times: int = 1) -> None:
        for _ in range(times):
            self.now += after
            self.watch.look()


async def test_a_stall_is_told_once_with_the_stack_of_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()

    watched.look(times=5)
    assert caplog.records == []
    watched.look(times=20)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "has not turned for 5.0 s" in record.getMessage()
    assert "test_a_stall_is_told_once_with_the_stack_of_the_loop" in record.getMessage()
    assert record.getMessage().isprintable()


async def test_the_next_stall_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()

    for _ in range(2):
        watched.look(times=10)
        await asyncio.sleep(0)  # the loop turns

    assert len(caplog.records) == 2


async def test_a_loop_that_turns_has_not_stalled(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(max_stall_seconds=10)

    for _ in range(100):
        watched.look()
        await asyncio.sleep(0)

    assert caplog.records == []


async def test_a_stall_beyond_its_limit_is_an_error() -> None:
    watched = Watched(max_stall_seconds=60)

    watched.look(times=60)
    with pytest.raises(MainLoopStalled, match="has not turned for 60 s"):
        watched.look()


async def test_a_process_that_stood_still_is_told_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Stopped by a signal, suspended, or in code that holds the GIL: the watch stood still too."""
    watched = Watched(max_stall_seconds=60)
    watched.look()

    watched.look(after=3600)

    (record,) = caplog.records
    assert "this process stood still for 3600.0 s" in record.getMessage()
    assert "test_a_process_that_stood_still" in record.getMessage()


def test_a_loop_that_has_ended_without_shutdown_is_given_up() -> None:
    async def attached() -> Watched:
        return Watched()

    watched = asyncio.run(attached())

    with pytest.raises(MainLoopStalled, match="without shutdown"):
        watched.look()
