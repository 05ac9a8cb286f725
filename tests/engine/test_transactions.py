"""A job that completes in its own transaction: one effect, whatever is cut where."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, JobContext, RetryPolicy, Scheduler, task
from pg_scheduler._store.queries import QUERIES
from pg_scheduler._store.transactions import JobTransactions
from pg_scheduler.errors import InvalidPayload, JobExists, LostClaim, TransactionRefused
from support.statement_proxy import Moment, StatementProxy, fall_silent
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator

    from engine.conftest import MakeScheduler
    from pg_scheduler._domain.jobs import ClaimedJob
    from support.world import World

USERS_STATEMENT = "INSERT INTO effects VALUES ('first')"
AT_ONCE = RetryPolicy(initial=0)
BOUNDARIES = {
    "BEGIN": "BEGIN;",
    "first statement": QUERIES["limit_idling"],
    "user's statement": "INSERT INTO effects",
    "enqueue": QUERIES["insert_job"],
    "completion": QUERIES["complete_in_transaction"],
    "COMMIT": "COMMIT;",
}


def now() -> datetime:
    return datetime.now(UTC)


async def child() -> None: ...


async def takes_one(one: str) -> None: ...


@pytest.fixture
async def effects(pool: asyncpg.Pool[asyncpg.Record]) -> Callable[[], Awaitable[list[str]]]:
    await pool.execute("CREATE TABLE effects (what text)")

    async def read() -> list[str]:
        return [row["what"] for row in await pool.fetch("SELECT what FROM effects ORDER BY what")]

    return read


@pytest.fixture
async def proxy(dsn: str) -> AsyncIterator[StatementProxy]:
    async with StatementProxy.to(dsn) as proxy:
        yield proxy


@asynccontextmanager
async def by_proxy(proxy: StatementProxy, dsn: str, **settings: Any) -> AsyncIterator[Scheduler]:
    """A scheduler whose engine connects directly, and the caller's pool through the proxy.

    Without a cache every statement is sent with its text, by which the proxy knows it.
    """
    async with asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool, Scheduler(pool, **settings) as scheduler:
        pool.set_connect_args(proxy.dsn, statement_cache_size=0)
        await pool.expire_connections()
        yield scheduler


async def until_status(world: World, job_id: str, expected: str) -> None:
    async def probe() -> bool:
        await world.jobs.wake_workers()  # a retry wakes nobody
        assert (await world.row(job_id))["status"] == expected
        return True

    await until(probe, what=f"job is {expected}")


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
async def test_a_connection_cut_at_any_statement_leaves_exactly_one_effect(
    world: World,
    dsn: str,
    effects: Callable[[], Awaitable[list[str]]],
    proxy: StatementProxy,
    boundary: str,
    moment: Moment,
) -> None:
    attempts: list[int] = []

    @task(retry_policy=AT_ONCE)
    async def charge(ctx: JobContext) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            proxy.arm(BOUNDARIES[boundary], moment)
        async with ctx.transaction() as connection:
            await connection.execute(USERS_STATEMENT)
            await ctx.enqueue(child)

    async with by_proxy(proxy, dsn) as scheduler:
        job_id = await scheduler.schedule(charge, execution_time=now(), max_retries=3)
        await until_status(world, job_id, "completed")

    assert proxy.struck.is_set()
    assert await effects() == ["first"]
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE job_name = 'child'") == 1
    # Only a commit that took place and was not heard of needs no second attempt.
    assert attempts == ([1] if (boundary, moment) == ("COMMIT", "after") else [1, 2])


async def test_a_commit_that_is_never_answered_is_looked_up(
    dsn: str, effects: Callable[[], Awaitable[list[str]]], proxy: StatementProxy
) -> None:
    reached: list[str] = []

    async def charge(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            await connection.execute(USERS_STATEMENT)
            proxy.arm("COMMIT;", "after", fall_silent)
        reached.append("after the block")

    async with by_proxy(proxy, dsn, lease_seconds=3) as scheduler:
        await scheduler.schedule(charge, execution_time=now())
        await until(lambda: reached)

    assert await effects() == ["first"]


async def test_the_end_of_the_block_completes_the_job_and_nothing_after_it_does(
    world: World, effects: Callable[[], Awaitable[list[str]]], started: MakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    async def charge(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            await connection.execute(USERS_STATEMENT)
        seen.append((await world.row(ctx.job_id))["status"])
        raise KeyError("too late")

    caplog.set_level(logging.INFO, "pg_scheduler")
    scheduler = await started()
    job_id = await scheduler.schedule(charge, execution_time=now(), max_retries=3)
    await until(lambda: not scheduler.active_jobs and seen)
    await scheduler.shutdown()  # by then every outcome has been written

    row = await world.row(job_id)
    assert (seen, row["status"], row["retry_count"], await effects()) == (["completed"], "completed", 0, ["first"])
    assert "ended with an error after it had completed: KeyError" in caplog.text
    assert "discarded" not in caplog.text


async def test_a_job_goes_on_after_its_block_and_is_not_taken_for_lost(world: World, started: MakeScheduler) -> None:
    ended: list[str] = []

    async def charge(ctx: JobContext) -> None:
        async with ctx.transaction():
            pass
        since = await world.pool.fetchval("SELECT clock_timestamp()")

        async def heartbeat_asked_since() -> bool:
            count = "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND state = 'idle' AND query_start > $2"
            return bool(await world.pool.fetchval(count, QUERIES["held_tokens"], since))

        await until(heartbeat_asked_since)
        since = await world.pool.fetchval("SELECT clock_timestamp()")
        await until(heartbeat_asked_since)  # by then the answer of the first is in
        ended.append("by itself")

    scheduler = await started()
    await scheduler.schedule(charge, execution_time=now())

    await until(lambda: not scheduler.active_jobs and ended)
    assert ended == ["by itself"]


async def test_a_job_cancelled_meanwhile_keeps_nothing_of_its_block(
    world: World, effects: Callable[[], Awaitable[list[str]]], started: MakeScheduler
) -> None:
    errors: list[BaseException] = []

    async def charge(ctx: JobContext) -> None:
        try:
            async with ctx.transaction() as connection:
                await connection.execute(USERS_STATEMENT)
                await ctx.enqueue(child)
                assert await scheduler.cancel_job(ctx.job_id)
        except LostClaim as error:
            errors.append(error)
            raise

    scheduler = await started()
    job_id = await scheduler.schedule(charge, execution_time=now(), max_retries=3)

    async def reported() -> bool:
        row = await world.row(job_id)
        return row["status"] == "cancelled" and row["stopping_worker"] is None

    await until(reported)
    assert [type(error) for error in errors] == [LostClaim]
    assert await effects() == []
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 1


async def test_a_second_block_and_one_inside_another_are_refused(world: World, started: MakeScheduler) -> None:
    refused: list[str] = []

    async def charge(ctx: JobContext) -> None:
        async with ctx.transaction():
            with suppress(TransactionRefused):
                async with ctx.transaction():
                    pass
                refused.append("never")
        try:
            async with ctx.transaction():
                pass
        except TransactionRefused as error:
            refused.append(error.fix)

    scheduler = await started()
    job_id = await scheduler.schedule(charge, execution_time=now())

    await until_status(world, job_id, "completed")
    await until(lambda: refused)
    assert refused == ["do all of the job's writes in one block"]


async def test_a_block_that_was_rolled_back_may_be_tried_again(
    world: World, effects: Callable[[], Awaitable[list[str]]], started: MakeScheduler
) -> None:
    async def charge(ctx: JobContext) -> None:
        for what in ("first", "second"):
            with suppress(ZeroDivisionError):
                async with ctx.transaction() as connection:
                    await connection.execute("INSERT INTO effects VALUES ($1)", what)
                    if what == "first":
                        raise ZeroDivisionError

    scheduler = await started()
    job_id = await scheduler.schedule(charge, execution_time=now())

    await until_status(world, job_id, "completed")
    assert await effects() == ["second"]


@pytest.mark.parametrize("error", [KeyError("mine"), TimeoutError("mine"), ConnectionResetError("mine")])
async def test_an_error_of_the_block_is_recorded_as_what_it_is(
    world: World, effects: Callable[[], Awaitable[list[str]]], started: MakeScheduler, error: Exception
) -> None:
    async def charge(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            await connection.execute(USERS_STATEMENT)
            raise error

    scheduler = await started()
    job_id = await scheduler.schedule(charge, execution_time=now())

    await until_status(world, job_id, "failed")
    assert await world.pool.fetchval("SELECT error_type FROM scheduler_attempts") == type(error).__name__
    assert await effects() == []


async def test_a_commit_that_the_server_refuses_is_a_failure_of_the_job(world: World, started: MakeScheduler) -> None:
    await world.pool.execute("CREATE TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")

    async def charge(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            await connection.execute("INSERT INTO once VALUES (1), (1)")

    scheduler = await started()
    job_id = await scheduler.schedule(charge, execution_time=now())

    await until_status(world, job_id, "failed")
    assert await world.pool.fetchval("SELECT error_type FROM scheduler_attempts") == "UniqueViolationError"


async def test_a_job_told_to_stop_while_it_commits_has_completed(
    world: World, effects: Callable[[], Awaitable[list[str]]], started: MakeScheduler
) -> None:
    await world.pool.execute("""
        CREATE TABLE gate (open int);
        CREATE FUNCTION wait_for_gate() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN LOCK TABLE gate IN SHARE MODE; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait_for_gate()""")
    tasks: list[asyncio.Task[Any]] = []

    async def charge(ctx: JobContext) -> None:
        tasks.append(asyncio.current_task())  # type: ignore[arg-type]  # a job runs in a task
        async with ctx.transaction() as connection:
            await connection.execute(USERS_STATEMENT)

    async def commit_waits() -> bool:
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted"
        return bool(await world.pool.fetchval(waiting))

    scheduler = await started()
    async with world.pool.acquire() as holder, holder.transaction():
        await holder.execute("LOCK TABLE gate IN ACCESS EXCLUSIVE MODE")
        job_id = await scheduler.schedule(charge, execution_time=now(), max_retries=3)
        await until(commit_waits)
        tasks[0].cancel()
    await until_status(world, job_id, "completed")

    assert await effects() == ["first"]
    await until(lambda: not scheduler.active_jobs)
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_attempts") == 0


class CancelledAt:
    """A coroutine whose task is cancelled when it waits for the n-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], n: int) -> None:
        self._coroutine = coroutine
        self._left = n
        self.has_struck = False

    def __await__(self) -> Generator[Any, Any, None]:
        step: Callable[[Any], Any] = self._coroutine.send
        answer: Any = None
        while True:
            try:
                awaited = step(answer)
            except StopIteration:
                return
            if self._left == 0:
                self.has_struck = True
                asyncio.current_task().cancel()  # type: ignore[union-attr]  # there is one
            self._left -= 1
            try:
                step, answer = self._coroutine.send, (yield awaited)
            except BaseException as error:  # noqa: BLE001  the coroutine decides
                step, answer = self._coroutine.throw, error


