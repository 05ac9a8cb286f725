"""The one source of time, ``scheduler_now()``: replaced in a test's database, and put back.

Invariant: what stands for it is an expression that PostgreSQL inlines as it does the shipped one, so that the
statements are planned and run as they are shipped.
"""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from pg_scheduler._store.connections import connect_like, place_of
from pg_scheduler._store.driver import Connection, Pool, Record
from pg_scheduler._store.keepalive import of_own_session
from pg_scheduler._store.kept import KeptConnection
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import SchemaMismatch, WorkerAlive

if TYPE_CHECKING:
    import asyncpg

SHIPPED = "now()"


def clock_saying(expression: str, *, function: str = "scheduler_now()") -> str:
    """The statement that makes the clock of a database say this."""
    return (
        f"CREATE OR REPLACE FUNCTION {function} RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE"
        f" RETURN {expression}"
    )


async def in_haste(connection: Connection) -> None:
    """Have what this connection commits not wait for the disk."""
    await connection.execute(of_own_session("commit_in_haste", connection))


class ClockStore:
    """The clock of one database, over a connection of its own: a test may hold all those of its pool."""

    def __init__(self, pool: Pool) -> None:
        async def connect() -> "asyncpg.Connection[Record]":
            connection = await connect_like(pool, command_timeout=None)
            await in_haste(connection)
            return connection

        self._db = KeptConnection(connect, place=place_of(pool))
        self._function = ""

    async def take(self) -> None:
        """Find the clock, in a database in which nobody lives.

        Raises:
            WorkerAlive: somebody does.
            SchemaMismatch: there is no such clock.
        """
        function = await self._db.fetchval(QUERIES["clock_function"])
        if function is None:
            raise SchemaMismatch(
                "there is no clock to set: the tables of the scheduler are missing",
                why=self._db.place,
                fix="await Scheduler(pool).initialize_db() first",
            )
        await self.require_nobody_beside(())
        self._function = function
        await self._db.fetch(QUERIES["bury_workers"], [])
        await self._db.fetch(QUERIES["forget_service"])

    async def require_nobody_beside(self, own_ids: Collection[str]) -> None:
        """Refuse to go on where somebody else lives, whose time would jump.

        Raises:
            WorkerAlive: with a name.
        """
        beside = await self._db.fetch(QUERIES["workers_beside"], list(own_ids))
        if beside:
            raise WorkerAlive(
                f"worker {beside[0]['id']} lives in this database, whose clock is to be set",
                why=f"{self._db.place}; its time would jump, and its leases with it",
                fix="shut it down, or give the test a database of its own",
            )

    async def stand_at(self, instant: datetime) -> None:
        """It is this instant until told otherwise."""
        await self._db.fetch(clock_saying(f"timestamptz '{instant.isoformat()}'", function=self._function))

    async def forget_service(self) -> None:
        """The time that comes is another one: nobody has served a queue in it."""
        await self._db.fetch(QUERIES["forget_service"])

    async def give_back(self) -> None:
        """The shipped clock again, if it was taken; closes the connection."""
        try:
            if self._function:
                await self._db.fetch(clock_saying(SHIPPED, function=self._function))
                await self._db.fetch(QUERIES["forget_service"])
        finally:
            await self._db.close()
