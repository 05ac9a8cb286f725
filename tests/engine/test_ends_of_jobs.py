"""How a job ends in the database, and how others learn of it."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import Cancel, Fail, JobContext, JobStatus, RetryPolicy, Scheduler, Snooze, task
from pg_scheduler._domain.outcomes import Complete
from pg_scheduler._engine.completions import Completions
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import (
    InvalidArgument,
    JobCancelled,
    JobExpired,
    JobFailed,
    LostClaim,
    ResultNotKept,
    UnknownJob,
)
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from engine.conftest import MakeScheduler
    from support.world import World


def now() -> datetime:
    return datetime.now(UTC)


@task(keep_result=True, retry_policy=RetryPolicy(initial=0))
async def answer(value: Any) -> Any:
    match value:
        case "snooze":
            return Snooze(60)
        case "cancel":
            return Cancel("no\x00need")
        case "fail":
            raise Fail("bad order")
        case "raise":
            raise KeyError(value)
        case "unkept":
            return {1}
        case _:
            return value


async def no_result() -> int:
    return 1


async def until_status(world: World, job_id: str, expected: str) -> None:
    async def probe() -> bool:
        await world.jobs.wake_workers()
        assert (await world.row(job_id))["status"] == expected
        return True

    await until(probe, what=f"job is {expected}")


@pytest.mark.parametrize("value", [None, 0, "text", [1, {"a": [None, 2.5]}], {}])
async def test_a_result_reaches_who_waits_for_it_in_another_process(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, value: Any
) -> None:
    await started(answer)
    elsewhere = Scheduler(pool)

    job_id = await elsewhere.schedule(answer, execution_time=now(), args=(value,))

    assert await elsewhere.result(job_id, timeout=10) == value
    assert await elsewhere.result(job_id) == value


async def test_a_waiter_is_woken_by_the_end_and_leaves_nothing_behind(
    world: World, pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pg_scheduler._engine.results.PAUSE_SECONDS", 3600)
    gate = asyncio.Event()

    @task(keep_result=True)
    async def wait() -> str:
        await gate.wait()
        return "done"

    await started(wait)
    elsewhere = Scheduler(pool)
    job_id = await elsewhere.schedule(wait, execution_time=now())
    waiting = [asyncio.create_task(elsewhere.result(job_id, timeout=10)) for _ in range(2)]

    async def listens() -> bool:
        listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%scheduler_results%'"
        return int(await world.pool.fetchval(listening)) == 1

    await until(listens)
    gate.set()

    assert await asyncio.gather(*waiting) == ["done", "done"]
    with pytest.raises(TimeoutError):
        await elsewhere.result(await world.pending(), timeout=0.01)


async def test_a_missing_result_says_why(world: World, started: MakeScheduler) -> None:
    scheduler = await started(answer, no_result)

    async def ended(func: Any, *args: Any, **options: Any) -> str:
        return await scheduler.schedule(func, execution_time=now(), args=args, **options)

    with pytest.raises(JobFailed) as failed:
        await scheduler.result(await ended(answer, "raise", max_retries=0), timeout=10)
    error = failed.value
    assert (error.error_type, error.error_message, error.attempt) == ("KeyError", "'raise'", 1)
    assert "in answer" in error.error_traceback
    assert "KeyError" not in str(error)
    with pytest.raises(JobCancelled, match="no\ufffdneed"):
        await scheduler.result(await ended(answer, "cancel"), timeout=10)
    with pytest.raises(ResultNotKept, match="result is a set"):
        await scheduler.result(await ended(answer, "unkept"), timeout=10)
    with pytest.raises(ResultNotKept, match="keep_result=True"):
        await scheduler.result(await ended(no_result), timeout=10)
    with pytest.raises(UnknownJob):
        await scheduler.result("nobody", timeout=10)
    expired = await world.pending()
    await world.pool.execute(
        "UPDATE scheduled_jobs SET status = 'expired', finished_at = now() WHERE job_id = $1", expired
    )
    with pytest.raises(JobExpired):
        await scheduler.result(expired, timeout=10)


async def test_a_job_that_failed_without_an_attempt_of_its_own_says_what_its_row_says(
    world: World, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    job_id = await world.pending()
    await pool.execute("UPDATE scheduled_jobs SET status = 'failed', finished_at = now(), error_message = 'by hand'")

    with pytest.raises(JobFailed) as failed:
        await Scheduler(pool).result(job_id, timeout=10)

    assert (failed.value.error_type, failed.value.error_message, failed.value.attempt) == ("", "by hand", 0)


async def test_options_of_a_job_reach_its_attempt(started: MakeScheduler) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    async def parent(ctx: JobContext) -> None:
        await ctx.enqueue(no_result, job_id="child", keep_result=True, flush="now")

    scheduler = await started()
    await scheduler.schedule(parent, execution_time=now())
    late = await scheduler.schedule(wait, execution_time=now(), timeout=0.01)

    with pytest.raises(JobFailed) as failed:
        await scheduler.result(late, timeout=10)
    assert (failed.value.error_type, failed.value.error_message) == ("JobTimeout", "timed out after 0.01 s")

    async def result() -> Any:
        try:
            return await scheduler.result("child", timeout=10)
        except UnknownJob as error:
            raise AssertionError from error

    assert await until(result) == 1


async def test_a_result_of_an_earlier_run_is_not_taken_for_the_new_one(world: World, started: MakeScheduler) -> None:
    @task(keep_result=True)
    async def change(ctx: JobContext) -> Any:
        if not await kept():
            return [1]
        async with ctx.transaction():  # what it returns after that is kept no more
            return [2]

    async def kept() -> int:
        return int(await world.pool.fetchval("SELECT count(*) FROM scheduler_results"))

    scheduler = await started(change)
    job_id = await scheduler.schedule(change, execution_time=now(), job_id="a")
    assert await scheduler.result(job_id, timeout=10) == [1]
    await world.pool.execute("UPDATE scheduled_jobs SET status = 'failed'")
    await scheduler.update_job_status(job_id, JobStatus.PENDING)

    with pytest.raises(ResultNotKept):
        await scheduler.result(job_id, timeout=10)


async def test_results_go_with_their_job(world: World, started: MakeScheduler) -> None:
    scheduler = await started(answer)
    job_id = await scheduler.schedule(answer, execution_time=now(), args=(1,))
    await scheduler.result(job_id, timeout=10)

    await world.pool.execute("DELETE FROM scheduled_jobs")

    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_results") == 0


async def test_a_snoozed_job_comes_back_later_and_is_charged_no_retry(world: World, started: MakeScheduler) -> None:
    scheduler = await started(answer)
    job_id = await scheduler.schedule(answer, execution_time=now(), args=("snooze",), max_retries=2)

    async def snoozed() -> asyncpg.Record:
        row = await world.row(job_id)
        assert (row["status"], row["attempt"]) == ("pending", 1)
        return row

    row = await until(snoozed)
    assert row["retry_count"] == 0
    assert timedelta(seconds=50) < row["execution_time"] - now() <= timedelta(seconds=60)


async def test_a_job_that_says_fail_is_not_retried(world: World, started: MakeScheduler) -> None:
    scheduler = await started(answer)
    job_id = await scheduler.schedule(answer, execution_time=now(), args=("fail",), max_retries=5)

    await until_status(world, job_id, "failed")
    row = await world.row(job_id)
    assert (row["retry_count"], row["error_message"]) == (0, "bad order")


@pytest.mark.parametrize("query", ["complete_job_with_result", "snooze_job", "cancel_running_job", "set_progress"])
async def test_a_late_end_is_refused_by_the_fence(world: World, query: str) -> None:
    job = await world.running(await world.worker())
    others: dict[str, tuple[Any, ...]] = {
        "complete_job_with_result": ("1", None),
        "snooze_job": (1.0,),
        "cancel_running_job": ("x",),
        "set_progress": (0.5, ""),
    }
    for fence in [(job.id + 1, job.token, "w1"), (job.id, job.token - 1, "w1"), (job.id, job.token, "w2")]:
        assert await world.pool.fetchrow(QUERIES[query], *fence, *others[query]) is None
    await world.jobs.complete([job], job.worker_id)
    assert await world.pool.fetchrow(QUERIES[query], job.id, job.token, job.worker_id, *others[query]) is None


async def test_progress_is_there_while_the_job_runs_and_refused_once_it_is_lost(
    world: World, started: MakeScheduler
) -> None:
    lost: list[str] = []

    @task(keep_result=True)
    async def work(ctx: JobContext) -> str:
        await ctx.progress(0.25)
        await ctx.progress(0.5, "half")
        row = await world.pool.fetchrow("SELECT progress, note FROM scheduler_results")
        for fraction, note in [(1.5, ""), (float("nan"), ""), (0.5, "x" * 1001), (0.5, "\x00")]:
            with pytest.raises(InvalidArgument):
                await ctx.progress(fraction, note)
        if ctx.attempt == 2:
            await world.pool.execute("UPDATE scheduled_jobs SET token = token + 1")
            with pytest.raises(LostClaim):
                await ctx.progress(0.75)
            lost.append("lost")
        assert row is not None
        return str(tuple(row))

    scheduler = await started(work)
    job_id = await scheduler.schedule(work, execution_time=now())
    assert await scheduler.result(job_id, timeout=10) == "(0.5, 'half')"
    assert await world.pool.fetchval("SELECT progress FROM scheduler_results") == 0.5
    await world.pool.execute("UPDATE scheduled_jobs SET status = 'pending', finished_at = NULL, execution_time = now()")
    await world.jobs.wake_workers()
    await until(lambda: lost)


async def test_a_job_that_asks_for_it_is_written_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that would wait for ever is written the moment that one of its jobs may not wait."""
    monkeypatch.setattr("pg_scheduler._engine.completions.BATCH_SECONDS", 3600)
    completions, stopping = Completions(world.jobs), asyncio.Event()
    running = asyncio.create_task(completions.run(stopping))
    worker = await world.worker()

    for _ in range(2):
        job = await world.running(worker)
        completions.add(job, Complete())
        completions.hurry()
        await until(lambda: not completions.tokens())

    stopping.set()
    completions.wake()
    await running


