"""What is due below a worker's floor is found at once: somebody says so."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, JobSpec, Scheduler
from pg_scheduler._engine import floor
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.wakeups import OVERDUE_CHANNEL
from support.waiting import until
from support.world import LONG_AGO

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.conftest import MakeScheduler

pytestmark = pytest.mark.newest_postgres


ran: list[str] = []


async def note(name: str) -> None:
    ran.append(name)


async def by_schedule(there: Scheduler) -> None:
    await there.schedule(note, execution_time=LONG_AGO, args=("overdue",), misfire_grace_time=None)


async def by_replace(there: Scheduler) -> None:
    await there.schedule(
        note,
        execution_time=LONG_AGO,
        args=("overdue",),
        job_id="first",
        conflict_resolution=ConflictResolution.REPLACE,
        misfire_grace_time=None,
    )


async def by_bulk(there: Scheduler) -> None:
    await there.schedule_bulk([JobSpec(note, LONG_AGO, ("overdue",), misfire_grace_time=None)])


async def by_sql(there: Scheduler) -> None:
    await there.db_pool.execute(
        "SELECT scheduler_enqueue($1, '[\"overdue\"]', run_at => $2)", f"{__name__}:note", LONG_AGO
    )


async def by_reschedule(there: Scheduler) -> None:
    job_id = await there.schedule(
        note, execution_time=datetime.now(UTC) + timedelta(hours=1), args=("overdue",), misfire_grace_time=None
    )
    await there.reschedule(job_id, LONG_AGO)


async def by_resuming_its_queue(there: Scheduler) -> None:
    await there.pause_queue("default")
    await there.schedule(note, execution_time=LONG_AGO, args=("overdue",), misfire_grace_time=None)
    await there.resume_queue("default")


WAYS = [by_schedule, by_replace, by_bulk, by_sql, by_reschedule, by_resuming_its_queue]


@pytest.mark.parametrize("way", WAYS)
async def test_an_overdue_job_of_another_process_starts_at_once_on_a_worker_that_has_seen_later_ones(
    pool: asyncpg.Pool[asyncpg.Record],
    started: MakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[Scheduler], Awaitable[None]],
) -> None:
    monkeypatch.setattr(floor, "BELIEVED_SECONDS", 3600.0)  # it would not be found by itself
    ran.clear()
    worker = await started(note)
    await worker.schedule(note, execution_time=datetime.now(UTC), args=("first",), job_id="first")
    await until(lambda: ran == ["first"])
    await worker.schedule(note, execution_time=datetime.now(UTC), args=("second",))
    await until(lambda: ran == ["first", "second"])

    await way(Scheduler(pool))

    await until(lambda: ran == ["first", "second", "overdue"])


@pytest.mark.usefixtures("unpolled")
async def test_an_overdue_job_that_is_told_of_during_a_claim_is_seen_by_the_look_after_it(
    dsn: str, pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "BELIEVED_SECONDS", 3600.0)
    ran.clear()
    await started(note)
    elsewhere = Scheduler(pool)
    told = asyncio.Event()
    listener = await asyncpg.connect(dsn)
    await listener.add_listener(OVERDUE_CHANNEL, lambda *_: told.set())
    real = JobStore.claim

    async def overtaken(*args: Any, **named: Any) -> Any:
        claimed = await real(*args, **named)
        if ran == ["first"] and not told.is_set():
            await by_schedule(Scheduler(pool))
            await told.wait()
            await pool.execute("SELECT")  # so that the worker has heard it too
        return claimed

    await elsewhere.schedule(note, execution_time=datetime.now(UTC), args=("first",))
    await until(lambda: ran == ["first"])
    monkeypatch.setattr(JobStore, "claim", overtaken)
    await elsewhere.schedule(note, execution_time=datetime.now(UTC), args=("second",))

    await until(lambda: ran == ["first", "second", "overdue"])
    await listener.close()
