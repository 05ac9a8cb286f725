"""What an idle worker does with a job that is due now: nothing stands between the claim and the start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import JobStatus, Scheduler
from pg_scheduler._engine import completions
from pg_scheduler._store.jobs import JobStore
from support.told import tell_of_calls
from support.waiting import until

if TYPE_CHECKING:
    from engine.conftest import MakeScheduler

pytestmark = pytest.mark.newest_postgres

AN_HOUR = 3600.0


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The claims and looks as they begin, and the jobs."""
    return tell_of_calls(monkeypatch, "claim", "look_ahead")


def lately() -> datetime:
    """Before the worker's last look, and above its floor: later ones wait for their moment as well as that is known."""
    return datetime.now(UTC) - timedelta(seconds=4)


def elsewhere(scheduler: Scheduler) -> Scheduler:
    """One that runs nothing: what it submits is claimed, where the worker's own is stored as claimed."""
    return Scheduler(scheduler.db_pool)


async def test_a_claimed_job_begins_before_the_worker_looks_for_what_comes_next(
    started: MakeScheduler, done: list[str]
) -> None:
    async def work() -> None:
        done.append("work")

    scheduler = await started(work)
    await elsewhere(scheduler).schedule(work, execution_time=lately())
    await until(lambda: "work" in done)

    assert done[done.index("work") - 1] == "claim"


async def test_what_is_heard_during_a_claim_is_answered_by_the_look_after_it(
    started: MakeScheduler, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    async def note(n: int) -> None:
        ran.append(n)

    scheduler = await started(note)
    real = JobStore.claim

    async def rung_meanwhile(*args: Any, **named: Any) -> Any:
        claimed = await real(*args, **named)
        scheduler._worker._basis.bell.ring()
        return claimed

    monkeypatch.setattr(JobStore, "claim", rung_meanwhile)
    await elsewhere(scheduler).schedule(note, execution_time=lately(), args=(1,))
    await until(lambda: ran == [1])
    for _ in range(50):
        await scheduler.db_pool.execute("SELECT")  # time for another fifty claims

    assert done.count("claim") < 10  # one for the job, one for the start, and what chance brings


async def test_an_idle_worker_writes_what_has_ended_without_waiting_for_more(
    started: MakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "BATCH_SECONDS", AN_HOUR)

    async def work() -> None: ...

    scheduler = await started(work)
    job_id = await scheduler.schedule(work, execution_time=lately())

    async def is_completed() -> bool:
        job = await scheduler.job(job_id)
        return job is not None and job.status is JobStatus.COMPLETED

    await until(is_completed)