async def test_a_shutdown_fails_an_at_most_once_job_and_hands_the_others_back(
    world: World, started: MakeScheduler
) -> None:
    begun: list[str] = []

    async def wait(ctx: JobContext) -> None:
        begun.append(ctx.job_id)
        await asyncio.Event().wait()

    scheduler = await started(wait)
    for job_id in ("once", "again"):
        await scheduler.schedule(wait, execution_time=now() + timedelta(seconds=1), job_id=job_id, max_retries=3)
    await world.pool.execute("UPDATE scheduled_jobs SET on_interrupt = 'fail' WHERE job_id = 'once'")
    await until(lambda: len(begun) == 2)

    await scheduler.shutdown()

    once, again = await world.row("once"), await world.row("again")
    assert (once["status"], again["status"], again["attempt"]) == ("failed", "pending", 0)
    assert await world.pool.fetchval("SELECT error_type FROM scheduler_attempts") == "Interrupted"


async def test_middleware_of_a_scheduler_is_around_its_jobs(started: MakeScheduler) -> None:
    told: list[str] = []

    async def tell(call: Callable[[], Awaitable[Any]], ctx: JobContext) -> Any:
        told.append(ctx.job_id)
        return await call()

    scheduler = await started(answer, middleware=[tell])
    job_id = await scheduler.schedule(answer, execution_time=now(), args=(5,))

    assert await scheduler.result(job_id, timeout=10) == 5
    assert told == [job_id]


