"""A scheduler with a payload codec: the tables hold what nobody can read, and jobs get what was submitted."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import JobContext, JobSpec, Scheduler, Unique
from pg_scheduler import scheduler as scheduler_module
from pg_scheduler._domain import codec
from pg_scheduler._store.bulk import COPY_FROM
from pg_scheduler.errors import InvalidPayload, JobFailed, PayloadNotDecoded, ResultNotKept
from pg_scheduler.periodic import PeriodicJobConfig, PeriodicRegistry
from pg_scheduler.testing import run_due_jobs
from support.codecs import KeyedCodec
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from engine.conftest import MakeScheduler
    from support.world import World

SECRET = "4111-1111-1111-1111"  # noqa: S105  what must not be seen
HOUR = timedelta(hours=1)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


class Telling(KeyedCodec):
    """Whose error quotes what it was to hide."""

    def decode(self, data: bytes) -> bytes:
        raise PermissionError(f"not for you: {super().decode(data)!r}")


def now() -> datetime:
    return datetime.now(UTC)


class Calls:
    """A task that notes its arguments and gives them back."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

        async def note(*args: Any, **kwargs: Any) -> list[Any]:
            self.seen.append((args, kwargs))
            return [*args]

        self.note = note


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Declares a schedule of this process; its key."""
    registry = PeriodicRegistry()
    monkeypatch.setattr(scheduler_module, "periodic_registry", registry)

    def add(func: Any, **options: Any) -> str:
        config = PeriodicJobConfig(func, **options)
        registry.add(config)
        return str(config.dedup_key)

    return add


async def everything(pool: asyncpg.Pool[asyncpg.Record]) -> str:
    """All rows of all tables, as text."""
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [await pool.fetch(f"SELECT t::text FROM {table['tablename']} t") for table in tables]  # noqa: S608  our own
    return "\n".join(row[0] for each in rows for row in each)


async def ended(world: World, *job_ids: str) -> list[str]:
    async def final() -> bool:
        return not {"pending", "running"} & set(await world.statuses(*job_ids))

    await until(final)
    return await world.statuses(*job_ids)


async def test_arguments_and_result_are_ciphertext_in_every_table_and_come_back(
    world: World, started: MakeScheduler, calls: Calls
) -> None:
    scheduler = await started(calls.note, payload_codec=KeyedCodec())

    job_id = await scheduler.schedule(
        calls.note, execution_time=now(), args=(SECRET,), kwargs={"card": SECRET}, keep_result=True
    )

    assert await scheduler.result(job_id, timeout=30) == [SECRET]
    assert calls.seen == [((SECRET,), {"card": SECRET})]
    rows = await everything(world.pool)
    assert job_id in rows
    assert SECRET not in rows


@pytest.mark.parametrize("count", [3, COPY_FROM], ids=["insert", "copy"])
@pytest.mark.parametrize("named", [False, True])
async def test_bulk_is_stored_encoded_and_run_decoded(world: World, calls: Calls, count: int, *, named: bool) -> None:
    scheduler = Scheduler(world.pool, payload_codec=KeyedCodec(), max_concurrent_jobs=count)
    scheduler.register(calls.note)

    await scheduler.schedule_bulk(
        [JobSpec(calls.note, now(), (SECRET, n), job_id=f"{n}" if named else None) for n in range(count)]
    )

    assert SECRET not in await everything(world.pool)
    await run_due_jobs(scheduler)
    assert sorted(args[1] for args, _ in calls.seen) == [*range(count)]


async def test_jobs_of_jobs_are_encoded_too(world: World, started: MakeScheduler, calls: Calls) -> None:
    async def parent(ctx: JobContext) -> None:
        await ctx.enqueue(calls.note, args=(SECRET, "alone"))
        async with ctx.transaction():
            await ctx.enqueue(calls.note, args=(SECRET, "in its commit"))

    scheduler = await started(calls.note, parent, payload_codec=KeyedCodec())
    await scheduler.schedule(parent, execution_time=now())

    await until(lambda: len(calls.seen) == 2)
    assert SECRET not in await everything(world.pool)


async def test_rows_of_sql_and_resources_run_beside_and_their_results_are_plain(
    world: World, started: MakeScheduler, calls: Calls
) -> None:
    """Who made them has no codec, so their results stay readable: the operator shows those of objects."""
    scheduler = await started(calls.note, payload_codec=KeyedCodec())
    task = next(key for key in scheduler.task_map if key.endswith("note"))

    job_id = await world.pool.fetchval(
        "SELECT scheduler_enqueue($1, '[1, 2]', '{\"a\": 3}', keep_result => true)", task
    )

    assert await scheduler.result(job_id, timeout=30) == [1, 2]
    assert calls.seen == [((1, 2), {"a": 3})]
    assert await world.pool.fetchval("SELECT result::text FROM scheduler_results") == "[1,2]"


async def test_equal_submissions_are_equal_though_their_ciphertext_differs(world: World, calls: Calls) -> None:
    scheduler = Scheduler(world.pool, payload_codec=KeyedCodec())

    first = await scheduler.schedule(calls.note, execution_time=LATER, args=(SECRET,), unique=Unique())
    second = await scheduler.schedule(calls.note, execution_time=LATER, args=(SECRET,), unique=Unique())
    other = await scheduler.schedule(calls.note, execution_time=LATER, args=("x",), unique=Unique())
    in_bulk = await scheduler.schedule_bulk(
        [JobSpec(calls.note, LATER, (arg,), unique=Unique()) for arg in (SECRET, f"other {SECRET}")]
    )

    assert first == second != other
    assert (in_bulk[0], in_bulk[1] is not None) == (None, True)
    assert SECRET not in await everything(world.pool)


@pytest.mark.parametrize(
    ("of_worker", "words"),
    [
        (Telling(), "payload_codec.decode raised PermissionError"),
        (None, "this Scheduler has no payload_codec"),
    ],
    ids=["a codec that refuses", "no codec"],
)
async def test_what_a_worker_cannot_decode_fails_alone_at_once_and_says_why(
    world: World,
    started: MakeScheduler,
    calls: Calls,
    caplog: pytest.LogCaptureFixture,
    of_worker: KeyedCodec | None,
    words: str,
) -> None:
    submitter = Scheduler(world.pool, payload_codec=KeyedCodec())
    unread = await submitter.schedule(calls.note, execution_time=now(), args=(SECRET,), max_retries=5)
    caplog.set_level(logging.DEBUG)

    await started(calls.note, payload_codec=of_worker)
    fine = await Scheduler(world.pool).schedule(calls.note, execution_time=now(), args=("beside",))

    assert await ended(world, unread, fine) == ["failed", "completed"]
    assert calls.seen == [(("beside",), {})]
    with pytest.raises(JobFailed) as caught:
        await submitter.result(unread)
    assert (caught.value.error_type, caught.value.attempt) == ("PayloadNotDecoded", 1)
    assert words in caught.value.error_message
    assert "run the job again" in caught.value.error_message
    assert "PayloadNotDecoded" in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in await everything(world.pool)  # nor what this codec's own error quotes


async def test_a_row_that_was_changed_by_hand_fails_alone(world: World, calls: Calls) -> None:
    scheduler = Scheduler(world.pool, payload_codec=KeyedCodec())
    scheduler.register(calls.note)
    bad, fine = [await scheduler.schedule(calls.note, execution_time=now(), args=(n,)) for n in range(2)]
    await world.pool.execute(
        """UPDATE scheduled_jobs SET task_data = replace(task_data::text, '"}', 'AAAA"}')::json WHERE job_id = $1""",
        bad,
    )

    await run_due_jobs(scheduler)

    assert await world.statuses(bad, fine) == ["failed", "completed"]


async def test_once_it_has_the_key_the_job_runs_again(world: World, started: MakeScheduler, calls: Calls) -> None:
    submitter = Scheduler(world.pool, payload_codec=KeyedCodec())
    job_id = await submitter.schedule(calls.note, execution_time=now(), args=(SECRET,))
    without = Scheduler(world.pool)
    without.register(calls.note)
    await run_due_jobs(without)
    assert await world.statuses(job_id) == ["failed"]

    worker = await started(calls.note, payload_codec=KeyedCodec())
    await worker.retry_job(job_id)

    assert await ended(world, job_id) == ["completed"]
    assert calls.seen == [((SECRET,), {})]


async def test_a_result_is_read_by_who_has_the_codec(world: World, started: MakeScheduler, calls: Calls) -> None:
    worker = await started(calls.note, payload_codec=KeyedCodec())
    job_id = await worker.schedule(calls.note, execution_time=now(), args=(SECRET,), keep_result=True)
    await ended(world, job_id)

    with pytest.raises(PayloadNotDecoded, match="no payload_codec"):
        await Scheduler(world.pool).result(job_id)


async def test_a_codec_that_fails_writes_nothing(world: World, calls: Calls) -> None:
    class Broken(KeyedCodec):
        def encode(self, data: bytes) -> bytes:
            raise ConnectionError(f"no key server for {data!r}")

    scheduler = Scheduler(world.pool, payload_codec=Broken())

    with pytest.raises(InvalidPayload, match="raised ConnectionError") as single:
        await scheduler.schedule(calls.note, execution_time=LATER, args=(SECRET,))
    with pytest.raises(InvalidPayload, match=r"jobs\[0\]: payload_codec") as bulk:
        await scheduler.schedule_bulk([JobSpec(calls.note, LATER, (SECRET,))])

    assert SECRET not in f"{single.value} {bulk.value}"
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0


async def test_what_the_codec_makes_too_large_is_refused_before_anything_is_written(world: World, calls: Calls) -> None:
    scheduler = Scheduler(world.pool, payload_codec=KeyedCodec())
    large = ("x" * (codec.MAX_BYTES * 4 // 5),)

    with pytest.raises(InvalidPayload, match="as payload_codec makes it"):
        await scheduler.schedule(calls.note, execution_time=LATER, args=large)
    with pytest.raises(InvalidPayload, match=r"jobs\[1\]: it is \d+ bytes"):
        await scheduler.schedule_bulk([JobSpec(calls.note, LATER), JobSpec(calls.note, LATER, large)])

    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0


async def test_a_result_that_the_codec_makes_too_large_is_not_kept_and_the_job_is_done(
    world: World, started: MakeScheduler
) -> None:
    async def large() -> str:
        return "x" * (codec.MAX_BYTES * 4 // 5)

    scheduler = await started(large, payload_codec=KeyedCodec())
    job_id = await scheduler.schedule(large, execution_time=now(), keep_result=True)

    with pytest.raises(ResultNotKept, match="as payload_codec makes it"):
        await scheduler.result(job_id, timeout=30)
    assert await world.statuses(job_id) == ["completed"]


async def test_schedules_of_code_are_encoded_and_another_start_changes_nothing(
    world: World, started: MakeScheduler, calls: Calls, declare: Callable[..., str]
) -> None:
    key = declare(calls.note, interval=HOUR, args=(SECRET,))
    scheduler = await started(payload_codec=KeyedCodec())
    stored = await world.pool.fetchval("SELECT task_data::text FROM scheduler_schedules")

    await started(payload_codec=KeyedCodec())

    assert await world.pool.fetchval("SELECT task_data::text FROM scheduler_schedules") == stored
    assert await scheduler.trigger_periodic_job(key) is not None
    await until(lambda: calls.seen)
    assert calls.seen[0] == ((SECRET,), {})
    assert SECRET not in await everything(world.pool)


async def test_a_schedule_made_at_run_time_is_encoded_and_its_ticks_run(
    world: World, started: MakeScheduler, calls: Calls
) -> None:
    scheduler = await started(calls.note, payload_codec=KeyedCodec())

    assert await scheduler.upsert_schedule("each second", calls.note, every=timedelta(seconds=1), args=(SECRET,))
    assert not await scheduler.upsert_schedule("each second", calls.note, every=timedelta(seconds=1), args=(SECRET,))

    await until(lambda: calls.seen)
    assert calls.seen[0] == ((SECRET,), {})
    assert SECRET not in await everything(world.pool)
    assert await scheduler.upsert_schedule("each second", calls.note, every=timedelta(seconds=1), args=("other",))


async def test_two_schedulers_share_a_process_and_not_their_codecs(
    world: World, started: MakeScheduler, calls: Calls
) -> None:
    a = await started(calls.note, tenant="a", payload_codec=KeyedCodec(b"a"))
    b = await started(calls.note, tenant="b", payload_codec=KeyedCodec(b"b"))

    await asyncio.gather(
        *(s.schedule(calls.note, execution_time=now(), args=(s.worker_id,)) for s in (a, b) for _ in range(5))
    )

    await until(lambda: len(calls.seen) == 10)
    assert {args[0] for args, _ in calls.seen} == {a.worker_id, b.worker_id}
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'failed'") == 0
