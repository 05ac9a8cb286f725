"""Bring a database to this release's schema.

Invariants: each step is one transaction under an advisory lock of that transaction, so that many processes may start at
once; no step waits longer than two seconds in the queue for a lock, and none but the adoption of an older database
keeps others out for longer; a file that was applied never changes; a schema whose ``min_reader`` is above this
release's version is refused, and nothing else is, so that the previous release runs on the next schema.

A step is, in this order: adopt the older package's tables; make everything from ``schema.sql`` where there is nothing;
apply the next migration; look through the rows for constraints that migrations added ``NOT VALID``, which locks nobody
out; make anew what was dropped by hand.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from pg_scheduler._store import adoption, head_schema, migration_files
from pg_scheduler._store.connections import connect_like, connect_to, place_of
from pg_scheduler._store.driver_errors import translated
from pg_scheduler._store.dsn import where
from pg_scheduler._store.migration_files import Migration
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import DatabaseNotReady, MigrationNeeded, SchemaMismatch

if TYPE_CHECKING:
    from pg_scheduler._store.driver import Connection, Pool, Record

LOCK_PATIENCE_SECONDS = 120.0
"""How long a step tries to get its locks, two seconds at a time, before it gives up."""
OLDEST_SERVER = 14
"""The major version of PostgreSQL that statements here need at least."""
TURN_PAUSE_SECONDS = 0.1
TELL_WAITING_SECONDS = 5.0

Connect = Callable[[], "Awaitable[asyncpg.Connection[asyncpg.Record]]"]
Tell = Callable[[str], None]

migrations = migration_files.migrations
logger = logging.getLogger("pg_scheduler.migrations")


class _AnotherMigrates(Exception):
    """Somebody else holds the lock of migrations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What a database lacks; ``older`` are tables of the older package where there is none of ours, ``unvalidated`` the
    statements that validate constraints, ``held_back`` the contracting steps that wait for older workers to end.
    """

    empty: bool
    older: frozenset[str] = frozenset()
    pending: list[Migration] = field(default_factory=list)
    held_back: list[Migration] = field(default_factory=list)
    unvalidated: list[str] = field(default_factory=list)
    missing_tables: list[str] = field(default_factory=list)

    @property
    def is_served(self) -> bool:
        """Whether this release can work with it: constraints hold for new rows before they are validated."""
        return not self.pending and not self.missing_tables

    @property
    def runs_concurrently(self) -> bool:
        """Whether the next step is a migration outside a transaction."""
        return not self.older and bool(self.pending) and not self.pending[0].in_transaction


def head_version() -> int:
    """The schema version of this release."""
    return migrations()[-1].version


async def pending(connection: "Connection") -> list[Migration]:
    """What ``migrate`` would apply.

    Raises:
        SchemaMismatch: the schema is newer than this release reads, or an applied file has changed.
    """
    return (await _state(connection)).pending


async def migrate_place_of(pool: "Pool", dsn: str | None = None, *, tell: Tell = logger.info) -> list[Migration]:
    """``migrate`` where the pool or ``dsn`` leads, on connections of its own: a pool's would be cut off."""
    if dsn is not None:
        return await migrate(lambda: connect_to(dsn, command_timeout=None), place=where(dsn), tell=tell)
    return await migrate(lambda: connect_like(pool, command_timeout=None), place=place_of(pool), tell=tell)


async def migrate(
    connect: Connect, *, place: str = "", tell: Tell = logger.info, by_files: bool = False
) -> list[Migration]:
    """Apply what is pending, step by step; what was applied.

    Args:
        connect: opens a connection that nobody else uses, once, and once more for a migration outside a transaction.
        place: where that is, for messages.
        tell: what is told of steps that take long.
        by_files: whether an empty database is made from the migrations too, and not from ``schema.sql``.

    Raises:
        MigrationNeeded: this login may not change the tables.
        SchemaMismatch: the schema is newer than this release reads, an applied file has changed, a table of another
            program is in the way, or a lock was not to be had within two minutes.
        DatabaseNotReady: the server is older than PostgreSQL 14.
        DatabaseUnreachable: nobody answers there.
    """
    connection = await connect()
    try:
        with translated(place, connection):
            return await _Migrator(connect, connection, tell, by_files=by_files).run()
    finally:
        with suppress(OSError, TimeoutError):
            await connection.close(timeout=1)


