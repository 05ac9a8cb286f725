from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pg_scheduler._store import migrator
from pg_scheduler.errors import SchemaMismatch
from support.databases import EMPTY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
async def empty(new_database: Callable[..., str]) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """A pool to a database without any table."""
    async with asyncpg.create_pool(new_database(template=EMPTY), min_size=1, max_size=10) as pool:
        yield pool


async def migrate(pool: asyncpg.Pool[asyncpg.Record]) -> list[migrator.Migration]:
    async with pool.acquire() as connection:
        return await migrator.migrate(connection)


async def test_migrate_is_safe_from_many_processes_at_once(empty: asyncpg.Pool[asyncpg.Record]) -> None:
    applied = await asyncio.gather(*(migrate(empty) for _ in range(8)))

    assert sorted(len(names) for names in applied) == [0] * 7 + [len(migrator.migrations())]


async def test_migrate_twice_changes_nothing(empty: asyncpg.Pool[asyncpg.Record]) -> None:
    await migrate(empty)

    assert await migrate(empty) == []


async def test_a_failing_migration_leaves_nothing(
    empty: asyncpg.Pool[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = migrator.migrations()[0]
    broken = replace(first, version=first.version + 1, text="SELECT 1 / 0")
    monkeypatch.setattr(migrator, "migrations", lambda: (first, broken))

    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty)

    assert await empty.fetchval("SELECT to_regclass('scheduled_jobs')") is None
    assert await empty.fetchval("SELECT to_regclass('scheduler_migrations')") is None


async def test_a_changed_file_is_refused(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await pool.execute("UPDATE scheduler_migrations SET sha256 = 'other'")

    with pytest.raises(SchemaMismatch, match="another file"):
        await migrate(pool)


async def test_a_newer_schema_is_refused_only_when_it_says_so(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    newer = migrator.head_version() + 1
    await pool.execute("INSERT INTO scheduler_migrations VALUES ($1, 'next', 'x', 1)", newer)
    assert await migrate(pool) == []

    await pool.execute("UPDATE scheduler_migrations SET min_reader = $1 WHERE version = $1", newer)

    with pytest.raises(SchemaMismatch, match="newer release"):
        await migrate(pool)


async def test_the_older_packages_table_is_not_touched(empty: asyncpg.Pool[asyncpg.Record]) -> None:
    await empty.execute("CREATE TABLE scheduled_jobs (job_id text)")

    with pytest.raises(SchemaMismatch, match="older package"):
        await migrate(empty)


async def test_a_missing_schema_is_named_with_the_command(empty: asyncpg.Pool[asyncpg.Record]) -> None:
    async with empty.acquire() as connection:
        with pytest.raises(SchemaMismatch, match="pgscheduler migrate"):
            await migrator.require_head(connection)
