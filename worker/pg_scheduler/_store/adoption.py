"""Take over a database of the older package pg-scheduler 0.2.3, in place and with its rows.

Invariants: one transaction, so that it happens whole or not at all; the table stays the same table, with the foreign
keys, grants and triggers that users have put on it; no row is lost, and every value that had to change is kept as it
was in ``scheduler_adopted`` and told.

Adoption makes what 0001 and 0002 make: it runs these files with their CREATE TABLE replaced by an ALTER TABLE of the
table that is there. All later migrations then run as on any other database. It is the only step that locks the table
for longer than two seconds.
"""

import re
import time
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING

import asyncpg

from pg_scheduler._store.migration_files import Migration
from pg_scheduler._store.queries import statements_of
from pg_scheduler.errors import SchemaMismatch

if TYPE_CHECKING:
    from pg_scheduler._store.driver import Connection

JOBS, STATS = "scheduled_jobs", "vacuum_stats"
ADOPTED_VERSIONS = (1, 2)
SECONDS_PER_MILLION = 8.0
"""Measured; see docs/how-to/switch-from-pg-scheduler.md."""

_COLUMNS = {
    JOBS: {
        "job_id", "job_name", "execution_time", "status", "task_data", "created_at", "last_heartbeat", "lease_until",
        "priority", "retry_count", "max_retries", "worker_id", "error_message", "misfire_grace_time",
    },
    STATS: {"stat_date", "deleted_completed", "deleted_failed", "deleted_cancelled", "last_run", "worker_id"},
}  # fmt: skip
_STATEMENTS = statements_of(resources.files("pg_scheduler._store").joinpath("adoption.sql").read_text(encoding="utf-8"))
_REWRITES = {JOBS: _STATEMENTS["rewrite_jobs"], STATS: _STATEMENTS["rewrite_vacuum_stats"]}

Tell = Callable[[str], None]


async def older_tables(connection: "Connection") -> frozenset[str]:
    """Which of the older package's tables are here, where none of ours is.

    Raises:
        SchemaMismatch: a table of that name is somebody else's.
    """
    rows = await connection.fetch(_STATEMENTS["older_columns"])
    for row in rows:
        _require_older(row["table_name"], row["kind"], set(row["columns"]))
    return frozenset(row["table_name"] for row in rows)


async def adopt(
    connection: "Connection", tables: frozenset[str], migrations: tuple[Migration, ...], tell: Tell
) -> list[Migration]:
    """Make the tables of the older package ours, in the caller's transaction; the migrations that this amounts to.

    Raises:
        SchemaMismatch: something that users have put on the table stands in the way; nothing has changed.
    """
    applied = [migration for migration in migrations if migration.version in ADOPTED_VERSIONS]
    began = time.monotonic()
    if JOBS in tables:
        await connection.execute(_STATEMENTS["lock_older_jobs"])
        await _announce(connection, tell)
    try:
        if JOBS in tables:
            await _prepare_jobs(connection)
            _tell_since(tell, "rows looked through", began)
        for migration in applied:
            await connection.execute(_in_place(migration.text, tables))
        if JOBS in tables:
            await connection.execute(_STATEMENTS["lease_older_workers"])
            await connection.execute(_STATEMENTS["drop_older_columns"])
            _tell_since(tell, "rows rewritten, indexes made", began)
            await _report(connection, tell)
    except (asyncpg.FeatureNotSupportedError, asyncpg.IntegrityConstraintViolationError) as error:
        raise _in_the_way(error) from error
    except (
        asyncpg.DependentObjectsStillExistError,
        asyncpg.UndefinedObjectError,
        asyncpg.DuplicateColumnError,
    ) as error:
        raise _in_the_way(error) from error
    return applied


async def analyze(connection: "Connection") -> None:
    """Give the planner its notion of the rewritten table; after the commit, while others already work."""
    await connection.execute(_STATEMENTS["analyze_jobs"])


def _require_older(table: str, kind: str, columns: set[str]) -> None:
    lacking = sorted(_COLUMNS[table] - columns)
    if kind == "r" and not lacking:
        return
    raise SchemaMismatch(
        f"{table} is here, and neither ours nor a table of the older package pg-scheduler 0.2.3",
        why=f"it lacks {', '.join(lacking)}" if lacking else "it is no plain table",
        fix="use another database or schema; a pg-scheduler before 0.2.3 is first upgraded to that",
    )


async def _announce(connection: "Connection", tell: Tell) -> None:
    found = await connection.fetchrow(_STATEMENTS["count_older"])
    if found is None:
        raise AssertionError("a count has a row")
    tell(
        f"adopting scheduled_jobs of pg-scheduler 0.2.3: {found['jobs']:,} jobs ({found['pending']:,} pending,"
        f" {found['running']:,} running); it is locked for about"
        f" {max(1, round(found['jobs'] / 1e6 * SECONDS_PER_MILLION))} s"
    )
    if found["ticks"]:
        tell(f"{found['ticks']:,} pending jobs of periodic functions are cancelled: their schedules tick by themselves")
    if found["leased"]:
        tell(f"{found['leased']:,} running jobs are held by older workers that may still live: stop these workers")


async def _prepare_jobs(connection: "Connection") -> None:
    for row in await connection.fetch(_STATEMENTS["older_indexes"]):
        await connection.execute(f"DROP INDEX {row[0]}")
    await connection.execute(_STATEMENTS["create_adopted"])
    await connection.execute(_STATEMENTS["keep_originals"])
    if "job_id" in {row["name"] for row in await connection.fetch(_STATEMENTS["count_originals"])}:
        await connection.execute(_STATEMENTS["give_odd_ids"])


async def _report(connection: "Connection", tell: Tell) -> None:
    changed = await connection.fetch(_STATEMENTS["count_originals"])
    if changed:
        each = ", ".join(f"{row['name']} of {row['rows']:,}" for row in changed)
        tell(f"values that no job may have were changed ({each}); scheduler_adopted keeps them as they were")


def _in_place(text: str, tables: frozenset[str]) -> str:
    """A migration that alters those of its tables that are there instead of making them."""
    for table in tables:
        create = re.compile(rf"^CREATE TABLE {table} \($.*?^\).*?;$", re.MULTILINE | re.DOTALL)
        text = f"{_REWRITES[table]};".join(create.split(text))
    return text


def _tell_since(tell: Tell, what: str, began: float) -> None:
    tell(f"{what} ({time.monotonic() - began:.1f} s)")


def _in_the_way(error: asyncpg.PostgresError) -> SchemaMismatch:
    detail = f"{error}; {error.detail}" if error.detail else str(error)
    return SchemaMismatch(
        "something on the older package's table stands in the way of its adoption; nothing was changed",
        why=detail,
        fix="drop it, run `pgscheduler migrate`, and make it anew on the adopted table",
    )