async def require_head(connection: "Connection") -> None:
    """Refuse a schema that lacks something this release needs.

    Raises:
        MigrationNeeded: with the command that brings it up.
        SchemaMismatch: the schema is newer than this release reads, or an applied file has changed.
    """
    state = await _state(connection)
    if not state.is_served:
        raise MigrationNeeded(_lacking(state), fix="run `pgscheduler migrate`")


def _lacking(state: _State) -> str:
    """What keeps this release from working with it."""
    if state.older:
        return "the tables here are those of the older package"
    if state.pending:
        newest = max((migration.version for migration in migrations() if migration not in state.pending), default=0)
        return f"schema {newest} < {head_version()}: {len(state.pending)} migrations are pending"
    return f"of the scheduler's tables, {', '.join(state.missing_tables)} is missing"


class _Migrator:
    """The steps of one call, on one connection."""

    def __init__(
        self, connect: Connect, connection: "asyncpg.Connection[asyncpg.Record]", tell: Tell, *, by_files: bool
    ) -> None:
        self._connect = connect
        self._connection = connection
        self._tell = tell
        self._by_files = by_files

    async def run(self) -> list[Migration]:
        """Step until nothing is lacking."""
        applied: list[Migration] = []
        while not (state := await _state(self._connection)).is_served or state.unvalidated:
            step = self._step_concurrently if state.runs_concurrently else self._step
            try:
                applied += await self._patiently(step)
            except asyncpg.InsufficientPrivilegeError as error:
                if state.is_served:  # constraints that are left to look through are for the owner, who added them
                    break
                why, fix = "this login may not change the tables", "run `pgscheduler migrate` as their owner"
                raise MigrationNeeded(_lacking(state), why=why, fix=fix) from error
        for migration in state.held_back:
            self._tell(f"{migration.version:04d}_{migration.name} waits until no worker of an older release lives")
        return applied

    async def _patiently(self, step: Callable[[], Awaitable[list[Migration]]]) -> list[Migration]:
        """Repeat a step until it had its turn and its locks; with jitter, since others may do the same."""
        began = time.monotonic()
        told = False
        while True:
            try:
                return await step()
            except _AnotherMigrates:
                pause = TURN_PAUSE_SECONDS
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
                pause = 1.0
                if time.monotonic() - began > LOCK_PATIENCE_SECONDS:
                    raise SchemaMismatch(
                        f"a migration did not get its lock within {LOCK_PATIENCE_SECONDS:.0f} s",
                        why="another session holds a table of the scheduler in a transaction that does not end",
                        fix="find it in pg_stat_activity, end it, and run `pgscheduler migrate` again",
                    ) from error
            if not told and time.monotonic() - began > TELL_WAITING_SECONDS:
                self._tell("waiting for another session that migrates or holds a lock")
                told = True
            await asyncio.sleep(pause * random.uniform(0.2, 1.0))  # noqa: S311  jitter, not a secret

    async def _step(self) -> list[Migration]:
        """The next step as one transaction: all of it or nothing."""
        async with self._connection.transaction(isolation="read_committed"):
            await _lock(self._connection)
            await self._connection.execute(QUERIES["limit_migration"])
            state = await _state(self._connection)
            applied = await self._apply(state)
        if adoption.JOBS in state.older:
            await adoption.analyze(self._connection)
        return applied

    async def _apply(self, state: _State) -> list[Migration]:
        if state.older:
            applied = await adoption.adopt(self._connection, state.older, migrations(), self._tell)
        elif state.empty and not self._by_files and head_schema.is_current():
            await self._connection.execute(head_schema.schema_text())
            applied = state.pending
        elif state.pending and state.pending[0].in_transaction:
            applied = state.pending[:1]
            await self._connection.execute(applied[0].text)
        else:
            await self._mend(state)
            return []
        await _record(self._connection, applied)
        return applied

    async def _mend(self, state: _State) -> None:
        """What no migration stands for."""
        if not state.pending and state.unvalidated:
            await self._connection.execute(state.unvalidated[0])
        elif state.missing_tables:
            names = await head_schema.remake_missing(self._connection)
            self._tell(f"made anew what was dropped by hand: {', '.join(names)}")

    async def _step_concurrently(self) -> list[Migration]:
        """A migration outside a transaction; a second connection holds the lock meanwhile, without a snapshot."""
        guard = await self._connect()
        try:
            async with guard.transaction(isolation="read_committed"):
                await _lock(guard)
                state = await _state(guard)
                if not state.runs_concurrently:
                    return []
                migration = state.pending[0]
                await guard.execute(QUERIES["stand_guard"])
                for index, statement in migration.concurrent_indexes.items():
                    await self._make_index(index, statement)
                await _record(guard, [migration])
                return [migration]
        finally:
            with suppress(OSError, TimeoutError):
                await guard.close(timeout=1)

    async def _make_index(self, index: str, statement: str) -> None:
        if await self._connection.fetchval(QUERIES["invalid_index"], index):
            self._tell(f"index {index} was left unfinished by an interrupted run; it is made anew")
            await self._connection.execute(f"DROP INDEX CONCURRENTLY {index}")
        await self._connection.execute(statement)


