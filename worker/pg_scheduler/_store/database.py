"""Statements and transactions on a pool.

Invariant: no driver exception for the server's or the caller's state leaves this module, but what ``driver_errors``
makes of it.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from pg_scheduler._store.connections import CONNECT_TIMEOUT_SECONDS, connect_to, require_loop, require_pool
from pg_scheduler._store.driver import Connection, Pool, Record
from pg_scheduler._store.driver_errors import NOTIFY_QUEUE_FULL, translated, translation
from pg_scheduler._store.dsn import where
from pg_scheduler.errors import DatabaseBusy

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from asyncpg.pool import PoolConnectionProxy

Answer = TypeVar("Answer")
Answered: TypeAlias = Callable[[Record | None], None]

CLOSE_SECONDS = 0.5
"""How long somebody who ends waits for a server that may not answer."""
BUSY_PAUSES_SECONDS = (0.05, 0.2, 0.5)
"""At most this long before a statement is sent again that the server has undone; the pause itself is drawn."""

_RESET_TEXT = "_reset_query"


class Statements(Protocol):
    """What a store runs its statements on: a pool, or a connection that is kept."""

    @property
    def place(self) -> str:
        """Host, database and user, for messages; never the password."""
        ...

    async def fetch(self, query: str, *values: Any) -> list[Record]:
        """Every row."""
        ...

    async def fetchrow(self, query: str, *values: Any, answered: Answered | None = None) -> Record | None:
        """The first row; ``answered`` gets it first, before the connection is free again."""
        ...

    async def fetchval(self, query: str, *values: Any) -> Any:
        """The first column of the first row."""
        ...


class Database:
    """A pool with translated errors; the stores speak through it.

    ``repeats`` says that a single statement which the server has undone for a lock or a time limit is sent again, up to
    three times; a service repeats its whole pass instead.
    """

    def __init__(
        self, pool: Pool, *, place: str, repeats: bool = False, acquire_seconds: float = CONNECT_TIMEOUT_SECONDS
    ) -> None:
        self._pool = pool
        self._place = place
        self._pauses = BUSY_PAUSES_SECONDS if repeats else ()
        self._acquire_seconds = acquire_seconds

    @property
    def place(self) -> str:
        """Host, database and user, for messages; never the password."""
        return self._place

    def connection(self, *, leaves_nothing: bool = False) -> AbstractAsyncContextManager[Connection]:
        """A connection of the pool, given back at the end; ``leaves_nothing`` in its session that a reset would undo.

        Raises:
            InvalidArgument: the pool has been closed, or belongs to another event loop.
        """
        return _Borrowed(self, leaves_nothing=leaves_nothing)

    async def acquire(self) -> "PoolConnectionProxy[Record]":
        """A connection of the pool, to be released.

        Raises:
            InvalidArgument: as ``connection``.
        """
        require_pool(self._pool)
        require_loop(self._pool)
        return await self._acquired()

    async def release(self, proxy: "PoolConnectionProxy[Record]", *, leaves_nothing: bool = False) -> None:
        """Give a connection back."""
        with translated(self._place), _unreset(self._pool, proxy) if leaves_nothing else contextlib.nullcontext():
            await self._pool.release(proxy, timeout=self._acquire_seconds)

    async def drop(self, proxy: "PoolConnectionProxy[Record]") -> None:
        """Give a connection back whose statement was cancelled, without a word of what comes of that.

        To be told of a server that does not answer would have the caller try again, and never end.
        """
        with contextlib.suppress(Exception):
            await self._pool.release(proxy, timeout=CLOSE_SECONDS)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction that ends with the block."""
        async with self.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            except asyncio.CancelledError:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await transaction.rollback()
                raise
            except BaseException:
                await transaction.rollback()
                raise
            await transaction.commit()

    async def fetch(self, query: str, *values: Any) -> list[Record]:
        """Every row."""
        return await self._single(lambda connection: connection.fetch(query, *values))

    async def fetchrow(self, query: str, *values: Any, answered: Answered | None = None) -> Record | None:
        """The first row; ``answered`` gets it first, before the connection is given back."""

        async def send(connection: Connection) -> Record | None:
            row = await connection.fetchrow(query, *values)
            if answered is not None:
                answered(row)
            return row

        return await self._single(send)

    async def fetchval(self, query: str, *values: Any) -> Any:
        """The first column of the first row."""
        return await self._single(lambda connection: connection.fetchval(query, *values))

    async def close(self) -> None:
        """Close the pool, by force when the server does not answer; only of pools that this package opened."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()

    async def _single(self, send: "Callable[[Connection], Awaitable[Answer]]") -> Answer:
        for pause in self._pauses:
            try:
                async with self.connection(leaves_nothing=True) as connection:
                    return await send(connection)
            except DatabaseBusy as error:
                if error.sqlstate == NOTIFY_QUEUE_FULL:
                    raise
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  jitter, not a secret
        async with self.connection(leaves_nothing=True) as connection:
            return await send(connection)

    async def _acquired(self) -> "PoolConnectionProxy[Record]":
        with translated(self._place):
            try:
                async with asyncio.timeout(self._acquire_seconds):  # the pool's own limit makes a task of each call
                    return await self._pool.acquire()
            except TimeoutError as error:
                if self._pool.get_size() < self._pool.get_max_size() or self._pool.get_idle_size():
                    raise
                raise DatabaseBusy(
                    f"no connection of the pool became free within {self._acquire_seconds:g} s",
                    why=f"{self._place}; all {self._pool.get_max_size()} are in use",
                    fix="give connections back sooner, or make the pool larger",
                ) from error


class _Borrowed:
    """A connection of the pool within a block, and the driver's errors translated. No generator: see ``translated``."""

    __slots__ = ("_database", "_leaves_nothing", "_proxy")

    def __init__(self, database: Database, *, leaves_nothing: bool) -> None:
        self._database = database
        self._leaves_nothing = leaves_nothing
        self._proxy: PoolConnectionProxy[Record]

    async def __aenter__(self) -> Connection:
        self._proxy = await self._database.acquire()
        return self._proxy

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            await self._database.release(self._proxy, leaves_nothing=self._leaves_nothing)
        elif isinstance(error, asyncio.CancelledError):
            await self._database.drop(self._proxy)
        else:
            ours = translation(error, self._database.place, self._proxy)
            await self._database.release(self._proxy)
            if ours is not None:
                raise ours from error


@contextmanager
def _unreset(pool: Pool, proxy: "PoolConnectionProxy[Record]") -> Iterator[None]:
    """Within the block the connection goes back to the caller's pool without a reset, a quarter of what a job costs.

    asyncpg keeps the reset's text in a private attribute, read in the first step of a release; this function and its
    test are the only place that knows. A pool with hooks keeps to them: what they leave in a session we cannot know.
    """
    connection = attrgetter("_con")(proxy)
    if any(attrgetter("_setup", "_reset")(pool)) or not hasattr(connection, _RESET_TEXT):
        yield
        return
    text = getattr(connection, _RESET_TEXT)
    setattr(connection, _RESET_TEXT, "")
    try:
        yield
    finally:
        setattr(connection, _RESET_TEXT, text)


@asynccontextmanager
async def direct_connection(database: Database, dsn: str | None) -> AsyncIterator[Connection]:
    """A connection for what a pooler in transaction mode cannot carry: of ``dsn`` if given, else of the database."""
    if dsn is None:
        async with database.connection() as pooled:
            yield pooled
        return
    connection = await connect_to(dsn, command_timeout=None)
    try:
        with translated(where(dsn), connection):
            yield connection
    finally:
        connection.terminate()
