"""What a submission may ask for beyond its time, and in whose transaction."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, JobSpec, RetryPolicy, Scheduler, Unique
from pg_scheduler._store.bulk import COPY_FROM
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import InvalidArgument, JobExists
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from support.world import World

pytestmark = pytest.mark.newest_postgres

LATER = datetime.now(UTC) + timedelta(days=1)
OPTIONS: dict[str, Any] = {
    "queue": "mail",
    "concurrency_key": "customer 7",
    "concurrency_limit": 2,
    "timeout": timedelta(minutes=2),
    "retry_policy": RetryPolicy(initial=1, maximum=2),
    "tags": ("a", "b", "a"),
    "metadata": {"order": 7},
    "expires": timedelta(hours=1),
    "keep_result": True,
    "flush": "now",
    "on_interrupt": "fail",
    "max_interruptions": 0,
}
STORED = {
    "queue": "mail",
    "concurrency_key": "customer 7",
    "timeout_seconds": 120.0,
    "retry_policy": RetryPolicy(initial=1, maximum=2).to_json(),
    "tags": '["a","b"]',
    "metadata": '{"order":7}',
    "expires_at": LATER + timedelta(hours=1),
    "keep_result": True,
    "flush_now": True,
    "on_interrupt": "fail",
    "max_interruptions": 0,
}


async def note(n: int = 0) -> None: ...


async def single(scheduler: Scheduler, job_id: str) -> None:
    await scheduler.schedule(note, execution_time=LATER, job_id=job_id, **OPTIONS)


async def by_name(scheduler: Scheduler, job_id: str) -> None:
    await scheduler.schedule_job("note", LATER, {}, job_id=job_id, **OPTIONS)


async def replacing(scheduler: Scheduler, job_id: str) -> None:
    await scheduler.schedule(note, execution_time=LATER, job_id=job_id)
    await scheduler.schedule(
        note, execution_time=LATER, job_id=job_id, conflict_resolution=ConflictResolution.REPLACE, **OPTIONS
    )


async def few(scheduler: Scheduler, job_id: str) -> None:
    await scheduler.schedule_bulk([JobSpec(note, LATER, job_id=job_id, **OPTIONS)])


async def many(scheduler: Scheduler, job_id: str) -> None:
    await scheduler.schedule_bulk([JobSpec(note, LATER)] * COPY_FROM + [JobSpec(note, LATER, job_id=job_id, **OPTIONS)])


async def many_replacing(scheduler: Scheduler, job_id: str) -> None:
    await scheduler.schedule_bulk([JobSpec(note, LATER, job_id=job_id)])
    await scheduler.schedule_bulk(
        [JobSpec(note, LATER, job_id=job_id, **OPTIONS)], conflict_resolution=ConflictResolution.REPLACE
    )


@pytest.mark.parametrize("submit", [single, by_name, replacing, few, many, many_replacing])
async def test_options_are_stored_however_a_job_is_submitted(
    pool: asyncpg.Pool[asyncpg.Record], world: World, submit: Callable[[Scheduler, str], Awaitable[None]]
) -> None:
    await submit(Scheduler(pool), "j")

    row = await world.row("j")
    assert {name: row[name] for name in STORED} == STORED


@pytest.mark.parametrize("count", [1, COPY_FROM])
async def test_a_job_without_options_has_none(pool: asyncpg.Pool[asyncpg.Record], count: int) -> None:
    await Scheduler(pool).schedule_bulk([JobSpec(note, LATER)] * count)

    row = await pool.fetchrow("SELECT * FROM scheduled_jobs LIMIT 1")
    assert row is not None
    assert [name for name in STORED if row[name]] == ["queue", "on_interrupt"]
    assert (row["queue"], row["on_interrupt"], row["max_interruptions"]) == ("default", "retry", None)


async def test_a_job_is_committed_with_the_callers_transaction(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler = Scheduler(pool)
    async with pool.acquire() as connection, connection.transaction():
        await scheduler.schedule(note, execution_time=LATER, job_id="single", connection=connection)
        await scheduler.schedule_job("note", LATER, {}, job_id="named", connection=connection)
        await scheduler.schedule_bulk([JobSpec(note, LATER, job_id="bulk")], connection=connection)
        assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0

    assert {row[0] for row in await pool.fetch("SELECT job_id FROM scheduled_jobs")} == {"single", "named", "bulk"}


async def test_a_job_is_rolled_back_with_the_callers_transaction(pool: asyncpg.Pool[asyncpg.Record], dsn: str) -> None:
    scheduler = Scheduler(pool)
    connection = await asyncpg.connect(dsn)
    transaction = connection.transaction()
    await transaction.start()
    await scheduler.schedule(note, execution_time=LATER, connection=connection)
    await scheduler.schedule_bulk([JobSpec(note, LATER)] * COPY_FROM, connection=connection)
    await transaction.rollback()
    await connection.close()

    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0


async def test_a_taken_id_leaves_the_callers_transaction_usable(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler = Scheduler(pool)
    await scheduler.schedule(note, execution_time=LATER, job_id="j")
    async with pool.acquire() as connection, connection.transaction():
        with pytest.raises(JobExists, match="is pending"):
            await scheduler.schedule(note, execution_time=LATER, job_id="j", connection=connection)
        with pytest.raises(JobExists):
            await scheduler.schedule_bulk(
                [JobSpec(note, LATER), JobSpec(note, LATER, job_id="j")],
                conflict_resolution=ConflictResolution.RAISE,
                connection=connection,
            )

        assert await connection.fetchval("SELECT count(*) FROM scheduled_jobs") == 1


async def test_a_connection_outside_of_a_transaction_is_refused(pool: asyncpg.Pool[asyncpg.Record], dsn: str) -> None:
    scheduler = Scheduler(pool)
    proxy = await pool.acquire()
    with pytest.raises(InvalidArgument, match=r"connection is not in a transaction.*async with"):
        await scheduler.schedule(note, execution_time=LATER, connection=proxy)
    await pool.release(proxy)
    with pytest.raises(InvalidArgument, match=r"connection was given back"):
        await scheduler.schedule(note, execution_time=LATER, connection=proxy)
    closed = await asyncpg.connect(dsn)
    await closed.close()
    with pytest.raises(InvalidArgument, match=r"connection is not in a transaction"):
        await scheduler.schedule_bulk([JobSpec(note, LATER)], connection=closed)
    with pytest.raises(InvalidArgument, match=r"connection is a Pool.*asyncpg connection"):
        await scheduler.schedule(note, execution_time=LATER, connection=pool)  # type: ignore[arg-type]  # the point

    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0


async def test_equal_submissions_make_one_job_while_it_is_open(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler, unique = Scheduler(pool), Unique()
    first = await scheduler.schedule(note, execution_time=LATER, kwargs={"n": 1}, unique=unique)

    assert await scheduler.schedule(note, execution_time=LATER, kwargs={"n": 1}, unique=unique) == first
    assert await scheduler.schedule(note, execution_time=LATER, kwargs={"n": 2}, unique=unique) != first
    await scheduler.cancel_job(first)
    assert await scheduler.schedule(note, execution_time=LATER, kwargs={"n": 1}, unique=unique) != first


@pytest.mark.parametrize(
    ("by", "same"),
    [
        (("task",), {"args", "queue"}),
        (("args",), {"task", "queue"}),
        (("queue",), {"task", "args"}),
        (("task", "args"), {"queue"}),
        (("task", "args", "queue"), set()),
    ],
)
@pytest.mark.parametrize("other", [{"task": "b"}, {"args": [2]}, {"queue": "mail"}])
async def test_submissions_are_compared_by_the_named_parts(
    pool: asyncpg.Pool[asyncpg.Record], by: tuple[str, ...], same: set[str], other: dict[str, Any]
) -> None:
    scheduler = Scheduler(pool)

    async def submit(task: str = "a", args: tuple[int, ...] = (1,), queue: str = "default") -> str:
        data = {"args": list(args)}
        return await scheduler.schedule_job(task, LATER, data, queue=queue, unique=Unique(by=by))

    assert (await submit() == await submit(**other)) == (set(other) <= same)


async def test_an_equal_submission_within_the_time_makes_no_job_whatever_became_of_the_first(world: World) -> None:
    scheduler, unique = Scheduler(world.pool), Unique(within=timedelta(hours=1))
    first = await scheduler.schedule(note, execution_time=LATER, unique=unique)
    await world.pool.execute("DELETE FROM scheduled_jobs")
    await world.advance(timedelta(minutes=59))

    assert await scheduler.schedule(note, execution_time=LATER, unique=unique) == first
    await world.advance(timedelta(minutes=61))
    assert await scheduler.schedule(note, execution_time=LATER, unique=unique) != first


@pytest.mark.parametrize("count", [3, COPY_FROM])
@pytest.mark.parametrize("conflict", [ConflictResolution.IGNORE, ConflictResolution.RAISE])
async def test_bulk_leaves_out_what_equals_another(
    pool: asyncpg.Pool[asyncpg.Record], count: int, conflict: ConflictResolution
) -> None:
    scheduler = Scheduler(pool)
    await scheduler.schedule(note, execution_time=LATER, args=(0,), unique=Unique())
    specs = [JobSpec(note, LATER, args=(n // 2,), unique=Unique()) for n in range(2 * count)]

    ids = await scheduler.schedule_bulk([*specs, JobSpec(note, LATER, args=(0,))], conflict_resolution=conflict)

    assert [n for n, job_id in enumerate(ids) if job_id] == [*range(2, 2 * count, 2), 2 * count]
    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == count + 1


async def test_two_equal_submissions_at_once_make_one_job(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """The second waits for the first one's commit, and then has to see a job that its own snapshot does not show."""
    scheduler, unique = Scheduler(pool), Unique()
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        first = await scheduler.schedule(note, execution_time=LATER, unique=unique, connection=connection)
        second = asyncio.create_task(scheduler.schedule(note, execution_time=LATER, unique=unique))
        await until(lambda: _waits_for_a_lock(pool))
        await transaction.commit()

    assert await second == first
    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 1