async def test_a_cancellation_at_any_await_leaves_all_or_nothing_and_no_connection(
    world: World, effects: Callable[[], Awaitable[list[str]]]
) -> None:
    worker, ends = await world.worker(), set()
    transactions = JobTransactions(world.pool, world.jobs, lease_seconds=30, command_seconds=3)

    for n in range(100):
        job, settled = await world.running(worker), [False]

        async def work(job: ClaimedJob = job, settled: list[bool] = settled) -> None:
            async with transactions.completing(job, settled.append) as connection:
                await connection.execute("INSERT INTO effects VALUES ($1)", job.job_id)

        driven = CancelledAt(work(), n)

        async def drive(driven: CancelledAt = driven) -> None:
            await driven

        ended = (await asyncio.gather(asyncio.create_task(drive()), return_exceptions=True))[0]
        completed = (await world.row(job.job_id))["status"] == "completed"
        assert completed == settled[-1] == (job.job_id in await effects())
        assert isinstance(ended, asyncio.CancelledError) == driven.has_struck
        await until(lambda: world.pool.get_idle_size() == world.pool.get_size())
        ends.add((driven.has_struck, completed))
        if not driven.has_struck:
            break

    assert ends == {(True, False), (True, True), (False, True)}


@pytest.mark.parametrize("limit", ["idle_in_transaction_session_timeout", "transaction_timeout"])
async def test_a_transaction_that_the_server_ends_is_retried_and_the_error_names_the_cause(
    world: World, dsn: str, effects: Callable[[], Awaitable[list[str]]], pg: int, limit: str
) -> None:
    @task(retry_policy=AT_ONCE)
    async def charge(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            await connection.execute(USERS_STATEMENT)
            if ctx.attempt == 1:
                lost = asyncio.Event()
                connection.add_termination_listener(lambda _: lost.set())
                await lost.wait()

    known = limit if pg >= 17 else "idle_in_transaction_session_timeout"  # the other limit is new in 17
    settings = {known: "300ms"}
    async with asyncpg.create_pool(dsn, min_size=1, server_settings=settings) as pool, Scheduler(pool) as scheduler:
        job_id = await scheduler.schedule(charge, execution_time=now(), max_retries=1)
        await until_status(world, job_id, "completed")

    assert await effects() == ["first"]
    error = await world.pool.fetchrow("SELECT error_type, message FROM scheduler_attempts")
    assert error is not None
    assert error["error_type"] == "TransactionLost"
    assert f"longer than {known}, 0.3 s" in error["message"]


async def test_a_block_may_not_idle_for_longer_than_a_third_of_the_lease(world: World, started: MakeScheduler) -> None:
    seen: list[tuple[str, str]] = []

    async def charge(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            within = await connection.fetchval("SHOW idle_in_transaction_session_timeout")
        seen.append((within, await world.pool.fetchval("SHOW idle_in_transaction_session_timeout")))

    scheduler = await started(lease_seconds=60)
    await scheduler.schedule(charge, execution_time=now())

    await until(lambda: seen)
    assert seen == [("20s", "0")]


async def test_enqueue_outside_a_block_is_committed_at_once_and_runs(world: World, started: MakeScheduler) -> None:
    ids: list[str] = []

    async def parent(ctx: JobContext) -> None:
        ids.append(await ctx.enqueue(child, job_id="child"))
        later = now() + timedelta(days=1)
        ids.append(await ctx.enqueue(child, job_id="later", execution_time=later, max_retries=2))
        with pytest.raises(JobExists):
            await ctx.enqueue(child, job_id="child")
        with pytest.raises(InvalidPayload):
            await ctx.enqueue(takes_one, args=(b"x",))
        await ctx.enqueue(child, job_id="later", conflict_resolution=ConflictResolution.IGNORE)
        raise KeyError("after")

    scheduler = await started()
    job_id = await scheduler.schedule(parent, execution_time=now())

    await until_status(world, job_id, "failed")
    assert await world.pool.fetchval("SELECT error_type FROM scheduler_attempts") == "KeyError"
    await until_status(world, ids[0], "completed")
    assert (await world.row("later"))["max_retries"] == 2
