"""Databases for tests on one PostgreSQL that pods reach too.

Invariant: a local process and a pod that hold the two addresses of one `Database` are the same role in the same
database; the role owns it and nothing else. Both come over TCP with a password: only the way differs.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from cluster import network
from pg_scheduler.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCAL = "127.0.0.1"
PORT = 5432


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """`dsn` for processes in the sandbox, `pod_dsn` for pods."""

    name: str
    dsn: str
    pod_dsn: str

    def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        return asyncio.run(_fetch(self.dsn, statement, arguments))

    def execute(self, *statements: str) -> None:
        asyncio.run(_execute(self.dsn, statements))


class Databases:
    """The databases of one server."""

    def __init__(self, superuser_dsn: str, *, gateway: str) -> None:
        self.superuser_dsn = superuser_dsn
        self._gateway = gateway

    @contextmanager
    def fresh(self) -> Iterator[Database]:
        """A new database and its owner, both dropped at the end with whoever is still connected."""
        name, password = f"t_{secrets.token_hex(4)}", secrets.token_hex(8)
        self._execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'", f"CREATE DATABASE {name} OWNER {name}")
        try:
            yield Database(
                name=name,
                dsn=f"postgresql://{name}:{password}@{_LOCAL}:{PORT}/{name}",
                pod_dsn=f"postgresql://{name}:{password}@{self._gateway}:{PORT}/{name}",
            )
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)", f"DROP ROLE {name}")

    @contextmanager
    def served(self, owned: Database) -> Iterator[Database]:
        """The same database under a login that reads and writes what its owner makes from now on, and makes nothing."""
        name, password = f"{owned.name}_serving", secrets.token_hex(8)
        self._execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        things = ("TABLES", "SEQUENCES")
        owned.execute(*(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {these} TO {name}" for these in things))
        try:
            yield Database(
                name=owned.name,
                dsn=f"postgresql://{name}:{password}@{_LOCAL}:{PORT}/{owned.name}",
                pod_dsn=f"postgresql://{name}:{password}@{self._gateway}:{PORT}/{owned.name}",
            )
        finally:
            owned.execute(
                *(f"ALTER DEFAULT PRIVILEGES REVOKE ALL ON {these} FROM {name}" for these in things),
                *(f"REVOKE ALL ON ALL {these} IN SCHEMA public FROM {name}" for these in things),
            )
            self._execute(f"DROP ROLE {name}")

    def _execute(self, *statements: str) -> None:
        asyncio.run(_execute(self.superuser_dsn, statements))


@contextmanager
def running(gateway: str) -> Iterator[Databases]:
    """A server on the sandbox's loopback and on the pods' way out of their network (`Cluster.gateway`)."""
    server = EmbeddedPostgres(
        settings={"listen_addresses": f"{_LOCAL},{gateway}", "port": str(PORT), "max_connections": "300"},
        hba=[f"host all all {source} scram-sha-256" for source in (f"{_LOCAL}/32", network.POD_RANGE)],
        durable=False,
    )
    with server:
        yield Databases(server.dsn, gateway=gateway)


async def _fetch(dsn: str, statement: str, arguments: tuple[object, ...]) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement, *arguments)
    finally:
        await connection.close()


async def _execute(dsn: str, statements: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
