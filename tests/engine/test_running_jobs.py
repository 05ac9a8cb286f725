"""A job's way through a running scheduler."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, JobPriority, JobSpec, Scheduler
from pg_scheduler.errors import DatabaseUnreachable, InvalidArgument, InvalidPayload, JobExists, SchemaMismatch
from support.databases import EMPTY
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.conftest import MakeScheduler
    from support.world import World


def now() -> datetime:
    return datetime.now(UTC)


class Recorder:
    """Tasks that write down what they are called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.gate = asyncio.Event()
        self.ended = asyncio.Event()

        async def note(*args: Any, **kwargs: Any) -> None:
            self.calls.append((args, kwargs))

        async def fail(text: str) -> None:
            self.calls.append(text)
            raise KeyError(text)

        async def wait() -> None:
            self.calls.append("begun")
            try:
                await self.gate.wait()
            finally:
                self.ended.set()

        self.note, self.fail, self.wait = note, fail, wait


@pytest.fixture
def record() -> Recorder:
    return Recorder()


async def status(world: World, job_id: str) -> str:
    return str((await world.row(job_id))["status"])


async def until_status(world: World, job_id: str, expected: str) -> None:
    async def probe() -> bool:
        assert await status(world, job_id) == expected
        return True

    await until(probe, what=f"job is {expected}")


async def test_a_due_job_runs_with_its_arguments_and_completes(
    world: World, started: MakeScheduler, record: Recorder
) -> None:
    scheduler = await started()

    job_id = await scheduler.schedule(record.note, execution_time=now(), args=(1, "a"), kwargs={"key": [None, 2.5]})

    await until_status(world, job_id, "completed")
    assert record.calls == [((1, "a"), {"key": [None, 2.5]})]


async def test_a_later_job_starts_on_its_instant_and_never_before(
    world: World, started: MakeScheduler, record: Recorder
) -> None:
    scheduler = await started()
    due = now() + timedelta(milliseconds=300)

    job_id = await scheduler.schedule(record.note, execution_time=due)

    await until_status(world, job_id, "completed")
    row = await world.row(job_id)
    assert row["started_at"] >= due


@pytest.mark.usefixtures("unpolled")
async def test_a_job_of_another_process_wakes_an_idle_worker_before_its_poll(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, record: Recorder
) -> None:
    await started(record.note)

    def ran(count: int) -> bool:
        return len(record.calls) == count

    for count in (1, 2, 3):  # the worker's first look, or its listener's, may by chance come just after one submission
        await Scheduler(pool).schedule(record.note, execution_time=now())
        await until(partial(ran, count))


async def test_jobs_of_one_claim_start_by_priority_then_time(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, record: Recorder
) -> None:
    submitter = Scheduler(pool)
    start = now() - timedelta(minutes=1)
    for label, priority, offset in [
        ("low", JobPriority.LOW, 0),
        ("late", JobPriority.NORMAL, 2),
        ("early", JobPriority.NORMAL, 1),
        ("first", JobPriority.CRITICAL, 3),
    ]:
        await submitter.schedule(
            record.note, execution_time=start + timedelta(seconds=offset), args=(label,), priority=priority
        )

    await started(record.note)

    await until(lambda: len(record.calls) == 4)
    assert [args[0] for args, _ in record.calls] == ["first", "early", "late", "low"]


async def test_no_more_jobs_run_than_there_are_slots(world: World, started: MakeScheduler, record: Recorder) -> None:
    scheduler = await started(max_concurrent_jobs=3)
    for _ in range(8):
        await scheduler.schedule(record.wait, execution_time=now())
    await until(lambda: len(record.calls) >= 3)

    running = await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'running'")
    record.gate.set()

    assert running == 3
    await until(lambda: len(record.calls) == 8)


CLAIMS_BY_CONNECTION = """
CREATE TABLE claims_by_connection (pid integer);
CREATE FUNCTION note_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO claims_by_connection VALUES (pg_backend_pid());
    RETURN NULL;
END $$;
CREATE TRIGGER note_claim AFTER UPDATE ON scheduled_jobs FOR EACH ROW
WHEN (OLD.status = 'pending' AND NEW.status = 'running') EXECUTE FUNCTION note_claim();
"""


async def test_two_claims_are_under_way_in_a_backlog_and_together_never_beyond_the_slots(
    world: World, started: MakeScheduler, record: Recorder
) -> None:
    await world.pool.execute(CLAIMS_BY_CONNECTION)
    await Scheduler(world.pool).schedule_bulk([JobSpec(record.wait, now()) for _ in range(40)])

    scheduler = await started(record.wait, max_concurrent_jobs=7, batch_claim_limit=2)
    await until(lambda: len(record.calls) >= 7)
    running = await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'running'")
    record.gate.set()

    assert running == 7
    assert await world.pool.fetchval("SELECT count(DISTINCT pid) FROM claims_by_connection") == 2
    await until(lambda: len(record.calls) == 40)
    await until(lambda: scheduler.job_semaphore.free == 7)


