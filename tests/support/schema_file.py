"""Make ``schema.sql`` from the migrations: ``make schema`` runs this module.

PostgreSQL's own pg_dump says what the migrations made; here its words are only put in the form that
``head_schema.py`` reads. The schema lies in a namespace with an unlikely name while it is dumped, so that the name can
be taken out of every statement: the file serves whatever schema a user's search_path names.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import asyncpg

from pg_scheduler._store.migration_files import digest
from pg_scheduler._store.migrator import migrate
from support.databases import NEWEST, bin_dir_of, started
from support.paths import LIBRARY

FILE = LIBRARY / "_store" / "schema.sql"
NAMESPACE = "namespace_of_make_schema"
HEADER = """\
-- Made from the migrations by `make schema`: change those, never this file.
-- digest: {digest}
"""
_ENTRY = re.compile(r"^-- Name: (?P<name>.+?); Type: (?P<kind>[A-Z ]+); Schema: .*$", re.MULTILINE)
_AROUND = re.compile(r"--|SET default_|\\|\s*$")


async def made_schema(dsn: str) -> str:
    """The text of the file, by way of an empty database of the newest release."""
    settings = {"search_path": NAMESPACE}
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"CREATE SCHEMA {NAMESPACE}")
    await connection.close()
    await migrate(lambda: asyncpg.connect(dsn, server_settings=settings), by_files=True)
    return HEADER.format(digest=digest()) + "".join(_entries(_dump(dsn)))


def _dump(dsn: str) -> str:
    command = [str(bin_dir_of(NEWEST) / "pg_dump"), "--schema-only", "--no-owner", "--no-privileges", "--no-comments",
               f"--schema={NAMESPACE}", "--exclude-table=*.scheduler_migrations", f"--dbname={dsn}"]  # fmt: skip
    done: subprocess.CompletedProcess[str] = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def _entries(dump: str) -> list[str]:
    heads = list(_ENTRY.finditer(dump))
    ends = [head.start() for head in heads[1:]] + [len(dump)]
    return [
        f"\n-- object: {head['kind']} {head['name']}\n{_statements(dump[head.end() : end])}\n"
        for head, end in zip(heads, ends, strict=True)
        if head["kind"] != "SCHEMA"
    ]


def _statements(text: str) -> str:
    """Without the namespace, and without the comments and settings around an entry; a function's body keeps its own."""
    lines = text.replace(f"{NAMESPACE}.", "").splitlines()
    while _AROUND.match(lines[0]):
        del lines[0]
    while _AROUND.match(lines[-1]):
        del lines[-1]
    return "\n".join(lines)


def main() -> None:
    with started(NEWEST) as server:
        dsn = server.create(template="template0")
        text = asyncio.run(made_schema(dsn))
    changed = text != FILE.read_text(encoding="utf-8")
    FILE.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{FILE.name} {'was written anew' if changed else 'is up to date'}\n")


if __name__ == "__main__":
    main()
