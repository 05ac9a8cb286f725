"""schema.sql, the migrations and the adoption of an older database lead to one schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from pg_scheduler._store import head_schema, migrator
from support.catalogue import catalogue, difference
from support.databases import EMPTY, NEWEST
from support.older_package import fill
from support.schema_file import FILE, made_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

FILLED_BY_ADOPTION = ("rows scheduled_jobs", "rows scheduler_adopted", "rows scheduler_workers", "rows vacuum_stats")


async def migrated(dsn: str, *, by_files: bool) -> dict[str, tuple[object, ...]]:
    await migrator.migrate(lambda: asyncpg.connect(dsn), by_files=by_files)
    connection = await asyncpg.connect(dsn)
    try:
        return await catalogue(connection)
    finally:
        await connection.close()


async def test_schema_file_is_that_of_the_migrations(new_database: Callable[..., str], pg: int) -> None:
    if pg != NEWEST:  # each release's pg_dump has words of its own
        return
    made = await made_schema(new_database(template=EMPTY))

    assert made == FILE.read_text(encoding="utf-8"), "run `make schema` and commit what it writes"


async def test_fresh_equals_migrated(new_database: Callable[..., str]) -> None:
    assert head_schema.is_current(), "run `make schema` and commit what it writes"
    fresh = await migrated(new_database(template=EMPTY), by_files=False)
    stepped = await migrated(new_database(template=EMPTY), by_files=True)

    assert difference(fresh, stepped) == {}


async def test_adopted_equals_migrated(new_database: Callable[..., str]) -> None:
    older = new_database(template=EMPTY)
    await fill(older)

    adopted = await migrated(older, by_files=False)
    fresh = await migrated(new_database(template=EMPTY), by_files=False)

    assert set(difference(adopted, fresh)) == set(FILLED_BY_ADOPTION)


async def test_a_stale_schema_file_is_not_believed(
    new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_schema, "digest", lambda: "of other migrations")
    monkeypatch.setattr(head_schema, "schema_text", lambda: "SELECT 1 / 0")

    assert await migrated(new_database(template=EMPTY), by_files=False)
