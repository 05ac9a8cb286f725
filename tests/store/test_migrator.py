from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pg_scheduler import Scheduler
from pg_scheduler._store import head_schema, migration_files, migrator
from pg_scheduler._store.migration_files import Migration
from pg_scheduler.errors import DatabaseNotReady, InvalidArgument, SchemaMismatch
from support.catalogue import catalogue, difference
from support.databases import EMPTY
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Pool = asyncpg.Pool[asyncpg.Record]

SLOW_INDEX = Migration(
    version=9001,
    name="an_index",
    min_reader=1,
    text="-- min_reader: 1\n-- transaction: none\n"
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS scheduled_jobs_by_name ON scheduled_jobs (job_name);\n",
)


@pytest.fixture
async def empty(new_database: Callable[..., str]) -> AsyncIterator[Pool]:
    """A pool to a database without any table."""
    async with asyncpg.create_pool(new_database(template=EMPTY), min_size=1, max_size=10) as pool:
        yield pool


@pytest.fixture
def next_migrations(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the release more migrations than it has."""

    def add(*more: Migration) -> None:
        known = (*migrator.migrations(), *more)
        monkeypatch.setattr(migrator, "migrations", lambda: known)

    return add


async def migrate(pool: Pool) -> list[Migration]:
    return await migrator.migrate_place_of(pool)


async def test_migrate_is_safe_from_many_processes_at_once(empty: Pool) -> None:
    applied = await asyncio.gather(*(migrate(empty) for _ in range(8)))

    assert sorted(len(names) for names in applied) == [0] * 7 + [len(migrator.migrations())]


async def test_initialize_db_is_safe_from_eight_processes_at_once(new_database: Callable[..., str]) -> None:
    dsn = new_database(template=EMPTY)
    program = """
import asyncio, sys, asyncpg
from pg_scheduler import Scheduler
async def main():
    async with asyncpg.create_pool(sys.argv[1], min_size=1, max_size=1) as pool:
        await Scheduler(pool).initialize_db()
asyncio.run(main())
"""
    command = [sys.executable, "-c", program, dsn]
    processes = [await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE) for _ in range(8)]
    ended = await asyncio.gather(*(process.communicate() for process in processes))

    assert [process.returncode for process in processes] == [0] * 8, ended


async def test_migrate_twice_changes_nothing(empty: Pool) -> None:
    await migrate(empty)

    assert await migrate(empty) == []


async def test_a_failing_migration_leaves_nothing_of_itself(pool: Pool, next_migrations: Callable[..., None]) -> None:
    next_migrations(replace(SLOW_INDEX, text="CREATE TABLE half (); SELECT 1 / 0"))

    with pytest.raises(InvalidArgument, match="22012"):
        await migrate(pool)

    assert await pool.fetchval("SELECT to_regclass('half')") is None
    assert [m.version for m in await _pending(pool)] == [9001]


async def test_a_changed_file_is_refused(pool: Pool) -> None:
    await pool.execute("UPDATE scheduler_migrations SET sha256 = 'other'")

    with pytest.raises(SchemaMismatch, match="another file"):
        await migrate(pool)


async def test_a_newer_schema_is_refused_only_when_it_says_so(pool: Pool) -> None:
    newer = migrator.head_version() + 1
    await pool.execute("INSERT INTO scheduler_migrations VALUES ($1, 'next', 'x', 1)", newer)
    assert await migrate(pool) == []

    await pool.execute("UPDATE scheduler_migrations SET min_reader = $1 WHERE version = $1", newer)

    with pytest.raises(SchemaMismatch, match="newer release"):
        await migrate(pool)


async def test_a_missing_schema_is_named_with_the_command(empty: Pool) -> None:
    async with empty.acquire() as connection:
        with pytest.raises(SchemaMismatch, match=r"schema 0 < \d+: .*pgscheduler migrate"):
            await migrator.require_head(connection)


async def test_new_code_refuses_an_older_schema_unless_it_may_migrate(
    pool: Pool, next_migrations: Callable[..., None]
) -> None:
    head = migrator.head_version()
    next_migrations(SLOW_INDEX)

    with pytest.raises(SchemaMismatch, match=f"schema {head} < 9001: 1 migrations are pending"):
        await Scheduler(pool, auto_migrate=False).start()

    assert await pool.fetchval("SELECT to_regclass('scheduled_jobs_by_name')") is None


async def test_a_migration_waits_two_seconds_for_its_lock_and_tries_again(
    pool: Pool, next_migrations: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    next_migrations(replace(SLOW_INDEX, text="-- min_reader: 1\nALTER TABLE scheduled_jobs ADD COLUMN more text;"))
    told: list[str] = []
    monkeypatch.setattr(migrator, "TELL_WAITING_SECONDS", 0)

    async with pool.acquire() as reader:
        async with reader.transaction():
            await reader.execute("SELECT FROM scheduled_jobs")
            migrating = asyncio.create_task(migrator.migrate_place_of(pool, tell=told.append))
            await until(lambda: told, what="it waits for its turn")
            # Nobody stands behind it meanwhile: its place in the queue is given up for the pause.
            await asyncio.wait_for(pool.fetchval("SELECT count(*) FROM scheduled_jobs"), PATIENCE)
            assert not migrating.done()
        applied = await migrating

    assert [migration.version for migration in applied] == [9001]


async def test_a_migration_gives_up_with_a_reason(
    pool: Pool, next_migrations: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    next_migrations(replace(SLOW_INDEX, text="-- min_reader: 1\nALTER TABLE scheduled_jobs ADD COLUMN more text;"))
    monkeypatch.setattr(migrator, "LOCK_PATIENCE_SECONDS", 0)

    async with pool.acquire() as reader, reader.transaction():
        await reader.execute("SELECT FROM scheduled_jobs")
        with pytest.raises(SchemaMismatch, match="pg_stat_activity"):
            await migrate(pool)


async def test_an_index_is_made_while_others_write(pool: Pool, next_migrations: Callable[..., None]) -> None:
    next_migrations(SLOW_INDEX)

    async with pool.acquire() as writer:
        async with writer.transaction():
            await writer.execute(INSERT, "open")
            migrating = asyncio.create_task(migrate(pool))
            await until(partial(_index_state, pool), what="the index is under way")
            await pool.execute(INSERT, "meanwhile")
            assert not migrating.done()
        await migrating

    assert await _index_state(pool) == "valid"


async def test_an_index_is_made_once_by_many_processes(pool: Pool, next_migrations: Callable[..., None]) -> None:
    next_migrations(SLOW_INDEX)

    applied = await asyncio.wait_for(asyncio.gather(*(migrate(pool) for _ in range(4))), PATIENCE)

    assert sorted(map(len, applied)) == [0, 0, 0, 1]
    assert await _index_state(pool) == "valid"


async def test_an_index_left_unfinished_is_made_anew(pool: Pool, next_migrations: Callable[..., None]) -> None:
    next_migrations(SLOW_INDEX)
    told: list[str] = []
    async with pool.acquire() as writer, writer.transaction():
        await writer.execute(INSERT, "open")
        interrupted = asyncio.create_task(migrate(pool))
        await until(partial(_index_state, pool), what="the index is under way")
        await pool.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'"
        )
        with pytest.raises(Exception, match="connection"):
            await interrupted
    assert await _index_state(pool) == "invalid"

    await migrator.migrate_place_of(pool, tell=told.append)

    assert await _index_state(pool) == "valid"
    assert "made anew" in told[0]


async def test_a_table_dropped_by_hand_is_made_anew(pool: Pool) -> None:
    before = await _catalogue(pool)
    await pool.execute(INSERT, "lost")
    await pool.execute(
        "INSERT INTO scheduler_attempts (job_id, token, attempt, worker_id, error_type, message, traceback)"
        " VALUES ('lost', 1, 1, 'w', 'E', 'm', 't')"
    )
    await pool.execute("DROP TABLE scheduled_jobs CASCADE")
    async with pool.acquire() as connection:
        with pytest.raises(SchemaMismatch, match="scheduled_jobs is missing"):
            await migrator.require_head(connection)

    assert await migrate(pool) == []

    assert difference(await _catalogue(pool), before) == {}


@pytest.mark.parametrize("table", [found.name for found in head_schema.schema_objects() if found.kind == "TABLE"])
async def test_every_table_can_be_made_anew(pool: Pool, table: str) -> None:
    before = await _catalogue(pool)
    await pool.execute(f"DROP TABLE {table} CASCADE")

    await migrate(pool)

    assert difference(await _catalogue(pool), before) == {}


async def test_slots_of_lost_jobs_are_emptied(pool: Pool) -> None:
    await pool.execute("CREATE TABLE IF NOT EXISTS scheduler_slots (tenant text, key text, slot integer, job_id text)")
    await pool.execute("INSERT INTO scheduler_slots (tenant, key, slot, job_id) VALUES ('', 'k', 1, 'lost')")
    await pool.execute("DROP TABLE scheduled_jobs CASCADE")

    await migrate(pool)

    assert await pool.fetchval("SELECT count(*) FROM scheduler_slots") == 0


async def test_a_constraint_is_validated_after_its_migration(pool: Pool, next_migrations: Callable[..., None]) -> None:
    next_migrations(replace(SLOW_INDEX, text=LATE_CHECK))
    await pool.execute(INSERT, "here-before")

    await migrate(pool)

    assert await pool.fetchval("SELECT convalidated FROM pg_constraint WHERE conname = 'scheduled_jobs_late'")


@pytest.mark.parametrize("migration", [m for m in migrator.migrations() if m.version > 2], ids=lambda m: m.name)
def test_a_migration_takes_no_look_at_the_jobs_while_it_locks_them(migration: Migration) -> None:
    if not migration.in_transaction:
        return
    for statement in re.sub(r"--.*", "", migration.text).split(";"):
        words = " ".join(statement.split())
        assert not re.match(r"CREATE (UNIQUE )?INDEX \w+ ON scheduled_jobs\b", words), "give it a file of its own"
        if words.startswith("ALTER TABLE scheduled_jobs "):
            added = re.split(r", (?=ADD |ALTER |DROP )", words)
            assert [part for part in added if "ADD CONSTRAINT" in part and "NOT VALID" not in part] == []


def test_a_file_without_transaction_holds_indexes_only() -> None:
    match = migration_files._FILE.match("9001_x.sql")
    assert match is not None
    with pytest.raises(ValueError, match="more than indexes"):
        migration_files._parse(match, "-- min_reader: 1\n-- transaction: none\nDROP TABLE scheduled_jobs;")


LATE_CHECK = "ALTER TABLE scheduled_jobs ADD CONSTRAINT scheduled_jobs_late CHECK (job_name <> 'x') NOT VALID;"
INSERT = (
    "INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time) VALUES ($1, 't', 't', '{}', now())"
)


async def _pending(pool: Pool) -> list[Migration]:
    async with pool.acquire() as connection:
        return await migrator.pending(connection)


async def _index_state(pool: Pool) -> str | None:
    state: str | None = await pool.fetchval(
        "SELECT CASE WHEN indisvalid THEN 'valid' ELSE 'invalid' END FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indexrelid WHERE relname = 'scheduled_jobs_by_name'"
    )
    return state


async def _catalogue(pool: Pool) -> dict[str, tuple[object, ...]]:
    async with pool.acquire() as connection:
        return await catalogue(connection)


async def test_a_server_that_is_too_old_is_said_to_be(empty: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrator, "OLDEST_SERVER", 99)

    with pytest.raises(DatabaseNotReady, match=r"PostgreSQL 1\d\.\d+ is too old\. the scheduler needs 99 or newer"):
        await Scheduler(empty).initialize_db()
    with pytest.raises(DatabaseNotReady, match="is too old"):
        await Scheduler(empty, auto_migrate=False).start()

    assert await empty.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
