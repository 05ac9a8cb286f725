"""One connection kept over many statements.

Invariant: a statement is on its way to the server before the caller first waits: no pool, no lock and no task lies
between. So a claim can be sent and the jobs of the one before it be run while the server works.
"""

from typing import TYPE_CHECKING, Any

from pg_scheduler._store.connections import close_quietly
from pg_scheduler._store.database import Answered
from pg_scheduler._store.driver import Record
from pg_scheduler._store.driver_errors import translated
from pg_scheduler._store.keepalive import of_own_session
from pg_scheduler.errors import DatabaseBusy, DatabaseUnreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg


class KeptConnection:
    """A connection of its own, made with the first statement and made anew after a loss; for one caller at a time."""

    def __init__(self, connect: "Callable[[], Awaitable[asyncpg.Connection[Record]]]", *, place: str) -> None:
        self._connect = connect
        self.place = place
        self._connection: asyncpg.Connection[Record] | None = None

    async def fetch(self, query: str, *values: Any) -> list[Record]:
        """Every row."""
        connection = self._connection or await self._connected()
        try:
            with translated(self.place, connection):
                return await connection.fetch(query, *values)
        except DatabaseBusy:
            raise  # it has answered
        except DatabaseUnreachable:
            await self.close()
            raise

    async def fetchrow(self, query: str, *values: Any, answered: Answered | None = None) -> Record | None:
        """The first row; ``answered`` gets it first."""
        row = next(iter(await self.fetch(query, *values)), None)
        if answered is not None:
            answered(row)
        return row

    async def fetchval(self, query: str, *values: Any) -> Any:
        """The first column of the first row."""
        row = await self.fetchrow(query, *values)
        return None if row is None else row[0]

    async def _connected(self) -> "asyncpg.Connection[Record]":
        connection = await self._connect()
        try:
            with translated(self.place, connection):
                await connection.execute(of_own_session("plan_once", connection))
        except BaseException:  # a cancellation too: nobody else knows of this connection yet
            connection.terminate()
            raise
        self._connection = connection
        return connection

    async def close(self) -> None:
        """Close it; the next statement makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await close_quietly(connection)