async def test_a_row_that_this_worker_holds_may_be_run_by_hand(world: World, started: MakeScheduler) -> None:
    scheduler = await started(answer, max_concurrent_jobs=2)
    worker, task_key = scheduler.worker_id, next(key for key in scheduler.task_map if key.endswith(":answer"))
    claim = """UPDATE scheduled_jobs SET status = 'running', worker_id = $2, attempt = 1, started_at = now(),
               token = nextval('scheduler_token') WHERE job_id = $1 RETURNING *"""
    for run in (scheduler.execute_job, scheduler.execute_job_with_concurrency_control):
        job_id = await world.pending(task=task_key, task_data='{"args": [1]}', queue="of nobody")
        row = await world.row(job_id)
        with pytest.raises(InvalidArgument, match="not held by this worker"):
            await run(row)
        claimed = await world.pool.fetchrow(claim, job_id, worker)
        assert claimed is not None
        with pytest.raises(InvalidArgument, match="'nobodys' is not registered"):
            await run(dict(claimed) | {"task": "nobodys"})
        await run(claimed)
        await until_status(world, job_id, "completed")
        with pytest.raises(InvalidArgument, match=r"start\(\)"):
            await Scheduler(world.pool).execute_job(claimed)


async def test_slots_are_seen_from_outside(world: World, started: MakeScheduler) -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    scheduler = await started(wait, max_concurrent_jobs=2)
    assert (scheduler.job_semaphore.free, scheduler.job_semaphore.locked()) == (2, False)
    ids = {await scheduler.schedule(wait, execution_time=now()) for _ in range(2)}
    await until(lambda: set(scheduler.active_tasks) == ids)
    assert (scheduler.job_semaphore.free, scheduler.job_semaphore.locked()) == (0, True)
    gate.set()
    await until(lambda: not scheduler.active_jobs)
    assert Scheduler(world.pool).job_semaphore.free == 25


async def test_functions_named_after_the_start_are_loaded_when_asked_for(started: MakeScheduler) -> None:
    scheduler = await started()
    name = f"named-later-{id(scheduler)}"  # what a decorator has named stays for the process

    @task(name=name)
    async def later() -> None: ...

    assert name not in scheduler.task_map
    await scheduler.load_task_functions()
    assert scheduler.task_map[name] is later


async def test_the_text_of_an_error_is_in_no_log(
    world: World, started: MakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    async def leak() -> None:
        raise ValueError("secret-canary")

    with caplog.at_level(logging.DEBUG):
        scheduler = await started(leak)
        await until_status(world, await scheduler.schedule(leak, execution_time=now()), "failed")

    assert "secret-canary" not in caplog.text