async def test_an_equal_submission_that_is_rolled_back_counts_for_nothing(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler, unique = Scheduler(pool), Unique(within=timedelta(hours=1))
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        first = await scheduler.schedule(note, execution_time=LATER, unique=unique, connection=connection)
        second = asyncio.create_task(scheduler.schedule(note, execution_time=LATER, unique=unique))
        await until(lambda: _waits_for_a_lock(pool))
        await transaction.rollback()

    assert await second != first
    assert [row[0] for row in await pool.fetch("SELECT job_id FROM scheduled_jobs")] == [await second]


async def test_many_equal_submissions_at_once_make_one_job(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler, unique = Scheduler(pool), Unique()

    ids = await asyncio.gather(
        *(scheduler.schedule(note, execution_time=LATER, unique=unique) for _ in range(20)),
        *(scheduler.schedule_bulk([JobSpec(note, LATER, unique=unique)]) for _ in range(5)),
    )

    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 1
    assert len({job_id for job_id in ids if isinstance(job_id, str)}) == 1


async def _waits_for_a_lock(pool: asyncpg.Pool[asyncpg.Record]) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await pool.fetchval(waiting))


async def test_policies_of_rows_are_read_back(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await Scheduler(pool).schedule(note, execution_time=LATER, retry_policy=RetryPolicy(initial=3))

    stored = await pool.fetchval("SELECT retry_policy::text FROM scheduled_jobs")
    assert RetryPolicy.from_json(stored) == RetryPolicy(initial=3)
    assert json.loads(stored)["factor"] == 2


async def test_keys_that_count_no_more_are_forgotten(world: World) -> None:
    scheduler = Scheduler(world.pool)
    hour = timedelta(hours=1)
    for task, within in (("open", None), ("ended", None), ("young", 2 * hour), ("old", hour)):
        await scheduler.schedule_job(task, LATER, {}, unique=Unique(by=("task",), within=within))
    await world.pool.execute(
        "UPDATE scheduled_jobs SET status = 'completed', finished_at = now() WHERE task IN ('ended', 'young', 'old')"
    )
    await world.advance(hour + timedelta(minutes=1))

    await scheduler.run_vacuum()

    left = "SELECT task FROM scheduler_keys JOIN scheduled_jobs USING (job_id) ORDER BY task"
    assert [row["task"] for row in await world.pool.fetch(left)] == ["open", "young"]


async def test_a_key_that_has_a_new_job_is_not_forgotten_with_its_old_one(world: World) -> None:
    """The sweep's snapshot shows the ended job; the key's new one is committed before the sweep locks the row."""
    scheduler, unique = Scheduler(world.pool), Unique(by=("task",))
    first = await scheduler.schedule_job("t", LATER, {}, unique=unique)
    await scheduler.cancel_job(first)
    await world.pool.execute("""
        CREATE OR REPLACE FUNCTION scheduler_now() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
        BEGIN
            IF current_setting('test.gate', true) = 'closed' THEN PERFORM pg_advisory_xact_lock(1); END IF;
            RETURN now();
        END $$""")
    async with world.pool.acquire() as gate, world.pool.acquire() as sweeper:
        await gate.execute("SELECT pg_advisory_lock(1)")
        await sweeper.execute("SET test.gate = 'closed'")
        sweep = asyncio.create_task(sweeper.fetch(QUERIES["forget_keys"], 10))
        await until(lambda: _waits_for_a_lock(world.pool))
        second = await scheduler.schedule_job("t", LATER, {}, unique=unique)
        await gate.execute("SELECT pg_advisory_unlock(1)")

        assert await sweep == []

    assert await scheduler.schedule_job("t", LATER, {}, unique=unique) == second != first