async def _lock(connection: "Connection") -> None:
    if not await connection.fetchval(QUERIES["try_lock_migrations"]):
        raise _AnotherMigrates


async def _record(connection: "Connection", applied: list[Migration]) -> None:
    await connection.execute(QUERIES["create_migrations"])
    for migration in applied:
        await connection.execute(
            QUERIES["record_migration"], migration.version, migration.name, migration.sha256, migration.min_reader
        )


async def _state(connection: "Connection") -> _State:
    _refuse_old_server(connection)
    if not await connection.fetchval(QUERIES["tables_here"]):
        older = await adoption.older_tables(connection)
        return _State(empty=not older, older=older, pending=list(migrations()))
    applied = {row["version"]: row for row in await connection.fetch(QUERIES["applied_migrations"])}
    _refuse_newer(applied)
    _refuse_changed(applied)
    lacking = [migration for migration in migrations() if migration.version not in applied]
    held_back = [migration for migration in lacking if await _is_held_back(connection, migration)]
    ours = {migration.version for migration in migrations() if migration not in held_back}
    is_ours = applied.keys() == ours  # and not of a newer release
    return _State(
        empty=False,
        pending=[migration for migration in lacking if migration not in held_back],
        held_back=held_back,
        unvalidated=[row["validate"] for row in await connection.fetch(QUERIES["unvalidated_constraints"])],
        missing_tables=await head_schema.missing_tables(connection) if is_ours and head_schema.is_current() else [],
    )


async def _is_held_back(connection: "Connection", migration: Migration) -> bool:
    """Whether a worker lives that still needs what the migration takes away."""
    return migration.after is not None and bool(
        await connection.fetchval(QUERIES["older_workers_live"], list(migration.after))
    )


def _refuse_old_server(connection: "Connection") -> None:
    version = connection.get_server_version()
    if version.major < OLDEST_SERVER:
        raise DatabaseNotReady(
            f"PostgreSQL {version.major}.{version.minor} is too old",
            why=f"the scheduler needs {OLDEST_SERVER} or newer",
            fix="upgrade the server, or name another in the DSN",
        )


def _refuse_newer(applied: "dict[int, Record]") -> None:
    newest_reader = max((row["min_reader"] for row in applied.values()), default=0)
    if newest_reader > head_version():
        raise SchemaMismatch(
            f"the schema is at version {max(applied)} and needs a release that knows version {newest_reader}",
            why=f"this release knows up to {head_version()}",
            fix="run a newer release",
        )


def _refuse_changed(applied: "dict[int, Record]") -> None:
    for migration in migrations():
        row = applied.get(migration.version)
        if row is not None and row["sha256"] != migration.sha256:
            raise SchemaMismatch(
                f"migration {migration.version:04d}_{migration.name} was applied from another file",
                fix="run the release that applied it, or restore the file",
            )
