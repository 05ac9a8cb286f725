"""Many jobs in one call."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, JobSpec, JobStatus, Scheduler, Unique
from pg_scheduler._engine import bulk_submission
from pg_scheduler._engine.bulk_submission import LANES, SIDE_BY_SIDE_FROM
from pg_scheduler._engine.submission import Submission, _says_the_same
from pg_scheduler._store.bulk import COPY_FROM, BulkStore, BulkWriter
from pg_scheduler.errors import InvalidArgument, InvalidPayload, JobExists
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.conftest import MakeScheduler
    from support.world import World

LATER = datetime.now(UTC) + timedelta(days=1)
MANY = COPY_FROM + 50
OWN_WORDS = {"execution_time", "args", "kwargs", "job_id", "unique"}
"""What jobs that are alike may still differ in."""


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


@pytest.fixture
def small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a call of a few hundred jobs is of several COPYs."""
    monkeypatch.setattr(bulk_submission, "COPY_ROWS", COPY_FROM)


@pytest.mark.usefixtures("small_copies")
async def test_bulk_or_nothing_checks_a_batch_while_the_one_before_it_is_stored(
    pool: asyncpg.Pool[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_add, real_insert = Submission.add, BulkWriter.insert_all

    def add(*args: Any) -> None:
        done.append("check")
        real_add(*args)

    async def insert_all(*args: Any, **options: Any) -> None:
        done.append("store")
        await real_insert(*args, **options)
        done.append("stored")

    monkeypatch.setattr(Submission, "add", add)
    monkeypatch.setattr(BulkWriter, "insert_all", insert_all)
    await Scheduler(pool).schedule_bulk(
        specs([None] * 2 * COPY_FROM), conflict_resolution=ConflictResolution.RAISE, batch_size=1
    )

    checks = ["check"] * COPY_FROM
    assert done == [*checks, "store", *checks, "stored", "store", "stored"]


@pytest.mark.usefixtures("small_copies")
@pytest.mark.parametrize("place", [0, COPY_FROM, 2 * COPY_FROM + 10])
async def test_bulk_or_nothing_writes_nothing_where_one_of_many_cannot_be_used(
    pool: asyncpg.Pool[asyncpg.Record], place: int
) -> None:
    many = specs([None] * 3 * COPY_FROM)
    many[place] = JobSpec(note, LATER)

    with pytest.raises(InvalidArgument, match=rf"jobs\[{place}\].*; 0 jobs before it were submitted"):
        await Scheduler(pool).schedule_bulk(many, conflict_resolution=ConflictResolution.RAISE, batch_size=1)

    assert await stored(pool) == {}


@pytest.mark.usefixtures("small_copies")
async def test_bulk_or_nothing_tells_of_a_job_that_cannot_be_used_before_an_id_that_is_taken(
    pool: asyncpg.Pool[asyncpg.Record],
) -> None:
    await Scheduler(pool).schedule(note, execution_time=LATER, args=(99,), job_id="a")
    many = [*specs(["a"]), *specs([None] * 3 * COPY_FROM), JobSpec(note, LATER)]

    with pytest.raises(InvalidArgument, match=rf"jobs\[{len(many) - 1}\]"):
        await Scheduler(pool).schedule_bulk(many, conflict_resolution=ConflictResolution.RAISE, batch_size=1)

    assert await stored(pool) == {"a": '{"args":[99],"kwargs":{}}'}


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (JobSpec(print, LATER), TypeError, "async"),
        (JobSpec(note, LATER), InvalidArgument, "'n'"),
        (JobSpec(note, LATER, args=(b"x",)), InvalidPayload, "bytes"),
        (JobSpec(note, LATER, args=(1,), job_id="sj-1"), InvalidArgument, "reserved"),
    ],
)
@pytest.mark.parametrize("job_id", [None, "a"])
async def test_bulk_checks_a_sequence_whole_before_it_writes(
    pool: asyncpg.Pool[asyncpg.Record], bad: JobSpec, error: type[Exception], words: str, job_id: str | None
) -> None:
    with pytest.raises(error, match=rf"jobs\[{MANY}\].*{words}"):
        await Scheduler(pool).schedule_bulk([*specs([job_id, *[None] * (MANY - 1)]), bad], batch_size=10)

    assert await stored(pool) == {}


