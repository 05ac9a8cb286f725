"""The test beds themselves: a migrated database of one's own on each release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from support import databases
from support.databases import EMPTY, PgServer

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_dsn_is_a_migrated_database_of_this_release(pool: asyncpg.Pool[asyncpg.Record], pg: int) -> None:
    assert await pool.fetchval("SELECT to_regclass('scheduled_jobs')") is not None
    assert int(await pool.fetchval("SHOW server_version_num")) // 10_000 == pg


async def test_databases_are_apart(new_database: Callable[..., str], dsn: str) -> None:
    other = new_database()
    for address in (dsn, other):
        connection = await asyncpg.connect(address)
        await connection.execute("CREATE TABLE mine ()")
        await connection.close()


async def test_empty_database_has_no_tables(new_database: Callable[..., str]) -> None:
    connection = await asyncpg.connect(new_database(template=EMPTY))
    assert await connection.fetchval("SELECT to_regclass('scheduled_jobs')") is None
    await connection.close()


async def test_connection_left_open_is_told(pg_server: PgServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "CLOSING_SECONDS", 0.1)
    dsn = pg_server.create(template=EMPTY)
    connection = await asyncpg.connect(dsn)
    await connection.execute("SELECT 'left behind'")
    with pytest.raises(AssertionError, match="left behind"):
        pg_server.drop(dsn)
    connection.terminate()
