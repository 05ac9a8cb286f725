"""Jobs that share a runner share nothing else."""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from pg_scheduler._domain import codec
from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._domain.outcomes import Complete, Fail, Outcome, Release, ReportStopped
from pg_scheduler._engine.calls import Calls
from pg_scheduler._engine.environment import Environment
from pg_scheduler._engine.executor import Executor
from pg_scheduler._engine.offloading import Offloading
from pg_scheduler._engine.performing import Performer
from pg_scheduler._engine.runtime import context_of
from pg_scheduler._engine.slots import HeldJob, Slots, StopReason
from pg_scheduler.tasks import Registry
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pg_scheduler.context import JobContext

mark: ContextVar[int] = ContextVar("mark", default=0)


def context_without_database(held: HeldJob, deadline: float | None) -> JobContext:
    return context_of(held, cast("Any", None), deadline)


class Bench:
    """An executor whose outcomes are kept here."""

    def __init__(self) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self.hurried = 0
        self.slots = Slots(100, on_release=lambda: None)
        self.registry = Registry()
        self.calls = Calls(self.registry, make_context=context_without_database, offloading=Offloading(2))
        self.executor = Executor(Performer(self.calls, environment=Environment({})), self.slots, self)  # type: ignore[arg-type]  # has what it needs
        self._token = 0

    def add(self, job: ClaimedJob, outcome: Outcome) -> None:
        self.outcomes[job.token] = outcome

    def job(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> HeldJob:
        self._token += 1
        key = self.registry.add(function)
        payload = codec.encode(args, {})
        now = datetime.now(UTC)
        job = ClaimedJob(self._token, f"j{self._token}", self._token, "w", key, payload, "default", 5, now, 1, 0, 0)
        return self.slots.hold(job)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_a_job_sets_in_its_context_reaches_no_other(bench: Bench) -> None:
    seen: list[int] = []

    async def quick(n: int) -> None:
        seen.append(mark.get())
        mark.set(n)

    async def slow(n: int) -> None:
        mark.set(n)
        await asyncio.sleep(0)
        seen.append(mark.get() - n)

    bench.executor.start([bench.job(quick, 1), bench.job(slow, 2), bench.job(quick, 3), bench.job(slow, 4)])
    await bench.slots.wait_idle()

    assert seen == [0, 0, 0, 0]
    assert mark.get() == 0


async def test_jobs_that_wait_run_beside_each_other_and_each_in_a_task_of_its_own(bench: Bench) -> None:
    tasks: set[asyncio.Task[Any] | None] = set()
    meeting = asyncio.Barrier(5)

    async def meet() -> None:
        tasks.add(asyncio.current_task())
        await meeting.wait()

    bench.executor.start([bench.job(meet) for _ in range(5)])
    await asyncio.wait_for(bench.slots.wait_idle(), PATIENCE)

    assert len(tasks) == 5
    assert set(bench.outcomes.values()) == {Complete()}


async def test_a_job_that_waits_keeps_none_of_the_others_from_their_turn(bench: Bench) -> None:
    gate = asyncio.Event()
    order: list[int] = []

    async def wait() -> None:
        await gate.wait()

    async def note(n: int) -> None:
        order.append(n)

    bench.executor.start([bench.job(note, 1), bench.job(wait), bench.job(note, 2), bench.job(note, 3)])
    for _ in range(5):
        await asyncio.sleep(0)

    assert order == [1, 2, 3]
    gate.set()
    await bench.slots.wait_idle()


async def test_a_job_that_cancels_its_own_task_ends_no_other(bench: Bench) -> None:
    async def cancel_task() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def wait() -> None:
        await asyncio.sleep(0)

    bench.executor.start([bench.job(cancel_task), bench.job(wait), bench.job(wait)])
    await bench.slots.wait_idle()

    assert list(bench.outcomes.values()) == [Complete(), Complete(), Complete()]


async def test_a_late_stop_hits_its_own_job_or_none(bench: Bench) -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    first, second = bench.job(wait), bench.job(wait)
    bench.executor.start([first, second])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gate.set()
    bench.slots.stop([first.job.token], StopReason.LOST)
    await bench.slots.wait_idle()

    assert bench.outcomes == {first.job.token: ReportStopped(), second.job.token: Complete()}


@pytest.mark.parametrize(("reason", "outcome"), [(StopReason.LOST, ReportStopped()), (StopReason.SHUTDOWN, Release())])
async def test_a_job_stopped_before_its_turn_never_starts(bench: Bench, reason: StopReason, outcome: Outcome) -> None:
    started: list[int] = []

    async def note() -> None:
        started.append(1)

    job = bench.job(note)
    bench.executor.start([job])
    bench.slots.stop_all(reason)
    await bench.slots.wait_idle()

    assert started == []
    assert bench.outcomes == {job.job.token: outcome}


async def test_a_coroutine_that_ignores_its_cancellation_completes(bench: Bench) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    job = bench.job(stubborn)
    bench.executor.start([job])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    bench.slots.stop_all(StopReason.SHUTDOWN)
    await bench.slots.wait_idle()

    assert bench.outcomes == {job.job.token: Complete()}


async def test_errors_after_a_wait_are_the_jobs_own(bench: Bench) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    async def time_out() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    jobs = [bench.job(fail), bench.job(time_out)]
    bench.executor.start(jobs)
    await bench.slots.wait_idle()

    kinds = [outcome.error.type for outcome in bench.outcomes.values() if isinstance(outcome, Fail)]
    assert sorted(kinds) == ["KeyError", "TimeoutError"]


async def test_a_job_that_exits_ends_itself_and_not_the_worker(bench: Bench) -> None:
    async def leave() -> None:
        sys.exit(3)

    async def leave_later() -> None:
        await asyncio.sleep(0)
        sys.exit(3)

    async def note() -> None: ...

    bench.executor.start([bench.job(leave), bench.job(leave_later), bench.job(note)])
    await bench.slots.wait_idle()

    kinds = [type(outcome) for outcome in bench.outcomes.values()]
    assert sorted(kind.__name__ for kind in kinds) == ["Complete", "Fail", "Fail"]


async def test_attempts_are_counted_once_they_begin_and_not_when_a_job_was_stopped_before(bench: Bench) -> None:
    async def pays() -> None: ...

    stopped = bench.job(pays)
    stopped.stop(StopReason.SHUTDOWN)
    bench.executor.start([bench.job(pays), stopped, bench.job(pays)])
    await bench.slots.wait_idle()

    assert bench.executor.started == 2