async def test_a_failed_job_keeps_its_error_and_is_retried_later(
    world: World, started: MakeScheduler, record: Recorder
) -> None:
    scheduler = await started()

    failed = await scheduler.schedule(record.fail, execution_time=now(), args=("once",))
    retried = await scheduler.schedule(record.fail, execution_time=now(), args=("again",), max_retries=1)

    await until_status(world, failed, "failed")
    await until_status(world, retried, "pending")
    row = await world.row(retried)
    assert row["retry_count"] == 1
    assert timedelta(seconds=50) < row["execution_time"] - now() <= timedelta(seconds=60)
    attempt = await world.pool.fetchrow("SELECT * FROM scheduler_attempts WHERE job_id = $1", failed)
    assert attempt is not None
    assert attempt["error_type"] == "KeyError"
    assert "in fail" in attempt["traceback"]


async def test_an_error_with_a_nul_is_recorded(world: World, started: MakeScheduler) -> None:
    async def fail() -> None:
        raise ValueError("a\x00b")

    scheduler = await started()
    job_id = await scheduler.schedule(fail, execution_time=now())

    await until_status(world, job_id, "failed")


async def test_a_cancelled_error_of_the_jobs_own_making_is_a_failure(world: World, started: MakeScheduler) -> None:
    async def cancel_self() -> None:
        raise asyncio.CancelledError

    scheduler = await started()
    job_id = await scheduler.schedule(cancel_self, execution_time=now())

    await until_status(world, job_id, "failed")


async def test_a_row_that_cannot_be_decoded_fails_alone(world: World, started: MakeScheduler, record: Recorder) -> None:
    scheduler = await started(record.note)
    task = next(iter(scheduler.task_map))
    broken = await world.pending(task=task, task_data='{"args": 1}')
    fine = await world.pending(task=task)
    await world.jobs.wake_workers()

    await until_status(world, broken, "failed")
    await until_status(world, fine, "completed")


@pytest.mark.parametrize("task", ["shop.unknown", "os.abort", "os:abort", "__import__"])
async def test_an_unknown_task_stays_pending(world: World, started: MakeScheduler, record: Recorder, task: str) -> None:
    """Python's own functions among them: a name is looked up among the tasks and nowhere else."""
    scheduler = await started(record.note)

    unknown = await scheduler.schedule_job(task, now(), {"args": []})
    known = await scheduler.schedule(record.note, execution_time=now())

    await until_status(world, known, "completed")
    assert await status(world, unknown) == "pending"


async def test_a_name_finds_its_registered_task(world: World, started: MakeScheduler, record: Recorder) -> None:
    scheduler = await started(record.note)

    job_id = await scheduler.schedule_job("note", now(), {"kwargs": {"a": 1}})

    await until_status(world, job_id, "completed")
    assert record.calls == [((), {"a": 1})]


