"""A database as the older package pg-scheduler 0.2.3 left it."""

from __future__ import annotations

import asyncpg

from support.paths import ROOT

FILE = ROOT / "tests" / "fixtures" / "older" / "pg_scheduler_0_2_3.sql"


async def fill(dsn: str, *more: str) -> None:
    """Make its tables in an empty database, with the rows of the fixture and what ``more`` statements add."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in (FILE.read_text(encoding="utf-8"), *more):
            await connection.execute(statement)
    finally:
        await connection.close()
