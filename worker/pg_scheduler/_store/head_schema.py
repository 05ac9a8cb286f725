"""``schema.sql``: the schema of this release in one file, made from the migrations by ``make schema``.

It serves databases that have nothing yet, and makes anew what was dropped by hand. Invariant: it is believed only where
its digest is that of the migrations beside it; otherwise every caller goes by the migrations.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from pg_scheduler._store.migration_files import digest
from pg_scheduler._store.queries import QUERIES

if TYPE_CHECKING:
    from pg_scheduler._store.driver import Connection

_DIGEST = re.compile(r"^-- digest: ([0-9a-f]{64})$", re.MULTILINE)
_OBJECT = re.compile(r"^-- object: (?P<kind>[A-Z ]+?) (?P<name>[^A-Z ].*)$", re.MULTILINE)
_REFERENCE = re.compile(r"\bREFERENCES (\w+)\b")
SLOTS = "scheduler_slots"
JOBS = "scheduled_jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaObject:
    """One object of the schema and what makes it; of a constraint or trigger, ``table`` is where it belongs."""

    kind: str
    table: str
    name: str
    text: str


@lru_cache(maxsize=1)
def schema_text() -> str:
    """The whole file."""
    return resources.files("pg_scheduler._store").joinpath("schema.sql").read_text(encoding="utf-8")


def is_current() -> bool:
    """Whether the file was made from the migrations of this release."""
    found = _DIGEST.search(schema_text())
    return found is not None and found[1] == digest()


@lru_cache(maxsize=1)
def schema_objects() -> tuple[SchemaObject, ...]:
    """What the file makes, in its order."""
    text = schema_text()
    heads = list(_OBJECT.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return tuple(_object(head, text[head.end() : end]) for head, end in zip(heads, ends, strict=True))


async def missing_tables(connection: "Connection") -> list[str]:
    """Tables of this release that are not there."""
    return [found.name for found in await _missing(connection) if found.kind == "TABLE"]


async def remake_missing(connection: "Connection") -> list[str]:
    """Make every object that is not there, in the caller's transaction; the tables among them.

    What belonged to the rows of a lost table goes with it: rows that refer to it, and the held slots of lost jobs.
    """
    missing = await _missing(connection)
    tables = {found.name for found in missing if found.kind == "TABLE"}
    for name in await _orphaned_tables(connection, tables):
        await connection.execute(f'DELETE FROM "{name}"')  # noqa: S608 - a name of schema.sql
    for found in missing:
        await connection.execute(found.text)
    return sorted(tables)


async def _missing(connection: "Connection") -> list[SchemaObject]:
    objects = schema_objects()
    rows = await connection.fetch(
        QUERIES["missing_objects"],
        [found.kind for found in objects],
        [found.table for found in objects],
        [found.name for found in objects],
    )
    return [objects[row["place"] - 1] for row in rows]


async def _orphaned_tables(connection: "Connection", lost: set[str]) -> list[str]:
    referring = {found.table for found in schema_objects() if lost.intersection(_REFERENCE.findall(found.text))}
    if JOBS in lost:
        referring.add(SLOTS)
    rows = await connection.fetch(QUERIES["visible_tables"], sorted(referring - lost))
    return [row["relname"] for row in rows]


def _object(head: re.Match[str], text: str) -> SchemaObject:
    kind, name = head["kind"], head["name"]
    table, _, own = (
        name.rpartition(" ") if kind in {"CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "DEFAULT"} else ("", "", name)
    )
    return SchemaObject(kind=kind, table=table, name=own, text=text.strip())
