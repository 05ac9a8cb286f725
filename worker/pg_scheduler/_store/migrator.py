"""Bring a database to this release's schema.

Invariants: one transaction for all, under an advisory lock of that transaction, so that many processes may start at
once; a file that was applied never changes; a schema whose ``min_reader`` is above this release's version is refused,
and nothing else is, so that the previous release runs on the next schema.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import SchemaMismatch

if TYPE_CHECKING:
    from pg_scheduler._store.database import Connection, Record

_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")
_MIN_READER = re.compile(r"^-- min_reader: (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered file; ``min_reader`` is the oldest schema version whose release may read the result."""

    version: int
    name: str
    text: str
    min_reader: int

    @property
    def sha256(self) -> str:
        """What was applied, to be told from what the file says now."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@lru_cache(maxsize=1)
def migrations() -> tuple[Migration, ...]:
    """Every migration of this release, in order."""
    files = resources.files("pg_scheduler._store").joinpath("migrations").iterdir()
    found = [(match, file) for file in files if (match := _FILE.match(file.name))]
    return tuple(sorted((_parse(m, f.read_text(encoding="utf-8")) for m, f in found), key=lambda m: m.version))


def head_version() -> int:
    """The schema version of this release."""
    return migrations()[-1].version


async def pending(connection: "Connection") -> list[Migration]:
    """What ``migrate`` would apply.

    Raises:
        SchemaMismatch: the schema is newer than this release reads, or an applied file has changed.
    """
    applied = await _applied(connection)
    _refuse_newer(applied)
    _refuse_changed(applied)
    return [migration for migration in migrations() if migration.version not in applied]


async def migrate(connection: "Connection") -> list[Migration]:
    """Apply what is pending, all or nothing; what was applied."""
    if not await pending(connection):
        return []
    async with connection.transaction():
        await connection.execute(QUERIES["lock_migrations"])
        todo = await pending(connection)
        await connection.execute(QUERIES["create_migrations"])
        for migration in todo:
            await connection.execute(migration.text)
            await connection.execute(
                QUERIES["record_migration"], migration.version, migration.name, migration.sha256, migration.min_reader
            )
    return todo


async def require_head(connection: "Connection") -> None:
    """Refuse a schema that lacks something this release needs.

    Raises:
        SchemaMismatch: with the command that brings it up.
    """
    todo = await pending(connection)
    if todo:
        raise SchemaMismatch(f"{len(todo)} migrations are pending", fix="run `pgscheduler migrate`")


async def _applied(connection: "Connection") -> "dict[int, Record]":
    here = await connection.fetchrow(QUERIES["tables_here"])
    if here is None or not here["ours"]:
        if here is not None and here["jobs"]:
            raise SchemaMismatch(
                "a table scheduled_jobs of the older package is here",
                why="this release does not adopt it yet",
                fix="use another database or schema until the release that does",
            )
        return {}
    return {row["version"]: row for row in await connection.fetch(QUERIES["applied_migrations"])}


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


def _parse(match: re.Match[str], text: str) -> Migration:
    header = _MIN_READER.search(text)
    if header is None:
        raise ValueError(f"migration {match[0]} lacks its min_reader line")
    return Migration(version=int(match[1]), name=match[2], text=text, min_reader=int(header[1]))
