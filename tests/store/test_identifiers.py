"""Names that users choose are values: stored to the letter or refused, and nothing else comes of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pg_scheduler import JobFilter, Scheduler
from pg_scheduler._store import adoption
from pg_scheduler.contrib.sqlalchemy import statement
from pg_scheduler.errors import InvalidArgument
from support.databases import EMPTY
from support.sizes import sized

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from support.world import World

LATER = datetime(2100, 1, 1, tzinfo=UTC)
HOSTILE = (
    "'; DROP TABLE scheduled_jobs; --",
    '"; DROP TABLE scheduled_jobs; --',
    "$1",
    "$$; DROP TABLE scheduled_jobs; $$",
    ":payload",
    "%s",
    "{0}",
    "\\'; --",
    "a'b\"c`d",
    "\u02bc; --",  # letters that some databases fold into a quote
    "\uff07 OR 1=1 --",
    "public.scheduled_jobs",
    "\x1b[2J\u202e",
    "\ufb01\u0301\u0130\u0131",  # which change their length with their case
    "null",
    "\t padded \n",
)
SETTINGS = settings(
    max_examples=sized(15, 500), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def bytes_of(text: str) -> int:
    return len(text.encode())


names = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=50).filter(
    lambda name: bytes_of(name) <= 64
)
no_names = st.one_of(
    st.builds("{}\x00{}".format, names, names),
    st.builds("{}\ud800{}".format, names, names),
    st.text("aé€\U0001f600", min_size=501, max_size=600),
)


def hostile(test: Any) -> Any:
    """With each of the names that somebody has tried already."""
    for name in HOSTILE:
        test = example(name=name)(test)
    return test


@SETTINGS
@given(name=names)
@hostile
async def test_any_name_is_stored_to_the_letter_and_does_nothing_else(world: World, name: str) -> None:
    scheduler = Scheduler(world.pool, tenant=name)
    options: dict[str, Any] = {"queue": name, "concurrency_key": name, "tags": [name]}
    job_id = f"job {name} {world.pool.get_size()}"
    await world.pool.execute("DELETE FROM scheduled_jobs")
    tables = await _tables(world)

    await scheduler.schedule_job(name, LATER, {"args": [name], "kwargs": {name: name}}, job_id=job_id, **options)
    await scheduler.upsert_schedule(name, name, every=timedelta(hours=1), queue=name, kwargs={name: name})
    await scheduler.pause_queue(name, reason=name, by=name)

    row = await world.row(job_id)
    assert [row[column] for column in ("tenant", "queue", "task", "job_name", "concurrency_key")] == [name] * 5
    (job,) = [job async for job in scheduler.jobs(JobFilter(task=name, queue=name, tags=[name]))]
    assert (job.job_id, job.tags) == (job_id, (name,))
    (schedule,) = await scheduler.schedules()
    assert (schedule.uid, schedule.task) == (name, name)
    assert await scheduler.delete_schedule(name)
    (queue,) = [queue for queue in await scheduler.queues() if queue.paused_at is not None]
    assert (queue.queue, queue.reason, queue.paused_by) == (name, name, name)
    assert await scheduler.resume_queue(name)
    assert await _tables(world) == tables
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 1


@SETTINGS
@given(name=no_names)
async def test_what_is_no_name_is_refused_before_anything_is_written(world: World, name: str) -> None:
    scheduler = Scheduler(world.pool)
    calls: dict[str, Any] = {
        "tenant": lambda: Scheduler(world.pool, tenant=name).schedule_job("t", LATER, {}),
        "queues": lambda: Scheduler(world.pool, queues=[name]).schedule_job("t", LATER, {}),
        "job_name": lambda: scheduler.schedule_job(name, LATER, {}),
        "job_id": lambda: scheduler.schedule_job("t", LATER, {}, job_id=name),
        "queue": lambda: scheduler.schedule_job("t", LATER, {}, queue=name),
        "concurrency_key": lambda: scheduler.schedule_job("t", LATER, {}, concurrency_key=name),
        "tags": lambda: scheduler.schedule_job("t", LATER, {}, tags=[name]),
        "schedule": lambda: scheduler.upsert_schedule(name, "t", every=timedelta(hours=1)),
        "task of a schedule": lambda: scheduler.upsert_schedule("s", name, every=timedelta(hours=1)),
        "pause_queue": lambda: scheduler.pause_queue(name, reason="r"),
        "reason": lambda: scheduler.pause_queue("q", reason=name * 2),
        "filter": lambda: _first(scheduler.jobs(JobFilter(queue=name[:200] + "\x00"))),
    }

    assert {field: wrong for field, call in calls.items() if (wrong := await _wrong(call))} == {}
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0
    assert await scheduler.schedules() == []


@SETTINGS
@given(name=names)
@hostile
def test_options_of_an_enqueuing_statement_are_of_its_own_list(name: str) -> None:
    options: dict[str, Any] = {f"x{name}": 1}
    with pytest.raises(InvalidArgument, match="has no option"):
        statement("t", **options)

    assert str(statement("t", queue=name)) == str(statement("t", queue="default"))


@pytest.fixture
async def older(new_database: Callable[..., str]) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A database with what of the older package's table its indexes are told by."""
    connection = await asyncpg.connect(new_database(template=EMPTY))
    await connection.execute("CREATE TABLE scheduled_jobs (status text, priority integer, execution_time timestamptz)")
    yield connection
    await connection.close()


@SETTINGS
@given(name=names.filter(lambda name: bytes_of(name) <= 63))
@hostile
async def test_an_index_of_an_older_database_may_have_any_name(
    older: asyncpg.Connection[asyncpg.Record], name: str
) -> None:
    """The one name that is put into a statement from outside: of the catalogue, quoted there."""
    quoted = await older.fetchval("SELECT quote_ident($1)", name)
    await older.execute(f"CREATE INDEX {quoted} ON scheduled_jobs (status, priority, execution_time)")

    for row in await older.fetch(adoption._STATEMENTS["older_indexes"]):
        await older.execute(f"DROP INDEX {row[0]}")

    assert await older.fetchval("SELECT count(*) FROM pg_indexes WHERE tablename = 'scheduled_jobs'") == 0


async def _tables(world: World) -> list[str]:
    return [row[0] for row in await world.pool.fetch("SELECT tablename FROM pg_tables ORDER BY 1")]


async def _wrong(call: Callable[[], Awaitable[object]]) -> str | None:
    """What is wrong with the answer; a refusal is right that says what was given and not what the server made of it."""
    try:
        await call()
    except InvalidArgument as error:
        return None if error.fix and "PostgreSQL" not in error.what else str(error)
    except Exception as error:  # noqa: BLE001  whatever it is, it is told
        return repr(error)
    return "taken"


async def _first(jobs: AsyncIterator[Any]) -> Any:
    return await anext(jobs, None)
