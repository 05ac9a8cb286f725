"""What is claimed ahead starts at its time: not before, and not without its slot."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from pg_scheduler._domain import codec
from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._engine import alarm
from pg_scheduler._engine.alarm import Alarm
from pg_scheduler._engine.clock import DatabaseClock
from pg_scheduler._engine.config import PREFETCH_SECONDS
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.slots import HeldJob, Slots, StopReason
from pg_scheduler._engine.starts import Starts
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FLOAT_SECONDS = 1e-6
"""What seconds since 1970 are exact to."""


class Bench:
    """Starts over a clock that shows NOW, with an executor that only notes what it was given and when."""

    def __init__(self) -> None:
        self.given: list[tuple[float, HeldJob]] = []
        self.slots = Slots(100, on_release=lambda: None)
        self.clock = DatabaseClock()
        self.boot = 0.0
        self.lease = Lease(60, clock=lambda: self.boot)
        self.lease.begin("w", 0.0)
        self.starts = Starts(self, self.slots, self.clock, lease=self.lease)  # type: ignore[arg-type]  # has what it needs
        self.zero = monotonic()  # not after the clock has seen NOW: nothing is given before its time then
        self.clock.observe(NOW)

    def start(self, jobs: Iterable[HeldJob]) -> None:
        self.given += [(monotonic() - self.zero, held) for held in jobs]

    def job(self, token: int, after_seconds: float) -> ClaimedJob:
        at = NOW + timedelta(seconds=monotonic() - self.zero + after_seconds)
        return ClaimedJob(token, f"j{token}", token, "w", "t", codec.encode((), {}), "default", 5, at, 1, 0, 0)

    @property
    def order(self) -> list[int]:
        return [held.job.token for _, held in self.given]


@pytest.fixture(params=["timer file", "event loop"])
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bench:
    if request.param == "event loop":
        monkeypatch.setattr(alarm, "_timer_file", lambda: None)
    return Bench()


async def _given(bench: Bench, count: int) -> None:
    await until(lambda: len(bench.given) >= count)


async def test_each_job_starts_at_its_time_and_none_before(bench: Bench) -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(bench.starts.run(stopping))
    await asyncio.sleep(0)

    bench.starts.start([bench.job(1, 0.06), bench.job(2, 0.03), bench.job(3, -1.0)])
    bench.starts.start([bench.job(4, 0.01)])
    held_meanwhile = bench.slots.tokens()
    await _given(bench, 4)
    stopping.set()
    await running

    assert held_meanwhile == {1, 2, 3, 4}
    assert sorted(bench.order) == [1, 2, 3, 4]
    assert all(at - held.job.execution_time.timestamp() + NOW.timestamp() >= -FLOAT_SECONDS for at, held in bench.given)


async def test_no_job_waits_longer_than_the_prefetch_whatever_the_clock_says(bench: Bench) -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(bench.starts.run(stopping))
    await asyncio.sleep(0)

    bench.starts.start([bench.job(1, 3600)])
    await _given(bench, 1)
    stopping.set()
    await running

    ((at, _),) = bench.given
    assert at >= PREFETCH_SECONDS


async def test_what_still_waits_is_handed_back_at_the_end(bench: Bench) -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(bench.starts.run(stopping))
    await asyncio.sleep(0)
    bench.starts.start([bench.job(1, 60)])

    stopping.set()
    await running
    bench.starts.start([bench.job(2, 60)])  # a claim that came after all

    assert [(held.job.token, held.stop_reason) for _, held in bench.given] == [
        (1, StopReason.SHUTDOWN),
        (2, StopReason.SHUTDOWN),
    ]


async def test_what_a_frozen_process_finds_when_it_wakes_without_its_lease_is_handed_back(bench: Bench) -> None:
    """Others may have rescued it: what waited for its time, and what a claim brought before the freeze."""
    stopping = asyncio.Event()
    running = asyncio.create_task(bench.starts.run(stopping))
    await asyncio.sleep(0)
    bench.starts.start([bench.job(1, 60)])

    bench.boot = 61.0
    bench.starts.start([bench.job(2, 0.0)])
    await _given(bench, 2)
    stopping.set()
    await running

    assert {(held.job.token, held.stop_reason) for _, held in bench.given} == {
        (1, StopReason.SHUTDOWN),
        (2, StopReason.SHUTDOWN),
    }


async def test_alarm_rings_at_once_for_a_moment_that_has_passed() -> None:
    rung = asyncio.Event()
    with Alarm(rung.set) as bell:
        bell.set(monotonic() - 1)
        await asyncio.wait_for(rung.wait(), PATIENCE)