@pytest.mark.usefixtures("small_copies")
@pytest.mark.parametrize("conflict", [ConflictResolution.IGNORE, ConflictResolution.REPLACE])
async def test_bulk_that_names_no_ids_writes_all_or_nothing(
    pool: asyncpg.Pool[asyncpg.Record], conflict: ConflictResolution
) -> None:
    many = specs([None] * 3 * COPY_FROM)
    many[2 * COPY_FROM] = JobSpec(note, LATER, args=(0,), queue="full")
    await pool.execute("ALTER TABLE scheduled_jobs ADD CHECK (queue <> 'full')")

    with pytest.raises(InvalidArgument, match="PostgreSQL refuses a value"):
        await Scheduler(pool).schedule_bulk(many, conflict_resolution=conflict, batch_size=1)

    assert await stored(pool) == {}


@pytest.mark.parametrize("conflict", [ConflictResolution.IGNORE, ConflictResolution.RAISE])
async def test_bulk_of_jobs_whose_equal_is_there_writes_none(
    pool: asyncpg.Pool[asyncpg.Record], conflict: ConflictResolution
) -> None:
    equals = [JobSpec(note, LATER, args=(1,), unique=Unique(by=("task",)))] * COPY_FROM
    await Scheduler(pool).schedule_bulk(equals[:1])

    assert await Scheduler(pool).schedule_bulk(equals, conflict_resolution=conflict) == [None] * COPY_FROM


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
@pytest.mark.usefixtures("unpolled")
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
        await until(all_done)


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


@pytest.mark.parametrize("name", [field.name for field in fields(JobSpec) if field.name not in OWN_WORDS])
def test_a_job_that_says_something_else_is_checked_anew(name: str) -> None:
    said = JobSpec(note, LATER, args=(1,))

    assert _says_the_same(replace(said, args=(2,), execution_time=LATER - timedelta(days=1), job_id="a"), said)
    changed: Any = {name: object()}
    assert not _says_the_same(replace(said, **changed), said)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"max_retries": 1}, {"max_retries": True}),
        ({"keep_result": False}, {"keep_result": 0}),
        ({"misfire_grace_time": 0}, {"misfire_grace_time": False}),
        ({"tags": ["a", "b"]}, {"tags": "ab"}),
        ({"metadata": None}, {"metadata": ()}),
        ({"args": (1,)}, {"args": ()}),
        ({"args": (1,)}, {"args": (b"x",)}),
        ({"job_id": "a"}, {"job_id": "pj-a"}),
        ({"execution_time": LATER}, {"execution_time": LATER.replace(tzinfo=None)}),
    ],
)
async def test_a_job_is_refused_behind_one_that_is_much_like_it(
    pool: asyncpg.Pool[asyncpg.Record], good: dict[str, Any], bad: dict[str, Any]
) -> None:
    (like,) = specs([None])

    with pytest.raises(InvalidArgument, match=r"jobs\[1\]"):
        await Scheduler(pool).schedule_bulk([replace(like, **good), replace(like, **bad)])

    assert await stored(pool) == {}


