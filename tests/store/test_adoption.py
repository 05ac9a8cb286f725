"""A database of the older package pg-scheduler 0.2.3 becomes ours, with its rows."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler._store import adoption, migrator
from pg_scheduler._store.older_package import OlderPackageStore
from pg_scheduler.errors import SchemaMismatch
from support.databases import EMPTY
from support.older_package import fill
from support.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LAST_DAY = datetime(9998, 12, 31, tzinfo=UTC)
LONG_AGO = datetime(1, 1, 2, tzinfo=UTC)


@pytest.fixture
def older(new_database: Callable[..., str]) -> str:
    """The DSN of an empty database, to fill."""
    return new_database(template=EMPTY)


@pytest.fixture
async def told(older: str) -> list[str]:
    """Fill and adopt; what was told of it."""
    await fill(older)
    lines: list[str] = []
    await migrator.migrate(lambda: asyncpg.connect(older), tell=lines.append)
    return lines


@pytest.fixture
async def adopted(told: list[str], older: str) -> AsyncIterator[World]:
    """The stores over the adopted database."""
    del told
    async with asyncpg.create_pool(older, min_size=1, max_size=3) as pool:
        yield World.over(pool)


async def facts(world: World, job_id: str, *names: str) -> tuple[Any, ...]:
    row = await world.row(job_id)
    return tuple(row[name] for name in names)


async def test_no_row_is_lost(adopted: World) -> None:
    assert await adopted.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 29


@pytest.mark.parametrize(
    ("job_id", "status", "attempt"),
    [
        ("due", "pending", 0),
        ("retried", "pending", 2),
        ("orphaned", "running", 1),
        ("held", "running", 2),
        ("done", "completed", 1),
        ("broken", "failed", 4),
        ("withdrawn", "cancelled", 0),
        ("missed", "expired", 0),
    ],
)
async def test_a_row_keeps_its_meaning(adopted: World, job_id: str, status: str, attempt: int) -> None:
    names = ("status", "attempt", "task", "job_name")
    assert await facts(adopted, job_id, *names) == (status, attempt, "send", "send")


async def test_a_row_keeps_its_values(adopted: World) -> None:
    names = ("created_at", "retry_count", "max_retries", "worker_id", "error_message", "misfire_grace_time", "priority")
    made_at = datetime(2024, 3, 3, tzinfo=UTC)
    assert await facts(adopted, "retried", *names) == (made_at, 2, 5, "aaaaaaaa", "boom", 60, 5)
    assert await facts(adopted, "due-exactly", "misfire_grace_time", "finished_at") == (None, None)
    assert await facts(adopted, "due", "priority", "misfire_grace_time") == (3, 300)


async def test_arguments_keep_their_text(adopted: World) -> None:
    (text,) = await facts(adopted, "due-exactly", "task_data")
    assert text == '{"args": [10000000000000000, 12345678901234567890.125, 0.1], "kwargs": {}}'
    assert json.loads((await facts(adopted, "due", "task_data"))[0])["kwargs"] == {"k": [None, 2.5]}


async def test_an_ended_row_ends_where_the_older_package_last_saw_it(adopted: World) -> None:
    assert await facts(adopted, "done", "finished_at") == (datetime(2024, 3, 5, 0, 0, 10, tzinfo=UTC),)
    assert await facts(adopted, "broken", "finished_at") == (datetime(2024, 3, 5, tzinfo=UTC),)
    (withdrawn_at,) = await facts(adopted, "withdrawn", "finished_at")
    assert withdrawn_at <= datetime.now(UTC) + timedelta(minutes=1)


async def test_a_pending_tick_is_cancelled_with_a_reason(adopted: World) -> None:
    status, reason = await facts(adopted, "tick-1", "status", "error_message")
    assert status == "cancelled"
    assert "schedule" in reason


async def test_a_running_tick_is_a_job_of_its_function(adopted: World) -> None:
    names = ("status", "task", "job_name")
    assert await facts(adopted, "tick-0", *names) == ("running", "report", "periodic_report")


@pytest.mark.parametrize(
    ("job_id", "column", "original", "value"),
    [
        ("odd-priority", "priority", 4, 5),
        ("no-priority", "priority", None, 5),
        ("never", "execution_time", "infinity", LAST_DAY),
        ("year-9999", "execution_time", "9999-06-01 00:00:00+00", LAST_DAY),
        ("always", "execution_time", "-infinity", LONG_AGO),
        ("before-christ", "execution_time", "0044-03-15 00:00:00+00 BC", LONG_AGO),
        ("no-status", "status", None, "cancelled"),
        ("paused", "status", "paused", "cancelled"),
        ("waiting", "status", "waiting", "cancelled"),
        ("no-data", "task_data", None, '{"args": [], "kwargs": {}}'),
        ("odd-counts", "retry_count", -1, 0),
        ("odd-counts", "max_retries", None, 0),
        ("odd-counts", "misfire_grace_time", -5, 0),
        ("nobodys", "worker_id", None, "pg-scheduler 0.2.3"),
    ],
)
async def test_a_value_that_no_job_may_have_is_changed_and_kept(
    adopted: World, told: list[str], job_id: str, column: str, original: object, value: object
) -> None:
    assert await facts(adopted, job_id, column) == (value,)
    kept = await adopted.pool.fetchval("SELECT original FROM scheduler_adopted WHERE job_id = $1", job_id)
    assert json.loads(kept)[column] == original
    assert f"{column} of" in told[-1]


async def test_an_id_that_no_job_may_have_is_kept_beside_the_new_one(adopted: World) -> None:
    kept = await adopted.pool.fetch(
        "SELECT original->>'job_id' AS id, job_id IN (SELECT job_id FROM scheduled_jobs) AS here"
        " FROM scheduler_adopted WHERE (original->'job_id') IS NOT NULL ORDER BY 1"
    )
    assert [tuple(row) for row in kept] == [("", True), ("ü" * 101, True)]


async def test_a_row_without_odd_values_leaves_no_trace(adopted: World) -> None:
    assert await adopted.pool.fetchval("SELECT 1 FROM scheduler_adopted WHERE job_id = 'due'") is None


async def test_a_reason_is_added_to_what_stood_there(adopted: World) -> None:
    (reason,) = await facts(adopted, "paused", "error_message")
    assert "'paused'" in reason
    assert reason.endswith("; by hand")


async def test_running_rows_are_requeued_once_their_older_lease_has_passed(adopted: World) -> None:
    await adopted.workers.mark_dead()
    await adopted.jobs.requeue_orphans(3)
    assert await facts(adopted, "orphaned", "status", "interruptions") == ("pending", 1)
    assert await facts(adopted, "nobodys", "status") == ("pending",)
    assert await facts(adopted, "held", "status") == ("running",)

    await adopted.advance(timedelta(seconds=31))
    await adopted.workers.mark_dead()
    await adopted.jobs.requeue_orphans(3)

    assert await facts(adopted, "held", "status", "retry_count") == ("pending", 1)
    assert await facts(adopted, "endless-lease", "status") == ("running",)

    await adopted.advance(timedelta(days=1, seconds=1))
    await adopted.workers.mark_dead()
    await adopted.jobs.requeue_orphans(3)

    assert await facts(adopted, "endless-lease", "status") == ("pending",)


async def test_figures_of_the_vacuum_stay(adopted: World) -> None:
    rows = await adopted.pool.fetch(
        "SELECT deleted_completed, deleted_failed, deleted_cancelled, deleted_expired FROM vacuum_stats ORDER BY 1 DESC"
    )
    assert [tuple(row) for row in rows] == [(10, 2, 1, 0), (0, 0, 0, 0)]


async def test_progress_is_told(told: list[str]) -> None:
    text = "\n".join(told)
    assert "29 jobs (16 pending, 5 running)" in text
    assert "1 pending jobs of periodic functions are cancelled" in text
    assert "2 running jobs are held by older workers" in text
    assert "rows rewritten" in text


async def test_older_indexes_go_and_those_of_users_stay(older: str) -> None:
    await fill(
        older,
        "CREATE INDEX my_own ON scheduled_jobs (job_name)",
        "CREATE TABLE mine (job text REFERENCES scheduled_jobs)",
    )
    await migrator.migrate(lambda: asyncpg.connect(older))

    connection = await asyncpg.connect(older)
    names = await connection.fetchval("SELECT array_agg(indexname) FROM pg_indexes WHERE tablename = 'scheduled_jobs'")
    refers = await connection.fetchval(
        "SELECT confrelid::regclass::text FROM pg_constraint WHERE conname = 'mine_job_fkey'"
    )
    await connection.close()

    assert "my_own" in names
    assert [name for name in names if name.startswith("idx_")] == []
    assert refers == "scheduled_jobs"


@pytest.mark.parametrize(
    ("obstacle", "named"),
    [
        ("CREATE VIEW board AS SELECT job_id, task_data FROM scheduled_jobs", "board"),
        ("CREATE INDEX by_data ON scheduled_jobs USING gin (task_data)", "gin"),
        ("CREATE TABLE mine (job text REFERENCES scheduled_jobs); INSERT INTO mine VALUES ('')", "mine"),
        ("ALTER TABLE scheduled_jobs ADD COLUMN queue text", "queue"),
    ],
)
async def test_what_stands_in_the_way_is_named_and_nothing_changes(older: str, obstacle: str, named: str) -> None:
    await fill(older, obstacle)

    with pytest.raises(SchemaMismatch, match=named):
        await migrator.migrate(lambda: asyncpg.connect(older))

    connection = await asyncpg.connect(older)
    assert await connection.fetchval("SELECT count(last_heartbeat) FROM scheduled_jobs") > 0
    assert await connection.fetchval("SELECT to_regclass('scheduler_migrations')") is None
    await connection.close()


async def test_a_table_of_another_program_is_not_touched(older: str) -> None:
    connection = await asyncpg.connect(older)
    await connection.execute("CREATE TABLE scheduled_jobs (job_id text)")

    with pytest.raises(SchemaMismatch, match="it lacks created_at"):
        await migrator.migrate(lambda: asyncpg.connect(older))

    assert await connection.fetchval("SELECT to_regclass('scheduler_migrations')") is None
    await connection.close()


async def test_figures_of_the_vacuum_alone_are_adopted(older: str) -> None:
    await fill(older, "DROP TABLE scheduled_jobs")

    await migrator.migrate(lambda: asyncpg.connect(older))

    assert await migrator.migrate(lambda: asyncpg.connect(older)) == []


async def test_adoption_of_an_old_database_is_refused_by_require_head(older: str) -> None:
    await fill(older)
    connection = await asyncpg.connect(older)

    with pytest.raises(SchemaMismatch, match=r"older package.*pgscheduler migrate"):
        await migrator.require_head(connection)
    await connection.close()


async def test_an_older_worker_that_is_still_connected_is_found(older: str) -> None:
    await fill(older)
    worker = await asyncpg.connect(older)
    await worker.execute("UPDATE scheduled_jobs SET last_heartbeat = now() WHERE job_id = 'held'")
    pool = await asyncpg.create_pool(older, min_size=1, max_size=2)
    await migrator.migrate_place_of(pool)
    world = World.over(pool)
    await world.worker()

    (found,) = await OlderPackageStore(world.db).sessions()

    assert found.pid == worker.get_server_pid()
    with pytest.raises(asyncpg.UndefinedColumnError):
        await worker.execute("UPDATE scheduled_jobs SET last_heartbeat = now() WHERE job_id = 'held'")
    await worker.close()
    await world.pool.close()


async def test_our_own_tables_are_never_taken_for_older_ones(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    # as where another process has made them since the caller looked
    async with pool.acquire() as connection:
        assert await adoption.older_tables(connection) == frozenset()


async def test_eight_processes_adopt_once(older: str) -> None:
    await fill(older)
    applied = await asyncio.gather(*(migrator.migrate(partial(asyncpg.connect, older)) for _ in range(8)))

    names = [migration.name for each in applied for migration in each]
    assert sorted(names) == sorted(migration.name for migration in migrator.migrations())
