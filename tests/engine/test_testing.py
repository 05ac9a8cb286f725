"""What users test their jobs with: a clock that stands until it is moved, and the engine driven by hand."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_scheduler import JobContext, JobPriority, JobStatus, RetryPolicy, Scheduler, Snooze
from pg_scheduler import scheduler as scheduler_module
from pg_scheduler._domain.walk import next_after
from pg_scheduler.errors import (
    ClockError,
    DatabaseNotReady,
    InvalidArgument,
    SchemaMismatch,
    TimeStandsStill,
    WorkerAlive,
)
from pg_scheduler.periodic import PeriodicJobConfig, PeriodicRegistry
from pg_scheduler.testing import JobRun, SettableClock, advance, run_due_jobs
from support.databases import EMPTY
from support.sizes import sized

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from engine.conftest import MakeScheduler
    from pg_scheduler._domain.rules import Rule
    from support.world import World

    Declare = Callable[..., str]

pytestmark = pytest.mark.newest_postgres

AT = datetime(2026, 3, 7, tzinfo=UTC)
FUNCTION = "SELECT pg_get_functiondef('scheduler_now'::regproc)"
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DONE = JobStatus.COMPLETED


@pytest.fixture(autouse=True)
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Declares a schedule in a registry of this test's own."""
    registry = PeriodicRegistry()
    monkeypatch.setattr(scheduler_module, "periodic_registry", registry)

    def declare(function: Any, **options: Any) -> str:
        config = PeriodicJobConfig(function, **options)
        registry.add(config)
        return str(config.dedup_key)

    return declare


