"""Many jobs in one call."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import ConflictResolution, JobSpec, JobStatus, Scheduler
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._store.bulk import COPY_FROM
from pg_scheduler.errors import InvalidArgument, InvalidPayload, JobExists
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import asyncpg

    from engine.conftest import MakeScheduler
    from support.world import World

LATER = datetime.now(UTC) + timedelta(days=1)
MANY = COPY_FROM + 50


async def note(n: int) -> None: ...


def specs(ids: Sequence[str | None], **changes: Any) -> list[JobSpec]:
    return [JobSpec(note, LATER, args=(n,), job_id=job_id, **changes) for n, job_id in enumerate(ids)]


async def stored(pool: asyncpg.Pool[asyncpg.Record]) -> dict[str, str]:
    rows = await pool.fetch("SELECT job_id, task_data::text FROM scheduled_jobs ORDER BY job_id")
    return {row["job_id"]: row["task_data"] for row in rows}


@pytest.mark.parametrize("count", [0, 1, COPY_FROM - 1, COPY_FROM, MANY])
@pytest.mark.parametrize("conflict", ConflictResolution)
async def test_bulk_returns_ids_in_the_order_of_the_input(
    pool: asyncpg.Pool[asyncpg.Record], conflict: ConflictResolution, count: int
) -> None:
    given = specs([None] * count)

    ids = await Scheduler(pool).schedule_bulk(given, conflict_resolution=conflict, batch_size=60)

    rows = await stored(pool)
    assert [rows[str(job_id)] for job_id in ids] == [f'{{"args":[{n}],"kwargs":{{}}}}' for n in range(count)]
    assert len(rows) == count


@pytest.mark.parametrize("padding", [0, MANY])
async def test_bulk_ignores_taken_ids_and_keeps_the_first_of_two(
    pool: asyncpg.Pool[asyncpg.Record], padding: int
) -> None:
    scheduler = Scheduler(pool)
    await scheduler.schedule(note, execution_time=LATER, args=(99,), job_id="a")

    ids = await scheduler.schedule_bulk(specs(["a", "b", "b", *[None] * padding]))

    assert ids[:3] == [None, "b", None]
    assert None not in ids[3:]
    rows = await stored(pool)
    assert (rows["a"], rows["b"]) == ('{"args":[99],"kwargs":{}}', '{"args":[1],"kwargs":{}}')


@pytest.mark.parametrize("padding", [0, MANY])
async def test_bulk_replaces_taken_ids_and_keeps_the_last_of_two(
    pool: asyncpg.Pool[asyncpg.Record], padding: int
) -> None:
    scheduler = Scheduler(pool)
    await scheduler.schedule(note, execution_time=LATER, args=(99,), job_id="a")

    ids = await scheduler.schedule_bulk(
        specs(["a", "b", "b", *[None] * padding]), conflict_resolution=ConflictResolution.REPLACE
    )

    assert ids[:3] == ["a", None, "b"]
    rows = await stored(pool)
    assert (rows["a"], rows["b"]) == ('{"args":[0],"kwargs":{}}', '{"args":[2],"kwargs":{}}')


@pytest.mark.parametrize("ids", [["x", "a"], ["x", "x"], [*(["y"] + [None] * MANY), "a"]])
async def test_bulk_that_raises_writes_nothing(pool: asyncpg.Pool[asyncpg.Record], ids: Sequence[str | None]) -> None:
    scheduler = Scheduler(pool)
    await scheduler.schedule(note, execution_time=LATER, args=(99,), job_id="a")

    with pytest.raises(JobExists, match="nothing was written"):
        await scheduler.schedule_bulk(specs(ids), conflict_resolution=ConflictResolution.RAISE, batch_size=20)

    assert await stored(pool) == {"a": '{"args":[99],"kwargs":{}}'}


async def test_bulk_leaves_rows_of_custom_resources_alone(world: World, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    job_id = await world.pending()
    await pool.execute("UPDATE scheduled_jobs SET source_uid = 'u', source_kind = 'ScheduledJob'")

    ids = await Scheduler(pool).schedule_bulk(specs([job_id]), conflict_resolution=ConflictResolution.REPLACE)

    assert ids == [None]


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (JobSpec(print, LATER), TypeError, "async"),
        (JobSpec(note, LATER), InvalidArgument, "'n'"),
        (JobSpec(note, LATER, args=(b"x",)), InvalidPayload, "bytes"),
        (JobSpec(note, LATER, args=(1,), job_id="sj-1"), InvalidArgument, "reserved"),
    ],
)
async def test_bulk_checks_a_sequence_whole_before_it_writes(
    pool: asyncpg.Pool[asyncpg.Record], bad: JobSpec, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=rf"jobs\[{MANY}\].*{words}"):
        await Scheduler(pool).schedule_bulk([*specs([None] * MANY), bad], batch_size=10)

    assert await stored(pool) == {}


async def test_bulk_of_an_iterator_says_how_many_were_submitted_before(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    def stream() -> Iterator[JobSpec]:
        yield from specs([None] * 25)
        yield JobSpec(note, LATER)

    with pytest.raises(InvalidArgument, match=r"jobs\[25\].*; 20 jobs before it were submitted"):
        await Scheduler(pool).schedule_bulk(stream(), batch_size=10)

    assert len(await stored(pool)) == 20


@pytest.mark.parametrize("size", [0, -1, 1.5, 100_001, True])
async def test_bulk_refuses_a_batch_size_that_is_none(pool: asyncpg.Pool[asyncpg.Record], size: Any) -> None:
    with pytest.raises(InvalidArgument, match="batch_size"):
        await Scheduler(pool).schedule_bulk(specs([None]), batch_size=size)


@pytest.mark.parametrize("conflict", ConflictResolution)
async def test_bulk_wakes_an_idle_worker_of_another_process(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, conflict: ConflictResolution
) -> None:
    await started(note)

    async def all_done() -> bool:
        left = "SELECT count(*) FROM scheduled_jobs WHERE status <> $1"
        return not await pool.fetchval(left, JobStatus.COMPLETED)

    for _ in range(3):  # the worker's first look, or its listener's, may by chance come just after one submission
        due = [JobSpec(note, datetime.now(UTC), args=(n,)) for n in range(MANY)]
        await Scheduler(pool).schedule_bulk(due, conflict_resolution=conflict)
        await until(all_done, timeout=EngineConfig().poll_seconds / 2)


async def test_a_generator_streams_in_bounded_memory(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    text = "x" * 1000

    def many(count: int) -> Iterator[JobSpec]:
        for _ in range(count):
            yield JobSpec(note, LATER, args=(text,))

    async def peak(count: int) -> int:
        tracemalloc.start()
        try:
            assert len(await Scheduler(pool).schedule_bulk(many(count))) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = await peak(5_000)
    assert await peak(20_000) - few < 15_000 * 300  # an id takes 85 bytes and a place; a job of these 1,500


async def test_ids_of_a_generator_that_are_taken_or_given_twice_stay_aligned(
    pool: asyncpg.Pool[asyncpg.Record],
) -> None:
    """Batches with ids of the caller's own beside batches without any."""
    given: list[str | None] = [None] * MANY + ["a"] + [None] * MANY + ["a"]

    ids = await Scheduler(pool).schedule_bulk(iter(specs(given)), batch_size=MANY)

    assert [place for place, job_id in enumerate(ids) if job_id is None] == [2 * MANY + 1]
    assert ids[MANY] == "a"
    assert len(await stored(pool)) == 2 * MANY + 1