async def test_cancel_tells_a_running_job_within_a_second_on_whichever_worker(
    world: World, started: MakeScheduler, record: Recorder, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    scheduler = await started(lease_seconds=3600)  # its beats, which would tell too, are 20 minutes apart
    job_id = await scheduler.schedule(record.wait, execution_time=now())
    await until(lambda: record.calls)

    assert await Scheduler(pool).cancel_job(job_id)

    await asyncio.wait_for(record.ended.wait(), PATIENCE)

    async def reported() -> bool:
        row = await world.row(job_id)
        return row["status"] == "cancelled" and row["stopping_worker"] is None

    await until(reported)
    assert not await scheduler.cancel_job(job_id)


@pytest.mark.parametrize("ending", ["returns", "raises"])
async def test_a_replaced_job_runs_anew_although_its_old_run_ended_by_itself(
    world: World, started: MakeScheduler, ending: str
) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    calls: list[int] = []

    async def work(n: int) -> None:
        calls.append(n)
        with suppress(asyncio.CancelledError):
            await gates[n].wait()
        if ending == "raises":
            raise KeyError(n)

    scheduler = await started(work)
    await scheduler.schedule(work, execution_time=now(), args=(0,), job_id="a")
    await until(lambda: calls == [0])
    await scheduler.schedule(
        work, execution_time=now(), args=(1,), job_id="a", conflict_resolution=ConflictResolution.REPLACE
    )
    gates[0].set()

    await until(lambda: calls == [0, 1])
    gates[1].set()
    await until_status(world, "a", "completed" if ending == "returns" else "failed")


async def test_duplicates_follow_the_callers_wish(world: World, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async def first(n: int) -> None: ...

    scheduler = Scheduler(pool)
    later = now() + timedelta(hours=1)

    async def submit(n: int, conflict: ConflictResolution) -> str:
        return await scheduler.schedule(
            first, execution_time=later, args=(n,), job_id="fixed", conflict_resolution=conflict
        )

    await submit(1, ConflictResolution.RAISE)
    with pytest.raises(ValueError, match="'fixed' already exists and is pending"):
        await submit(2, ConflictResolution.RAISE)
    assert await submit(3, ConflictResolution.IGNORE) == "fixed"
    assert '"args":[1]' in (await world.row("fixed"))["task_data"]
    assert await submit(4, ConflictResolution.REPLACE) == "fixed"
    assert '"args":[4]' in (await world.row("fixed"))["task_data"]


async def takes_one(one: int) -> None: ...


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"func": print}, TypeError, "async"),
        ({"func": lambda: None}, TypeError, "async"),
        ({"execution_time": datetime(2026, 1, 1)}, InvalidArgument, "time zone"),  # noqa: DTZ001
        ({"execution_time": datetime(9999, 1, 1, tzinfo=UTC)}, InvalidArgument, "9998"),
        ({"execution_time": 1.5}, InvalidArgument, "aware datetime"),
        ({"execution_time": timedelta(1)}, InvalidArgument, r"give datetime\.now\(UTC\) \+ it"),
        ({"args": ()}, InvalidArgument, "missing a required argument: 'one'"),
        ({"args": (1, 2)}, InvalidArgument, "too many positional"),
        ({"args": (b"x",)}, InvalidPayload, r"args\[0\] is a bytes"),
        ({"priority": 5}, InvalidArgument, "JobPriority"),
        ({"max_retries": -1}, InvalidArgument, "max_retries"),
        ({"job_id": ""}, InvalidArgument, "1 to 200 bytes"),
        ({"job_id": "x" * 201}, InvalidArgument, "1 to 200 bytes"),
        ({"job_id": 7}, InvalidArgument, "1 to 200 bytes"),
        ({"job_id": "sj-1"}, InvalidArgument, "reserved"),
        ({"job_id": "key:a/b"}, InvalidArgument, "reserved"),
        ({"misfire_grace_time": -1}, InvalidArgument, "misfire_grace_time"),
        ({"misfire_grace_time": 0.5}, InvalidArgument, "misfire_grace_time"),
    ],
)
async def test_bad_input_is_refused_before_anything_is_written(
    pool: asyncpg.Pool[asyncpg.Record], changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    call: dict[str, Any] = {"func": takes_one, "execution_time": now(), "args": (1,), **changes}

    with pytest.raises(error, match=words):
        await Scheduler(pool).schedule(call.pop("func"), **call)

    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0


async def test_an_id_of_200_bytes_and_grace_values_are_stored_exactly(
    world: World, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    scheduler = Scheduler(pool, misfire_grace_time=77)
    ids = ["ü" * 100, "a", "b"]
    await scheduler.schedule(takes_one, execution_time=now(), args=(1,), job_id=ids[0])
    await scheduler.schedule(takes_one, execution_time=now(), args=(1,), job_id=ids[1], misfire_grace_time=None)
    await scheduler.schedule(takes_one, execution_time=now(), args=(1,), job_id=ids[2], misfire_grace_time=0)

    assert [(await world.row(job_id))["misfire_grace_time"] for job_id in ids] == [77, None, 0]


async def test_several_tasks_of_one_name_are_listed(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    def make() -> Any:
        async def send() -> None: ...

        return send

    one, two = make(), make()
    one.__module__, two.__module__ = "a", "b"
    two.__code__ = two.__code__.replace(co_firstlineno=1)
    scheduler = Scheduler(pool)
    scheduler.register(one, two)

    with pytest.raises(InvalidArgument, match=r"a:.*send, b:.*send"):
        await scheduler.schedule_job("send", now(), {})


async def test_schedule_without_tables_says_what_to_run(new_database: Callable[..., str]) -> None:
    async with asyncpg.create_pool(new_database(template=EMPTY), min_size=1) as pool:
        with pytest.raises(SchemaMismatch, match="pgscheduler migrate"):
            await Scheduler(pool).schedule(takes_one, execution_time=now(), args=(1,))


async def test_a_closed_pool_and_a_foreign_object_are_refused(dsn: str) -> None:
    closed = await asyncpg.create_pool(dsn, min_size=0)
    await closed.close()

    for thing, words in ((closed, "closed"), ("postgresql://…", "str"), (None, "NoneType")):
        with pytest.raises(InvalidArgument, match=words):
            Scheduler(thing)  # type: ignore[arg-type]  # that is the point


async def test_a_taken_id_is_a_value_error_with_attributes(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler = Scheduler(pool)
    await scheduler.schedule(takes_one, execution_time=now(), args=(1,), job_id="a")

    with pytest.raises(JobExists) as caught:
        await scheduler.schedule(takes_one, execution_time=now(), args=(1,), job_id="a")

    assert caught.value.code == "PGS-004"
    assert "IGNORE or REPLACE" in caught.value.fix


async def test_an_unreachable_server_is_one_clear_error() -> None:
    async with asyncpg.create_pool("postgresql://127.0.0.1:1/nobody", min_size=0) as pool:
        with pytest.raises(DatabaseUnreachable, match="connection refused"):
            await Scheduler(pool).schedule(takes_one, execution_time=now(), args=(1,))