@pytest.fixture
async def clock(pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[SettableClock]:
    async with SettableClock(pool, at=AT) as clock:
        yield clock


@pytest.fixture
def scheduler(pool: asyncpg.Pool[asyncpg.Record]) -> Scheduler:
    """It is not started."""
    return Scheduler(pool)


async def nothing() -> None:
    """What most jobs here do."""


async def fails() -> None:
    raise ValueError("on purpose")


def starts(runs: Iterable[JobRun]) -> list[timedelta]:
    return [run.started_at - AT for run in runs]


def spans(runs: Iterable[JobRun]) -> list[tuple[float, float]]:
    """Begin and end of each run, in seconds after AT."""
    return [((run.started_at - AT).total_seconds(), (run.ended_at - AT).total_seconds()) for run in runs]


# The clock


async def test_clock_stands_until_it_is_moved(pool: asyncpg.Pool[asyncpg.Record], clock: SettableClock) -> None:
    first = await pool.fetchrow("SELECT scheduler_now(), now()")
    second = await pool.fetchrow("SELECT scheduler_now(), now()")
    await clock.set(AT + HOUR)

    assert first is not None
    assert second is not None
    assert (first[0], second[0]) == (AT, AT)
    assert first[1] < second[1]
    assert await pool.fetchval("SELECT scheduler_now()") == clock.now == AT + HOUR


async def test_clock_is_the_shipped_one_again_at_the_end_whatever_happens(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    shipped, seen = await pool.fetchval(FUNCTION), []

    async def test_that_fails() -> None:
        async with SettableClock(pool, at=AT):
            seen.append(await pool.fetchval(FUNCTION))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await test_that_fails()

    assert seen != [shipped]
    assert await pool.fetchval(FUNCTION) == shipped


async def test_clock_stands_in_the_schema_of_the_tables(dsn: str, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await pool.execute("CREATE SCHEMA first")
    async with asyncpg.create_pool(dsn, min_size=1, server_settings={"search_path": "first, public"}) as theirs:
        async with SettableClock(theirs, at=AT):
            assert await theirs.fetchval("SELECT scheduler_now()") == AT

        assert await theirs.fetchval("SELECT scheduler_now() = now()")
    assert await pool.fetchval("SELECT count(*) FROM pg_proc WHERE proname = 'scheduler_now'") == 1


async def test_clock_refuses_a_database_in_which_a_worker_lives(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler
) -> None:
    worker = await started()

    with pytest.raises(WorkerAlive, match=f"worker {worker.worker_id} lives in this database"):
        await SettableClock(pool, at=AT).__aenter__()

    assert await pool.fetchval("SELECT scheduler_now() = now()")


@pytest.mark.parametrize("at", [AT, datetime(2099, 1, 1, tzinfo=UTC)])
async def test_clock_is_not_moved_under_a_worker_that_was_started_meanwhile(
    pool: asyncpg.Pool[asyncpg.Record], scheduler: Scheduler, at: datetime
) -> None:
    async with SettableClock(pool, at=at) as clock:
        async with Scheduler(pool):
            for move in (clock.set(at + HOUR), advance(scheduler, clock, HOUR), run_due_jobs(scheduler, clock)):
                with pytest.raises(WorkerAlive, match="lives in this database"):
                    await move
        await clock.set(at + HOUR)

        assert clock.now == at + HOUR


@pytest.mark.parametrize(("lease", "lives"), [(MINUTE, True), (-MINUTE, False)])
async def test_a_worker_behind_a_pooler_lives_as_long_as_its_lease(
    world: World, pool: asyncpg.Pool[asyncpg.Record], lease: timedelta, lives: bool
) -> None:
    await world.worker(lease_seconds=lease.total_seconds())
    await pool.execute("UPDATE scheduler_workers SET backend_watched = false")

    refused = False
    try:
        async with SettableClock(pool, at=AT):
            pass
    except WorkerAlive:
        refused = True

    assert refused is lives


async def test_clock_takes_over_from_a_test_that_was_killed(
    dsn: str, pool: asyncpg.Pool[asyncpg.Record], scheduler: Scheduler
) -> None:
    future = datetime(2099, 1, 1, tzinfo=UTC)
    async with asyncpg.create_pool(dsn, min_size=1) as killed:
        left = await SettableClock(killed, at=future).__aenter__()
        await run_due_jobs(Scheduler(killed), left)
        for worker in left._workers.values():
            await worker._close()  # its process says no word
        await left._store._db.close()
    assert await pool.fetchval("SELECT scheduler_now()") == future

    async with SettableClock(pool, at=AT) as clock:
        job_id = await scheduler.schedule(nothing, execution_time=AT)

        assert [(run.job_id, run.status) for run in await run_due_jobs(scheduler, clock)] == [(job_id, DONE)]
    assert await pool.fetchval("SELECT scheduler_now() = now()")


async def test_clock_of_a_killed_test_leaves_no_worker_that_counts(
    dsn: str, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    async with asyncpg.create_pool(dsn, min_size=1) as killed:
        left = await SettableClock(killed, at=datetime(2099, 1, 1, tzinfo=UTC)).__aenter__()
        await run_due_jobs(Scheduler(killed), left)
        for worker in left._workers.values():
            await worker._close()
        await left._store._db.close()

    async with SettableClock(pool, at=AT):
        assert await pool.fetchval("SELECT count(*) FROM scheduler_living_workers") == 0


async def test_clock_needs_the_tables(new_database: Callable[..., str]) -> None:
    async with asyncpg.create_pool(new_database(template=EMPTY), min_size=1) as pool:
        with pytest.raises(SchemaMismatch, match="no clock to set"):
            await SettableClock(pool, at=AT).__aenter__()


async def test_clock_is_set_by_who_owns_it(dsn: str, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    role = f"guest_{secrets.token_hex(4)}"  # roles belong to the server, which other tests use too
    await pool.execute(f"CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    try:
        async with asyncpg.create_pool(dsn, user=role, min_size=1) as guest:
            with pytest.raises(DatabaseNotReady, match="lacks a right"):
                await SettableClock(guest, at=AT).__aenter__()
    finally:
        await pool.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")

    assert await pool.fetchval("SELECT scheduler_now() = now()")


async def test_clock_goes_back_only_if_that_is_meant(clock: SettableClock, scheduler: Scheduler) -> None:
    for _ in range(2):
        await run_due_jobs(scheduler, clock)
        await clock.set(clock.now + DAY)  # an outage, since whose end the queue is served

    with pytest.raises(InvalidArgument, match="would go back"):
        await clock.set(AT)
    await clock.set(AT, backwards=True)
    await scheduler.schedule(nothing, execution_time=AT, misfire_grace_time=5)

    assert [run.status for run in await run_due_jobs(scheduler, clock)] == [DONE]


@pytest.mark.parametrize("instant", [datetime(2026, 1, 1), "2026-01-01", datetime(9999, 1, 1, tzinfo=UTC)])  # noqa: DTZ001
async def test_clock_takes_aware_instants_only(clock: SettableClock, instant: Any) -> None:
    with pytest.raises(InvalidArgument):
        await clock.set(instant)

    assert clock.now == AT


async def test_clock_that_is_not_entered_says_so(pool: asyncpg.Pool[asyncpg.Record], scheduler: Scheduler) -> None:
    clock = SettableClock(pool, at=AT)

    with pytest.raises(ClockError, match="has not been entered"):
        await clock.set(AT + DAY)
    with pytest.raises(ClockError, match="has not been entered"):
        await advance(scheduler, clock, DAY)


async def test_jobs_of_a_later_worker_are_not_judged_by_the_time_of_a_test(
    pool: asyncpg.Pool[asyncpg.Record], scheduler: Scheduler
) -> None:
    """Since when a queue is served is a time, too: one that lies ahead would have every job expire."""
    for at in (AT, datetime(2099, 1, 1, tzinfo=UTC)):
        async with scheduler:
            now = datetime.now(UTC)
            job_id = await scheduler.schedule(nothing, execution_time=now, misfire_grace_time=5, keep_result=True)
            assert await scheduler.result(job_id, timeout=10) is None
        async with SettableClock(pool, at=at) as clock:
            await scheduler.schedule(nothing, execution_time=at, misfire_grace_time=5)
            assert [run.status for run in await run_due_jobs(scheduler, clock)] == [DONE]

    job_id = await scheduler.schedule(nothing, execution_time=datetime.now(UTC), misfire_grace_time=5)
    assert [run.status for run in await run_due_jobs(scheduler)] == [DONE]


async def test_sleep_outside_of_jobs_ends_when_the_clock_is_set(clock: SettableClock) -> None:
    sleeps = asyncio.create_task(clock.sleep(60))
    await asyncio.sleep(0)

    await clock.set(AT + 59 * SECOND)
    assert not sleeps.done()
    await clock.set(AT + MINUTE)
    await sleeps


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e300, "3", None])
async def test_sleep_takes_numbers_only(clock: SettableClock, seconds: Any) -> None:
    with pytest.raises(InvalidArgument, match="give a number of seconds"):
        await clock.sleep(seconds)


# run_due_jobs


async def test_due_jobs_run_in_the_order_of_a_worker_and_later_ones_do_not(
    clock: SettableClock, scheduler: Scheduler
) -> None:
    ran: list[str] = []

    async def job(name: str) -> None:
        ran.append(name)

    await scheduler.schedule(job, execution_time=AT, args=("second",))
    await scheduler.schedule(job, execution_time=AT - SECOND, args=("first",))
    await scheduler.schedule(job, execution_time=AT, args=("low",), priority=JobPriority.LOW)
    await scheduler.schedule(job, execution_time=AT, args=("critical",), priority=JobPriority.CRITICAL)
    await scheduler.schedule(job, execution_time=AT + timedelta(milliseconds=1), args=("later",))

    runs = await run_due_jobs(scheduler, clock)

    assert ran == ["critical", "first", "second", "low"]
    assert [run.scheduled_at - AT for run in runs] == [timedelta(), -SECOND, timedelta(), timedelta()]
    assert starts(runs) == [timedelta()] * 4


async def test_a_run_says_what_ran(
    pool: asyncpg.Pool[asyncpg.Record], clock: SettableClock, scheduler: Scheduler
) -> None:
    job_id = await scheduler.schedule(nothing, execution_time=AT - SECOND)

    (run,) = await run_due_jobs(scheduler, clock)

    assert run == JobRun(
        job_id=job_id,
        task=f"{__name__}:nothing",
        tick=None,
        scheduled_at=AT - SECOND,
        started_at=AT,
        ended_at=AT,
        attempt=1,
        status=DONE,
        error_type=None,
    )
    row = await pool.fetchrow("SELECT started_at, finished_at, status FROM scheduled_jobs")
    assert row is not None
    assert tuple(row) == (AT, AT, "completed")


async def test_what_a_job_raises_is_recorded_and_not_raised(
    pool: asyncpg.Pool[asyncpg.Record], clock: SettableClock, scheduler: Scheduler
) -> None:
    await scheduler.schedule(fails, execution_time=AT)

    (run,) = await run_due_jobs(scheduler, clock)

    assert (run.status, run.error_type) == (JobStatus.FAILED, "ValueError")
    assert await pool.fetchval("SELECT message FROM scheduler_attempts") == "on purpose"


async def test_due_jobs_run_in_real_time_too(pool: asyncpg.Pool[asyncpg.Record], scheduler: Scheduler) -> None:
    job_id = await scheduler.schedule(nothing, execution_time=datetime.now(UTC))
    await scheduler.schedule(nothing, execution_time=datetime.now(UTC) + HOUR)

    (run,) = await run_due_jobs(scheduler)

    assert (run.job_id, run.status) == (job_id, DONE)
    assert await pool.fetchval("SELECT abs(extract(epoch FROM now() - $1)) < 60", run.started_at)
    assert await pool.fetchval("SELECT count(*) FROM scheduler_living_workers") == 0


async def test_in_real_time_a_run_starts_when_it_does(scheduler: Scheduler) -> None:
    async def parent(ctx: JobContext) -> None:
        await asyncio.sleep(0.05)
        await ctx.enqueue(nothing)

    await scheduler.schedule(parent, execution_time=datetime.now(UTC))

    first, second = await run_due_jobs(scheduler)

    assert second.started_at - first.started_at >= timedelta(seconds=0.05)


async def test_a_started_scheduler_is_not_run_by_hand(scheduler: Scheduler) -> None:
    async with scheduler:
        with pytest.raises(WorkerAlive, match="this scheduler is started"):
            await run_due_jobs(scheduler)


async def test_jobs_that_jobs_make_run_at_once(clock: SettableClock, scheduler: Scheduler) -> None:
    async def parent(ctx: JobContext) -> None:
        await ctx.enqueue(nothing)

    await scheduler.schedule(parent, execution_time=AT)

    assert [run.task.rpartition(".")[2] for run in await run_due_jobs(scheduler, clock)] == [
        "parent",
        f"{__name__}:nothing".rpartition(".")[2],
    ]


async def test_a_job_that_is_due_again_at_once_without_end_is_told_of(
    clock: SettableClock, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pg_scheduler._engine.by_hand.RUNS_MAX", 20)

    async def polls() -> Snooze:
        return Snooze(0)

    await scheduler.schedule(polls, execution_time=AT)

    with pytest.raises(TimeStandsStill, match=r"polls\) has run 20 times at one instant"):
        await run_due_jobs(scheduler, clock)


async def test_a_job_that_waits_for_something_else_is_told_of(clock: SettableClock, scheduler: Scheduler) -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    job_id = await scheduler.schedule(hangs, execution_time=AT)

    with pytest.raises(TimeStandsStill, match=f"job {job_id} .*neither ends nor sleeps"):
        await advance(scheduler, clock, DAY, patience_seconds=0.05)


async def test_what_still_sleeps_at_the_end_is_handed_back(
    pool: asyncpg.Pool[asyncpg.Record], scheduler: Scheduler
) -> None:
    async with SettableClock(pool, at=AT) as clock:

        async def sleeps() -> None:
            await clock.sleep(60)

        await scheduler.schedule(sleeps, execution_time=AT)
        assert await run_due_jobs(scheduler, clock) == []
        assert await pool.fetchval("SELECT status FROM scheduled_jobs") == "running"

    row = await pool.fetchrow("SELECT status, attempt FROM scheduled_jobs")
    assert row is not None
    assert tuple(row) == ("pending", 0)
    assert await pool.fetchval("SELECT bool_and(state = 'dead') FROM scheduler_workers")


# advance


async def test_a_job_runs_at_its_instant(clock: SettableClock, scheduler: Scheduler) -> None:
    seen: list[datetime] = []

    async def looks() -> None:
        seen.append(clock.now)

    due = [timedelta(microseconds=1), timedelta(milliseconds=140), DAY, 2 * DAY, 2 * DAY + timedelta(microseconds=1)]
    for after in due:
        await scheduler.schedule(looks, execution_time=clock.now + after)

    runs = await advance(scheduler, clock, 2 * DAY)

    assert starts(runs) == [at - AT for at in seen] == due[:-1]
    assert clock.now == AT + 2 * DAY


async def test_a_failed_job_is_tried_again_when_its_policy_says_without_chance(
    clock: SettableClock, scheduler: Scheduler
) -> None:
    policy = RetryPolicy(initial=10, factor=3, maximum=60, jitter=1)
    await scheduler.schedule(fails, execution_time=AT, max_retries=3, retry_policy=policy)

    runs = await advance(scheduler, clock, HOUR)

    assert starts(runs) == [seconds * SECOND for seconds in (0, 10, 40, 100)]
    assert [run.attempt for run in runs] == [1, 2, 3, 4]
    assert [run.status for run in runs] == [JobStatus.PENDING] * 3 + [JobStatus.FAILED]


async def test_a_snoozing_job_comes_back_at_its_instant(clock: SettableClock, scheduler: Scheduler) -> None:
    async def twice(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            ctx.snooze(0.25)

    await scheduler.schedule(twice, execution_time=AT)

    assert spans(await advance(scheduler, clock, MINUTE)) == [(0, 0), (0.25, 0.25)]


async def test_jobs_that_sleep_overlap_with_what_falls_due(
    clock: SettableClock, scheduler: Scheduler, declare: Declare
) -> None:
    async def slow() -> None:
        await clock.sleep(3)

    declare(slow, interval=2 * SECOND)

    runs = await advance(scheduler, clock, 8 * SECOND)

    assert spans(runs) == [(2, 5), (4, 7)]
    assert spans(await advance(scheduler, clock, 2 * SECOND)) == [(6, 9)]


async def test_a_worker_has_the_slots_of_its_scheduler(
    pool: asyncpg.Pool[asyncpg.Record], clock: SettableClock
) -> None:
    async def slow() -> None:
        await clock.sleep(3)

    scheduler = Scheduler(pool, max_concurrent_jobs=2)
    for after in (0, 0, 1, 1, 4):
        await scheduler.schedule(slow, execution_time=AT + after * SECOND)

    assert spans(await advance(scheduler, clock, MINUTE)) == [(0, 3), (0, 3), (3, 6), (3, 6), (6, 9)]


async def test_a_schedule_that_must_not_overlap_waits_for_itself(
    clock: SettableClock, scheduler: Scheduler, declare: Declare
) -> None:
    async def slow() -> None:
        await clock.sleep(3)

    declare(slow, interval=2 * SECOND, use_advisory_lock=True)

    runs = await advance(scheduler, clock, 15 * SECOND)

    assert spans(runs) == [(2, 5), (5, 8), (8, 11), (11, 14)]
    assert [run.tick for run in runs] == [AT + seconds * SECOND for seconds in (2, 4, 6, 8)]


async def test_a_job_of_a_full_key_is_skipped_or_replaces(clock: SettableClock, scheduler: Scheduler) -> None:
    async def slow() -> None:
        await clock.sleep(10)

    async def submit(after: int, on_full: Any) -> str:
        return await scheduler.schedule(
            slow, execution_time=AT + after * SECOND, concurrency_key="k", on_full=on_full, job_id=f"{on_full} {after}"
        )

    await submit(0, "wait")
    await submit(2, "skip")
    await submit(4, "replace")

    runs = await advance(scheduler, clock, MINUTE)

    assert spans(runs) == [(0, 4), (4, 14)]
    assert [run.status for run in runs] == [JobStatus.CANCELLED, DONE]
    skipped = await scheduler.job("skip 2")
    assert skipped is not None
    assert skipped.finished_at == AT + 2 * SECOND


async def test_a_sleeping_job_that_is_cancelled_ends_at_that_instant(
    clock: SettableClock, scheduler: Scheduler
) -> None:
    async def slow() -> None:
        await clock.sleep(10)

    async def cancels(job_id: str) -> None:
        await scheduler.cancel_job(job_id)

    job_id = await scheduler.schedule(slow, execution_time=AT)
    await scheduler.schedule(cancels, execution_time=AT + 4 * SECOND, args=(job_id,))

    runs = await advance(scheduler, clock, MINUTE)

    assert spans(runs) == [(0, 4), (4, 4)]
    assert [run.status for run in runs] == [JobStatus.CANCELLED, DONE]


async def test_a_job_that_is_told_to_end_may_clean_up_at_that_instant(
    pool: asyncpg.Pool[asyncpg.Record], clock: SettableClock, scheduler: Scheduler
) -> None:
    async def slow() -> None:
        try:
            await clock.sleep(10)
        finally:
            await pool.execute("SELECT pg_sleep(0.1)")

    async def cancels(job_id: str) -> None:
        await scheduler.cancel_job(job_id)

    job_id = await scheduler.schedule(slow, execution_time=AT)
    await scheduler.schedule(slow, execution_time=AT, timeout=3)
    await scheduler.schedule(cancels, execution_time=AT + 4 * SECOND, args=(job_id,))
    await scheduler.schedule(nothing, execution_time=AT + 5 * SECOND)

    assert spans(await advance(scheduler, clock, MINUTE)) == [(0, 4), (0, 3), (4, 4), (5, 5)]


async def test_a_time_limit_strikes_by_the_clock(clock: SettableClock, scheduler: Scheduler) -> None:
    async def slow() -> None:
        await clock.sleep(10)

    await scheduler.schedule(slow, execution_time=AT, timeout=4)
    await scheduler.schedule(slow, execution_time=AT, timeout=11)
    await scheduler.schedule(nothing, execution_time=AT, timeout=1)

    runs = await advance(scheduler, clock, MINUTE)

    assert [(*span, run.status, run.error_type) for span, run in zip(spans(runs), runs, strict=True)] == [
        (0, 4, JobStatus.FAILED, "JobTimeout"),
        (0, 10, DONE, None),
        (0, 0, DONE, None),
    ]


async def test_a_job_that_calls_asyncio_sleep_may_be_given_the_clocks(
    clock: SettableClock, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(5)

    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    await scheduler.schedule(slow, execution_time=AT)

    assert spans(await advance(scheduler, clock, MINUTE)) == [(0, 5)]


async def test_a_job_that_has_outlived_two_workers_runs_alone(
    pool: asyncpg.Pool[asyncpg.Record], clock: SettableClock, scheduler: Scheduler
) -> None:
    async def slow() -> None:
        await clock.sleep(5)

    for after in (0, 3, 6):
        await scheduler.schedule(slow, execution_time=AT + after * SECOND, job_id=str(after))
    await pool.execute("UPDATE scheduled_jobs SET interruptions = 2 WHERE job_id = '3'")

    runs = await advance(scheduler, clock, MINUTE)

    assert list(zip([run.job_id for run in runs], spans(runs), strict=True)) == [
        ("0", (0, 5)),
        ("3", (5, 10)),
        ("6", (10, 15)),
    ]


async def test_a_job_may_sleep_in_several_tasks_of_its_own(clock: SettableClock, scheduler: Scheduler) -> None:
    seen: list[float] = []

    async def part(seconds: float) -> None:
        await clock.sleep(seconds)
        seen.append((clock.now - AT).total_seconds())

    async def gathers() -> None:
        await asyncio.gather(part(5), part(2), part(9))
        await clock.sleep(1)

    async def gives_up() -> None:
        _, rest = await asyncio.wait(
            [asyncio.ensure_future(part(3)), asyncio.ensure_future(part(30))], return_when=asyncio.FIRST_COMPLETED
        )
        for task in rest:
            task.cancel()

    await scheduler.schedule(gathers, execution_time=AT)
    await scheduler.schedule(gives_up, execution_time=AT)

    assert spans(await advance(scheduler, clock, MINUTE)) == [(0, 10), (0, 3)]
    assert seen == [2, 3, 5, 9]


async def test_a_job_sleeps_within_its_transaction_with_the_only_connection_of_the_pool(dsn: str) -> None:
    async with (
        asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool,
        SettableClock(pool, at=AT) as clock,
    ):

        async def slow(ctx: JobContext) -> None:
            async with ctx.transaction() as connection:
                await connection.execute("SELECT 1")
                await clock.sleep(5)

        scheduler = Scheduler(pool)
        await scheduler.schedule(slow, execution_time=AT)
        await scheduler.schedule(nothing, execution_time=AT + 2 * SECOND)

        runs = await advance(scheduler, clock, MINUTE)

    assert spans(runs) == [(0, 5), (2, 2)]
    assert [run.status for run in runs] == [DONE, DONE]


async def test_a_job_that_reads_and_writes_takes_no_time(
    pool: asyncpg.Pool[asyncpg.Record], clock: SettableClock, scheduler: Scheduler
) -> None:
    async def writes() -> None:
        await pool.execute("SELECT pg_sleep(0.05)")
        await asyncio.sleep(0.05)
        await clock.sleep(1)
        await pool.execute("SELECT pg_sleep(0.05)")

    await scheduler.schedule(writes, execution_time=AT)

    assert spans(await advance(scheduler, clock, MINUTE)) == [(0, 1)]


async def test_runs_of_one_clock_come_one_after_the_other(clock: SettableClock, scheduler: Scheduler) -> None:
    refused: list[ClockError] = []

    async def advances() -> None:
        try:
            await advance(scheduler, clock, DAY)
        except ClockError as error:
            refused.append(error)

    await scheduler.schedule(advances, execution_time=AT)
    await advance(scheduler, clock, DAY)

    assert "by this clock already" in str(refused[0])


async def test_a_scheduler_that_is_not_run_is_down_meanwhile(
    pool: asyncpg.Pool[asyncpg.Record], clock: SettableClock
) -> None:
    async def slow() -> None:
        await clock.sleep(10)

    down, other = Scheduler(pool, queues=["down"]), Scheduler(pool)
    await down.schedule(slow, execution_time=AT, queue="down")
    await down.schedule(nothing, execution_time=AT + 20 * SECOND, queue="down")
    await other.schedule(nothing, execution_time=AT + 20 * SECOND)
    await run_due_jobs(down, clock)

    assert spans(await advance(other, clock, MINUTE)) == [(20, 20)]
    assert spans(await advance(down, clock, MINUTE)) == [(0, 60), (60, 60)]


async def test_a_clock_of_another_database_is_refused(clock: SettableClock, new_database: Callable[..., str]) -> None:
    async with asyncpg.create_pool(new_database(), min_size=1) as other:
        scheduler = Scheduler(other)

        with pytest.raises(ClockError, match="give both the same pool"):
            await advance(scheduler, clock, DAY)


@pytest.mark.parametrize("by", [-SECOND, timedelta.max, 5, None])
async def test_time_goes_forwards_by_a_timedelta(clock: SettableClock, scheduler: Scheduler, by: Any) -> None:
    with pytest.raises(InvalidArgument, match="not negative"):
        await advance(scheduler, clock, by)


@pytest.mark.parametrize("seconds", [-1, 0, 1e-9])
async def test_a_sleep_of_no_time_ends_at_its_instant(
    clock: SettableClock, scheduler: Scheduler, seconds: float
) -> None:
    async def naps() -> None:
        await clock.sleep(seconds)

    await scheduler.schedule(naps, execution_time=AT)

    assert spans(await run_due_jobs(scheduler, clock)) == [(0, 0)]


# Schedules


async def test_schedules_are_declared_as_by_a_start(
    pool: asyncpg.Pool[asyncpg.Record], clock: SettableClock, scheduler: Scheduler, declare: Declare
) -> None:
    key = declare(nothing, interval=HOUR)

    await run_due_jobs(scheduler, clock)

    assert await pool.fetchval("SELECT schedules FROM scheduler_living_workers") == [f"{__name__}:nothing"]
    status = await scheduler.schedule_status(key)
    assert status is not None
    assert status["next_run_at"] == AT + HOUR


async def test_a_daily_schedule_keeps_to_the_wall_clock(
    clock: SettableClock, scheduler: Scheduler, declare: Declare
) -> None:
    declare(nothing, cron="30 2 * * *", timezone="America/New_York")

    runs = await advance(scheduler, clock, 3 * DAY)

    zone = ZoneInfo("America/New_York")
    assert [f"{run.started_at.astimezone(zone):%d %H:%M}" for run in runs] == ["07 02:30", "08 03:00", "09 02:30"]


async def test_of_what_an_outage_has_missed_the_latest_tick_runs_late(
    clock: SettableClock, scheduler: Scheduler, declare: Declare
) -> None:
    declare(nothing, interval=10 * MINUTE)
    await advance(scheduler, clock, 15 * MINUTE)

    await clock.set(AT + 55 * MINUTE)
    runs = await advance(scheduler, clock, 10 * MINUTE)

    assert [(run.tick, run.started_at) for run in runs] == [
        (AT + 50 * MINUTE, AT + 55 * MINUTE),
        (AT + HOUR, AT + HOUR),
    ]


async def test_no_tick_is_made_ahead_of_an_outage(clock: SettableClock, scheduler: Scheduler, declare: Declare) -> None:
    declare(nothing, interval=10 * SECOND)
    declare(fails, interval=7 * SECOND)
    await advance(scheduler, clock, 8 * SECOND)

    await clock.set(AT + 55 * SECOND)

    assert [run.tick for run in await run_due_jobs(scheduler, clock)] == [AT + 49 * SECOND, AT + 50 * SECOND]


async def test_a_job_expires_in_an_outage_beyond_its_grace_and_waits_in_a_short_one(
    clock: SettableClock, scheduler: Scheduler
) -> None:
    await run_due_jobs(scheduler, clock)
    short = await scheduler.schedule(nothing, execution_time=AT + 10 * SECOND, misfire_grace_time=5)
    long = await scheduler.schedule(nothing, execution_time=AT + HOUR, misfire_grace_time=5)

    await clock.set(AT + 50 * SECOND)  # the worker's lease is longer: nobody has noticed
    assert [run.job_id for run in await run_due_jobs(scheduler, clock)] == [short]
    await clock.set(AT + 2 * HOUR)

    assert await run_due_jobs(scheduler, clock) == []
    expired = await scheduler.job(long)
    assert expired is not None
    assert expired.status is JobStatus.EXPIRED


async def test_a_job_does_not_expire_while_time_is_advanced_over_its_busy_worker(
    pool: asyncpg.Pool[asyncpg.Record], clock: SettableClock
) -> None:
    """The worker lives all the while, as if it beat: what waits for a slot is late, and no misfire."""

    async def slow() -> None:
        await clock.sleep(DAY.total_seconds())

    scheduler = Scheduler(pool, max_concurrent_jobs=1)
    await scheduler.schedule(slow, execution_time=AT)
    await scheduler.schedule(nothing, execution_time=AT + MINUTE, misfire_grace_time=5)

    assert starts(await advance(scheduler, clock, 2 * DAY)) == [timedelta(), DAY]


async def test_a_job_that_sleeps_in_an_outage_goes_on_after_it(clock: SettableClock, scheduler: Scheduler) -> None:
    async def slow() -> None:
        await clock.sleep(10)

    await scheduler.schedule(slow, execution_time=AT)
    await advance(scheduler, clock, 5 * SECOND)
    await clock.set(AT + MINUTE)
    await asyncio.sleep(0)

    assert spans(await advance(scheduler, clock, timedelta())) == [(0, 60)]


async def test_a_suspended_schedule_does_not_tick_until_it_is_resumed(
    clock: SettableClock, scheduler: Scheduler, declare: Declare
) -> None:
    key = declare(nothing, interval=10 * SECOND)
    runs = await advance(scheduler, clock, 25 * SECOND)
    await scheduler.suspend_schedule(key)
    runs += await advance(scheduler, clock, 30 * SECOND)
    await scheduler.resume_schedule(key)
    runs += await advance(scheduler, clock, 25 * SECOND)

    assert starts(runs) == [seconds * SECOND for seconds in (10, 20, 65, 75)]


async def test_what_a_job_disables_ticks_no_more(clock: SettableClock, scheduler: Scheduler, declare: Declare) -> None:
    async def once() -> None:
        scheduler.disable_periodic_job(key)

    key = declare(once, interval=10 * SECOND)

    assert starts(await advance(scheduler, clock, MINUTE)) == [10 * SECOND]


async def test_what_a_job_enables_ticks_from_that_instant_on(
    clock: SettableClock, scheduler: Scheduler, declare: Declare
) -> None:
    async def enables() -> None:
        scheduler.enable_periodic_job(key)

    key = declare(nothing, interval=10 * SECOND, enabled=False)
    await scheduler.schedule(enables, execution_time=AT + 5 * SECOND)
    await scheduler.schedule(fails, execution_time=AT + 8 * SECOND)

    runs = await advance(scheduler, clock, 20 * SECOND)
    assert scheduler.disable_periodic_job(key)
    runs += await advance(scheduler, clock, 20 * SECOND)
    assert scheduler.enable_periodic_job(key)
    runs += await advance(scheduler, clock, 10 * SECOND)

    assert starts(runs) == [seconds * SECOND for seconds in (5, 8, 15, 50)]


async def test_a_later_scheduler_edits_the_schedules_that_its_code_declares(
    pool: asyncpg.Pool[asyncpg.Record], clock: SettableClock, monkeypatch: pytest.MonkeyPatch, declare: Declare
) -> None:
    declare(nothing, interval=20 * SECOND)
    runs = await advance(Scheduler(pool), clock, 50 * SECOND)
    redeclared = PeriodicRegistry()
    redeclared.add(PeriodicJobConfig(nothing, interval=15 * SECOND))
    monkeypatch.setattr(scheduler_module, "periodic_registry", redeclared)

    runs += await advance(Scheduler(pool), clock, 40 * SECOND)

    assert starts(runs) == [seconds * SECOND for seconds in (20, 40, 65, 80)]


# Traces

RULES: list[dict[str, Any]] = [
    {"interval": HOUR},
    {"interval": timedelta(seconds=5003)},
    {"interval": DAY},
    {"cron": "30 */3 * * *"},
    {"cron": "15,45 1-3 * * *", "timezone": "Europe/London"},
    {"cron": "30 2 * * *", "timezone": "America/New_York"},
    {"cron": "0 0 * * MON", "timezone": "Asia/Kathmandu"},
]
AROUND = [AT, datetime(2026, 3, 28, 13, 0, 0, 250_000, tzinfo=UTC), datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)]
"""The last ones before nights on which clocks change."""


def ticks_of(rule: Rule, since: datetime, until: datetime) -> list[datetime]:
    ticks, tick = [], next_after(rule, since, anchor=since.replace(microsecond=0))
    while tick is not None and tick <= until:
        ticks.append(tick)
        tick = next_after(rule, tick, anchor=since.replace(microsecond=0))
    return ticks


@settings(max_examples=sized(3, 30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.sampled_from(AROUND), rules=st.lists(st.sampled_from(RULES), min_size=1, max_size=4, unique_by=str))
async def test_every_tick_of_every_rule_runs_at_its_instant(
    pool: asyncpg.Pool[asyncpg.Record], at: datetime, rules: list[dict[str, Any]]
) -> None:
    tenant = f"{at:%m%d} {rules}"[:200]
    registry = PeriodicRegistry()
    for number, rule in enumerate(rules):
        registry.add(PeriodicJobConfig(nothing, dedup_key=str(number), job_name=str(number), **rule))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler_module, "periodic_registry", registry)
        async with SettableClock(pool, at=at) as clock:
            runs = await advance(Scheduler(pool, tenant=tenant), clock, DAY)

    assert [run.started_at for run in runs] == [run.tick for run in runs]
    rows = await pool.fetch("SELECT job_name, tick_at FROM scheduled_jobs WHERE tenant = $1 ORDER BY tick_at", tenant)
    await pool.execute("DELETE FROM scheduled_jobs; DELETE FROM scheduler_schedules")
    for name, config in registry.all().items():
        assert [row["tick_at"] for row in rows if row["job_name"] == name] == ticks_of(config.rule, at, at + DAY)


@dataclass(frozen=True)
class Planned:
    """A job: what it is due at, how long it sleeps, and what comes before what; in this order where all is equal."""

    due: int
    seconds: int
    priority: JobPriority


def spans_of(jobs: list[Planned], slots: int) -> list[tuple[int, int]]:
    """When each starts and ends on one worker that has nothing else to do: from one second to the next."""
    waiting = dict(enumerate(jobs))
    begun: dict[int, tuple[int, int]] = {}
    for now in range(200):
        free = slots - sum(end > now for _, end in begun.values())
        due = [n for n, job in waiting.items() if job.due <= now]
        while due and free > 0:
            first = min(due, key=lambda n: (jobs[n].priority.db_value, jobs[n].due, n))
            begun[first] = (now, now + jobs[first].seconds)
            del waiting[first]
            due.remove(first)
            free -= jobs[first].seconds > 0
    return [begun[n] for n in range(len(jobs))]


planned = st.builds(Planned, due=st.integers(0, 8), seconds=st.integers(0, 5), priority=st.sampled_from(JobPriority))


@settings(max_examples=sized(6, 100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=st.lists(planned, min_size=1, max_size=14), slots=st.integers(1, 3))
async def test_jobs_start_and_end_as_a_worker_with_so_many_slots_would_have_them(
    pool: asyncpg.Pool[asyncpg.Record], jobs: list[Planned], slots: int
) -> None:
    await pool.execute("DELETE FROM scheduled_jobs")
    async with SettableClock(pool, at=AT) as clock:

        async def job(seconds: int) -> None:
            await clock.sleep(seconds)

        scheduler = Scheduler(pool, max_concurrent_jobs=slots)
        for number, one in enumerate(jobs):
            due_at = AT + one.due * SECOND
            await scheduler.schedule(
                job, execution_time=due_at, args=(one.seconds,), priority=one.priority, job_id=str(number)
            )

        runs = await advance(scheduler, clock, 5 * MINUTE)

    ran = {int(run.job_id): span for run, span in zip(runs, spans(runs), strict=True)}
    assert [ran[number] for number in range(len(jobs))] == spans_of(jobs, slots)


async def test_a_trace_is_the_same_again(dsn: str, new_database: Callable[..., str], declare: Declare) -> None:
    async def tick() -> None:
        await clocks[-1].sleep(2.5)

    async def job(seconds: float) -> None:
        await clocks[-1].sleep(seconds)

    async def trace(dsn: str) -> list[tuple[Any, ...]]:
        """Two busy minutes: a schedule, retries, keys, jobs that sleep, an outage."""
        async with asyncpg.create_pool(dsn, min_size=1) as pool, SettableClock(pool, at=AT) as clock:
            clocks.append(clock)
            scheduler = Scheduler(pool, max_concurrent_jobs=2)
            policy = RetryPolicy(initial=3, jitter=1)
            for n in range(12):
                due_at, key = AT + n * 1.5 * SECOND, f"k{n % 3}" if n % 2 else None
                await scheduler.schedule(job, execution_time=due_at, args=(n % 5,), concurrency_key=key)
                await scheduler.schedule(fails, execution_time=due_at, max_retries=1, retry_policy=policy)
            runs = await advance(scheduler, clock, MINUTE)
            await clock.set(clock.now + 90 * SECOND)
            runs += await advance(scheduler, clock, MINUTE)
        return [(run.task, run.tick, run.scheduled_at, run.started_at, run.ended_at, run.status) for run in runs]

    clocks: list[SettableClock] = []
    declare(tick, interval=7 * SECOND)

    first, second = await trace(dsn), await trace(new_database())

    assert len(first) > 50
    assert first == second