async def test_words_that_change_between_two_jobs_are_read_anew(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    tags, metadata, expires = ["a"], {"n": 1}, timedelta(hours=1)

    def stream() -> Iterator[JobSpec]:
        for job_id, words in ("1", {"tags": tags}), ("3", {"metadata": metadata}), ("5", {"expires": expires}):
            said: Any = words
            yield JobSpec(note, LATER, args=(1,), job_id=job_id, **said)
            tags[0], metadata["n"] = "b", 2
            yield JobSpec(note, LATER + expires, args=(1,), job_id=f"{job_id}b", **said)
            tags[0], metadata["n"] = "a", 1

    await Scheduler(pool).schedule_bulk(stream(), batch_size=1)

    rows = await pool.fetch("SELECT tags::text, metadata::text, expires_at FROM scheduled_jobs ORDER BY job_id")
    assert [row["tags"] for row in rows] == ['["a"]', '["b"]', None, None, None, None]
    assert [row["metadata"] for row in rows] == [None, None, '{"n":1}', '{"n":2}', None, None]
    assert [row["expires_at"] for row in rows] == [None, None, None, None, LATER + expires, LATER + 2 * expires]


def named(start: int, stop: int) -> list[str]:
    return [f"job-{number}" for number in range(start, stop)]


@pytest.mark.parametrize("conflict", [ConflictResolution.IGNORE, ConflictResolution.REPLACE])
@pytest.mark.parametrize("twice", [False, True])
async def test_batches_side_by_side_keep_the_order_of_the_input(
    pool: asyncpg.Pool[asyncpg.Record], conflict: ConflictResolution, *, twice: bool
) -> None:
    """Free ids, taken ones and both in a batch; an id in two batches makes them go one after the other."""
    scheduler, size = Scheduler(pool), 2 * COPY_FROM
    await scheduler.schedule_bulk(
        [JobSpec(note, LATER, args=(-1,), job_id=job_id) for job_id in named(0, 3 * size // 2)]
    )
    given = named(0, 3 * size) + [None] * 3 * size + ["job-0"] * twice

    ids = await scheduler.schedule_bulk(specs(given), conflict_resolution=conflict, batch_size=size)

    rows = await stored(pool)
    replaced = conflict is ConflictResolution.REPLACE
    assert [job_id is None for job_id in ids] == [
        not replaced and place < 3 * size // 2 for place in range(6 * size)
    ] + [not replaced] * twice
    written = {job_id: place for place, job_id in enumerate(ids) if job_id is not None}
    assert {job_id: rows[job_id] for job_id in written} == {
        job_id: f'{{"args":[{place}],"kwargs":{{}}}}' for job_id, place in written.items()
    }
    assert len(rows) == 6 * size


async def test_batches_go_side_by_side_only_where_they_are_apart(
    pool: asyncpg.Pool[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    writers = BulkStore.writers

    def noting(self: BulkStore, *, few: bool, connection: None, most: int) -> Any:
        opened.append(most)
        return writers(self, few=few, connection=connection, most=most)

    monkeypatch.setattr(BulkStore, "writers", noting)

    async def most(jobs: list[JobSpec], conflict: ConflictResolution = ConflictResolution.IGNORE) -> int:
        await Scheduler(pool).schedule_bulk(jobs, conflict_resolution=conflict, batch_size=COPY_FROM)
        return opened.pop()

    many = specs([None] * (COPY_FROM * SIDE_BY_SIDE_FROM - 1))
    assert await most([*many, *specs(["a", "b"])]) == LANES
    assert await most([*many[COPY_FROM:], *specs(["c"])]) == 1
    assert await most([*many, *specs(["d"])], ConflictResolution.RAISE) == 1
    assert await most(many) == 1
    assert await most([*many, *specs(["a"]), *many, *specs(["a"])]) == 1
    assert await most([*many, replace(many[0], unique=Unique(by=("task",)))]) == 1
    assert await most([*many, replace(many[0], concurrency_key="k", concurrency_limit=2)]) == 1


async def test_a_batch_that_fails_beside_another_fails_the_call_with_its_own_error(
    pool: asyncpg.Pool[asyncpg.Record],
) -> None:
    await pool.execute("ALTER TABLE scheduled_jobs ADD CHECK (job_name <> 'note' OR job_id <> 'job-450')")

    with pytest.raises(InvalidArgument, match="PostgreSQL refuses a value"):
        await Scheduler(pool).schedule_bulk(specs(named(0, 900)), batch_size=COPY_FROM)

    rows = await stored(pool)
    assert len(rows) % COPY_FROM == 0
    assert "job-450" not in rows


async def test_one_connection_is_enough_where_the_server_gives_no_second(
    dsn: str, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    await pool.execute(
        "CREATE ROLE single LOGIN CONNECTION LIMIT 2; GRANT ALL ON ALL TABLES IN SCHEMA public TO single"
    )
    try:
        async with asyncpg.create_pool(dsn, user="single", min_size=1, max_size=1) as own:
            ids = await Scheduler(own).schedule_bulk(specs(named(0, 900)), batch_size=COPY_FROM)
    finally:
        await pool.execute("DROP OWNED BY single; DROP ROLE single")

    assert len(await stored(pool)) == len(set(ids)) == 900
