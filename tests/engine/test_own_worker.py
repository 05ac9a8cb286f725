"""What the worker of the submitting process starts without a claim, and what it leaves to one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, JobContext, JobPriority, RetryPolicy, Scheduler, Unique
from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._domain.shares import WorkerSettings
from pg_scheduler._engine import completions, own_worker
from pg_scheduler._store.jobs import Ahead, JobStore
from pg_scheduler.errors import DatabaseUnreachable
from support.beats import beating_until
from support.proxy import Proxy
from support.told import tell_of_calls
from support.waiting import PATIENCE, until
from support.world import new_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import TypeAlias

    from engine.conftest import MakeScheduler
    from pg_scheduler._engine.own_worker import OwnWorker
    from support.world import World

    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]

pytestmark = pytest.mark.newest_postgres

NOTHING_AHEAD = Ahead(datetime(2030, 1, 1, tzinfo=UTC), None, None, None, None, False, False, 0.0, WorkerSettings())


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The claims and own submissions as they begin, and the jobs."""
    return tell_of_calls(monkeypatch, "claim", "insert_claimed")


@pytest.fixture
async def proxy(dsn: str) -> AsyncIterator[Proxy]:
    async with Proxy.to(dsn) as proxy:
        yield proxy


def own_worker_of(scheduler: Scheduler) -> OwnWorker:
    assert scheduler._worker.engine is not None
    return scheduler._worker.engine.own_worker


async def test_a_due_job_of_its_own_process_starts_without_a_claim(started: MakeScheduler, told: list[str]) -> None:
    async def work() -> None:
        told.append("work")

    scheduler = await started(work)
    await until(lambda: own_worker_of(scheduler).takes(new_job(task=scheduler.register(work)[0])))
    told.clear()

    await scheduler.schedule(work, execution_time=now())

    await until(lambda: "work" in told)
    assert told[: told.index("work")] == ["insert_claimed"]


