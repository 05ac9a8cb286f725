"""A single statement gives the caller's connection back as it was, and saves the round trip of its reset."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler._store.database import Database
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RESET = "RESET ALL"
SESSION = re.compile(r"\A(SET|LISTEN|PREPARE|DECLARE)\b|set_config\([^)]*\bfalse\)|advisory_lock(_shared)?\(")


@asynccontextmanager
async def logged(dsn: str, **options: Any) -> AsyncIterator[tuple[Database, asyncpg.Pool[asyncpg.Record], list[str]]]:
    """A caller's pool of one connection, and what is sent over it."""
    sent: list[str] = []

    async def note(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        connection.add_query_logger(lambda query: sent.append(query.query))

    async with asyncpg.create_pool(dsn, min_size=1, max_size=1, init=note, **options) as pool:
        yield Database(pool, place="here"), pool, sent


async def test_a_single_statement_is_one_round_trip(dsn: str) -> None:
    async with logged(dsn) as (database, _, sent):
        await database.fetchval("SELECT 1")
        sent.clear()

        await database.fetch("SELECT 1")
        await database.fetchrow("SELECT 1")
        await database.fetchval("SELECT 1")

        assert sent == ["SELECT 1"] * 3


async def test_what_the_caller_leaves_in_the_session_is_reset_as_ever(dsn: str) -> None:
    async with logged(dsn) as (database, pool, _):
        await database.fetchval("SELECT 1")
        await pool.execute("SET statement_timeout = '7 s'")

        assert await pool.fetchval("SHOW statement_timeout") == "0"


async def test_a_statement_that_fails_is_followed_by_a_reset(dsn: str) -> None:
    async with logged(dsn) as (database, _, sent):
        with pytest.raises(InvalidArgument):
            await database.fetchval("SELECT 1 / 0")

        assert RESET in sent[-1]


async def test_a_connection_that_is_lent_for_more_is_reset(dsn: str) -> None:
    async with logged(dsn) as (database, _, sent):
        async with database.connection() as connection:
            await connection.execute("SET statement_timeout = '7 s'")

        assert RESET in sent[-1]
        assert await database.fetchval("SHOW statement_timeout") == "0"


async def test_a_pool_with_a_setup_is_reset(dsn: str) -> None:
    async def set_up(connection: Any) -> None:
        await connection.execute("SET application_name = 'theirs'")

    async with logged(dsn, setup=set_up) as (database, _, sent):
        await database.fetchval("SELECT 1")

        assert RESET in sent[-1]


async def test_a_pool_with_a_reset_of_its_own_keeps_to_it(dsn: str) -> None:
    async def reset(connection: Any) -> None:
        await connection.execute(f"SELECT 'own'; {connection.get_reset_query()}")

    async with logged(dsn, reset=reset) as (database, _, sent):
        await database.fetchval("SELECT 1")

        assert sent[-1].startswith("SELECT 'own'")
        assert RESET in sent[-1]


def test_no_statement_but_those_of_own_sessions_leaves_anything_in_one() -> None:
    assert {name for name, text in QUERIES.items() if SESSION.search(text)} == {
        "keep_alive",
        "plan_once",
        "commit_in_haste",
    }


async def test_no_function_of_ours_leaves_anything_in_a_session(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    functions = await pool.fetch(
        "SELECT proname, coalesce(prosrc, '') AS body FROM pg_proc WHERE proname LIKE 'scheduler\\_%'"
    )

    assert len(functions) > 5
    assert [row["proname"] for row in functions if SESSION.search(row["body"])] == []