async def test_a_job_begins_before_its_submission_has_given_the_connection_back(
    started: MakeScheduler, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()

    scheduler = await started(work)
    await until(lambda: own_worker_of(scheduler).takes(new_job(task=scheduler.register(work)[0])))
    real = asyncpg.Pool.release

    async def held_back(self: Pool, *args: Any, **named: Any) -> None:
        if self is pool:
            await asyncio.wait_for(begun.wait(), PATIENCE)
        await real(self, *args, **named)

    monkeypatch.setattr(asyncpg.Pool, "release", held_back)
    await scheduler.schedule(work, execution_time=now())


async def test_a_job_that_was_stored_as_claimed_is_held_as_its_row_says(started: MakeScheduler, world: World) -> None:
    contexts: list[JobContext] = []
    gate = asyncio.Event()

    async def work(ctx: JobContext) -> None:
        contexts.append(ctx)
        await gate.wait()

    scheduler = await started(work)
    job_id = await scheduler.schedule(
        work,
        execution_time=now().astimezone(),
        priority=JobPriority.HIGH,
        max_retries=2,
        timeout=60,
        retry_policy=RetryPolicy(initial=7),
        keep_result=True,
        on_interrupt="fail",
    )
    await until(lambda: contexts)

    row = await world.row(job_id)
    assert scheduler._worker.engine is not None
    (held,) = scheduler._worker.engine.slots.held()
    assert held.job == ClaimedJob.of_row(row)
    assert (row["status"], row["worker_id"], row["attempt"]) == ("running", scheduler.worker_id, 1)
    assert row["token"] == contexts[0].token > 0
    assert row["started_at"] >= row["execution_time"]
    gate.set()


async def test_a_job_is_not_begun_before_its_time(started: MakeScheduler) -> None:
    begun: list[datetime] = []

    async def work() -> None:
        begun.append(now())

    scheduler = await started(work)
    await until(lambda: own_worker_of(scheduler).takes(new_job(task=scheduler.register(work)[0])))
    due_at = now() + timedelta(milliseconds=100)
    await scheduler.schedule(work, execution_time=due_at)
    await until(lambda: begun)

    assert begun[0] >= due_at


@pytest.mark.parametrize(
    "changes",
    [
        {"queue": "not served here"},
        {"task": "not known here"},
        {"concurrency_key": "k"},
        {"execution_time": datetime(2200, 1, 1, tzinfo=UTC)},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_job_that_a_claim_would_not_bring_now_is_left_to_one(
    started: MakeScheduler, changes: dict[str, Any]
) -> None:
    async def work() -> None: ...

    scheduler = await started(work)
    job = new_job(task=scheduler.register(work)[0])
    await until(lambda: own_worker_of(scheduler).takes(job))

    assert not own_worker_of(scheduler).takes(job._replace(**changes))


async def test_a_job_takes_no_slot_that_a_claim_may_ask_for(started: MakeScheduler) -> None:
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()

    scheduler = await started(work, max_concurrent_jobs=4, batch_claim_limit=2)
    job = new_job(task=scheduler.register(work)[0])
    for n in range(2):
        await until(lambda: own_worker_of(scheduler).takes(job))
        await scheduler.schedule(work, execution_time=now())
        await until(partial(_holds, scheduler, n + 1))

    assert not own_worker_of(scheduler).takes(job)
    gate.set()


async def test_a_job_overtakes_no_backlog(started: MakeScheduler) -> None:
    async def work() -> None: ...

    scheduler = await started(work)
    job = new_job(task=scheduler.register(work)[0])
    await until(lambda: own_worker_of(scheduler).takes(job))

    own_worker_of(scheduler)._claiming.is_behind = True

    assert not own_worker_of(scheduler).takes(job)


async def test_a_job_is_left_to_a_claim_while_another_waits_to_run_alone(started: MakeScheduler) -> None:
    async def work() -> None: ...

    scheduler = await started(work)
    job = new_job(task=scheduler.register(work)[0])
    await until(lambda: own_worker_of(scheduler).takes(job))

    own_worker_of(scheduler).observe(replace(NOTHING_AHEAD, alone=True))

    assert not own_worker_of(scheduler).takes(job)


async def test_a_worker_without_a_lease_takes_no_job(started: MakeScheduler) -> None:
    async def work() -> None: ...

    scheduler = await started(work)
    job = new_job(task=scheduler.register(work)[0])
    await until(lambda: own_worker_of(scheduler).takes(job))

    assert scheduler._worker.engine is not None
    scheduler._worker.engine.lease.lose()

    assert not own_worker_of(scheduler).takes(job)


async def test_a_worker_that_stops_for_a_fault_takes_no_job(started: MakeScheduler) -> None:
    async def work() -> None: ...

    scheduler = await started(work)
    job = new_job(task=scheduler.register(work)[0])
    await until(lambda: own_worker_of(scheduler).takes(job))

    assert scheduler._worker.engine is not None
    scheduler._worker.engine.lifecycle._stop_taking.set()  # as when a service has died

    assert not own_worker_of(scheduler).takes(job)


@pytest.mark.parametrize(
    "options",
    [{"job_id": "mine"}, {"unique": Unique()}, {"job_id": "mine", "conflict_resolution": ConflictResolution.REPLACE}],
    ids=["id", "unique", "replace"],
)
async def test_what_another_transaction_may_hold_up_is_left_to_a_claim(
    started: MakeScheduler, told: list[str], options: dict[str, Any]
) -> None:
    async def work() -> None:
        told.append("work")

    scheduler = await started(work)
    await until(lambda: own_worker_of(scheduler).takes(new_job(task=scheduler.register(work)[0])))
    told.clear()
    await scheduler.schedule(work, execution_time=now(), **options)
    await until(lambda: "work" in told)

    assert "insert_claimed" not in told


async def test_a_job_of_the_callers_transaction_starts_after_its_commit(
    started: MakeScheduler, pool: Pool, told: list[str]
) -> None:
    async def work() -> None:
        told.append("work")

    scheduler = await started(work)
    async with pool.acquire() as connection, connection.transaction():
        await scheduler.schedule(work, execution_time=now(), connection=connection)
        await connection.execute("SELECT pg_sleep(0.05)")
        told.append("commit")
    await until(lambda: "work" in told)

    assert told.index("commit") < told.index("work")
    assert "insert_claimed" not in told


async def test_a_job_of_a_paused_queue_waits(started: MakeScheduler, world: World, told: list[str]) -> None:
    async def work() -> None:
        told.append("work")

    scheduler = await started(work)
    await scheduler.pause_queue("default")
    await until(lambda: own_worker_of(scheduler).takes(new_job(task=scheduler.register(work)[0])))

    job_id = await scheduler.schedule(work, execution_time=now())

    assert await world.statuses(job_id) == ["pending"]
    await scheduler.resume_queue("default")
    await until(lambda: "work" in told)


async def test_a_job_whose_answer_is_lost_is_handed_back_and_runs_once(proxy: Proxy, dsn: str, pool: Pool) -> None:
    ran: list[int] = []

    async def note(n: int) -> None:
        ran.append(n)

    async with asyncpg.create_pool(proxy.dsn, min_size=1, max_size=1, command_timeout=1.5) as through:
        scheduler = Scheduler(through, dsn=dsn, shutdown_timeout=0.2)
        scheduler.register(note)
        async with scheduler:
            for n in range(3):  # a statement that is new to its connection asks for an answer before it is carried out
                await until(lambda: own_worker_of(scheduler).takes(new_job(task=scheduler.register(note)[0])))
                await scheduler.schedule(note, execution_time=now(), args=(n,))
            await until(lambda: ran == [0, 1, 2])
            await until(lambda: own_worker_of(scheduler).takes(new_job(task=scheduler.register(note)[0])))
            proxy.swallow_replies()
            with pytest.raises(DatabaseUnreachable):
                await scheduler.schedule(note, execution_time=now(), args=(3,))
            assert await pool.fetchval("SELECT worker_id FROM scheduled_jobs WHERE status = 'running'")
            proxy.cut()
            proxy.heal()

            await beating_until(scheduler, partial(_completed, pool, 4))
    assert ran == [0, 1, 2, 3]
    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE interruptions > 0 OR attempt > 1") == 0


async def test_an_answer_that_comes_too_late_starts_nothing_and_the_job_runs_once(
    started: MakeScheduler, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    async def note() -> None:
        ran.append(1)

    scheduler = await started(note)
    await until(lambda: own_worker_of(scheduler).takes(new_job(task=scheduler.register(note)[0])))
    monkeypatch.setattr(own_worker, "PATIENCE", 0)
    await scheduler.schedule(note, execution_time=now())
    assert (ran, scheduler.active_jobs) == ([], set())

    await beating_until(scheduler, partial(_completed, pool, 1))
    assert ran == [1]


@pytest.mark.usefixtures("unpolled")
async def test_its_outcome_is_written_without_waiting_for_more(
    started: MakeScheduler, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "BATCH_SECONDS", 3600.0)

    async def work() -> None: ...

    scheduler = await started(work)
    await until(lambda: own_worker_of(scheduler).takes(new_job(task=scheduler.register(work)[0])))
    for n in range(5):  # what the claim loop does at the start may hide it once
        await scheduler.schedule(work, execution_time=now() - timedelta(seconds=1))  # by any clock: it does not wait
        await until(partial(_completed, pool, n + 1))


async def test_a_shutdown_waits_for_the_answer_and_for_the_job(
    started: MakeScheduler, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = asyncio.Event()
    real = JobStore.insert_claimed

    async def slow(*args: Any, **named: Any) -> Any:
        await answer.wait()
        return await real(*args, **named)

    async def work() -> None: ...

    scheduler = await started(work)
    await until(lambda: own_worker_of(scheduler).takes(new_job(task=scheduler.register(work)[0])))
    monkeypatch.setattr(JobStore, "insert_claimed", slow)
    submission = asyncio.create_task(scheduler.schedule(work, execution_time=now()))
    await asyncio.sleep(0)
    shutdown = asyncio.create_task(scheduler.shutdown())
    await until(lambda: scheduler.worker_id is None)

    await pool.execute("SELECT pg_sleep(0.1)")
    assert not shutdown.done()
    answer.set()
    await asyncio.gather(submission, shutdown)
    assert await _completed(pool, 1)


def _holds(scheduler: Scheduler, number: int) -> bool:
    return len(scheduler.active_jobs) == number


async def _completed(pool: Pool, number: int) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'completed'") == number)
