"""Connections, and what their failures mean to the rest of the package.

Invariant: no driver exception for an absent server or a wrong schema leaves this module: callers see
``DatabaseUnreachable`` or ``SchemaMismatch``. Errors of statements themselves pass through.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import asyncpg

from pg_scheduler._store.dsn import checked_dsn, where
from pg_scheduler.errors import DatabaseUnreachable, InvalidArgument, SchemaMismatch

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Record: TypeAlias = asyncpg.Record

CONNECT_TIMEOUT_SECONDS = 5.0

_ABSENT = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
_FIX = "check the address, the server and the password"
_OTHER_SCHEMA = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError)


class Statements(Protocol):
    """What a store runs its statements on: a pool, or a connection that is kept."""

    @property
    def place(self) -> str:
        """Host, database and user, for messages; never the password."""
        ...

    async def fetch(self, query: str, *values: Any) -> list[Record]:
        """Every row."""
        ...

    async def fetchrow(self, query: str, *values: Any) -> Record | None:
        """The first row."""
        ...

    async def fetchval(self, query: str, *values: Any) -> Any:
        """The first column of the first row."""
        ...


class Database:
    """A pool with translated errors; the stores speak through it."""

    def __init__(self, pool: Pool, *, place: str) -> None:
        self._pool = pool
        self._place = place

    @property
    def place(self) -> str:
        """Host, database and user, for messages; never the password."""
        return self._place

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool, given back at the end.

        Raises:
            InvalidArgument: the pool has been closed, or belongs to another event loop.
        """
        require_pool(self._pool)
        require_loop(self._pool)
        with translated(self._place):
            proxy = await self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS)
        try:
            with translated(self._place, proxy):
                yield proxy
        finally:
            with translated(self._place):
                await self._pool.release(proxy)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction that ends with the block."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, query: str, *values: Any) -> list[Record]:
        """Every row."""
        async with self.connection() as connection:
            return await connection.fetch(query, *values)

    async def fetchrow(self, query: str, *values: Any) -> Record | None:
        """The first row."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *values)

    async def fetchval(self, query: str, *values: Any) -> Any:
        """The first column of the first row."""
        async with self.connection() as connection:
            return await connection.fetchval(query, *values)

    async def close(self) -> None:
        """Close the pool; only of pools that this package opened."""
        await self._pool.close()


@contextmanager
def translated(place: str, connection: "Connection | None" = None) -> Iterator[None]:
    """Turn the driver's errors about the server and the schema into ours.

    What asyncpg calls an interface error is a lost connection only where the connection is closed; else it is a mistake
    of ours, such as a missing argument, and passes.
    """
    try:
        yield
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if connection is not None and not connection.is_closed():
            raise
        raise DatabaseUnreachable("cannot reach PostgreSQL: the connection was lost", why=place, fix=_FIX) from error
    except _OTHER_SCHEMA as error:
        raise SchemaMismatch(
            "a table of the scheduler is missing or of another release", why=place, fix="run `pgscheduler migrate`"
        ) from error
    except _ABSENT as error:
        raise DatabaseUnreachable(
            f"cannot reach PostgreSQL: {_reason(error)}",
            why=place,
            fix=_FIX,
        ) from error


def connect_arguments(pool: Pool) -> tuple[Sequence[Any], dict[str, Any]]:
    """How the caller's pool connects, so that the engine's own connections go the same way.

    asyncpg keeps them in private attributes; this function and its test are the only place that knows.
    """
    args, kwargs = attrgetter("_connect_args", "_connect_kwargs")(pool)
    return tuple(args), dict(kwargs)


def place_of(pool: Pool) -> str:
    """Where the caller's pool connects to, for messages."""
    (dsn, *_), kwargs = connect_arguments(pool)
    if dsn:
        return where(dsn)
    return (
        f"host {kwargs.get('host') or '?'}, database {kwargs.get('database') or '?'}, user {kwargs.get('user') or '?'}"
    )


async def open_pool(dsn: str, *, size: int, eager: bool, command_timeout: float | None = None) -> Pool:
    """A pool of at most ``size`` connections; ``eager`` opens the first one now, else none until one is needed.

    Raises:
        InvalidDsn: the DSN cannot be used; the message never repeats it.
        DatabaseUnreachable: eager, and no connection within 5 s.
    """
    dsn = checked_dsn(dsn)
    with translated(where(dsn)):
        return await asyncpg.create_pool(
            dsn, min_size=int(eager), max_size=size, timeout=CONNECT_TIMEOUT_SECONDS, command_timeout=command_timeout
        )


async def open_pool_like(pool: Pool, *, size: int, command_timeout: float) -> Pool:
    """A second pool to the same place as the caller's."""
    args, kwargs = connect_arguments(pool)
    options = {"timeout": CONNECT_TIMEOUT_SECONDS, **kwargs, "command_timeout": command_timeout}
    with translated(place_of(pool)):
        return await asyncpg.create_pool(*args, min_size=1, max_size=size, reset=_nothing_to_reset, **options)


async def _nothing_to_reset(_: object) -> None:
    """No statement of ours leaves anything in its session, so that giving a connection back costs no round trip."""


async def connect_like(pool: Pool, *, command_timeout: float | None) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection to the same place as the pool, in the running loop, owned by the caller."""
    args, kwargs = connect_arguments(pool)
    options = {"timeout": CONNECT_TIMEOUT_SECONDS, **kwargs, "command_timeout": command_timeout}
    with translated(place_of(pool)):
        return await asyncpg.connect(*args, **options)


async def close_quietly(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Close a connection that may be lost already."""
    with contextlib.suppress(OSError, TimeoutError):
        await connection.close(timeout=1)


def require_pool(pool: object) -> None:
    """Refuse what is not an open asyncpg pool.

    Raises:
        InvalidArgument: with what to pass instead.
    """
    if not isinstance(pool, asyncpg.Pool):
        raise InvalidArgument(f"db_pool is a {type(pool).__name__}", fix="pass the pool of asyncpg.create_pool(…)")
    if pool.is_closing():
        raise InvalidArgument("db_pool is closed", fix="pass an open pool")


def require_loop(pool: Pool) -> None:
    """Refuse a pool whose connections live in another event loop; asyncpg keeps it in a private attribute.

    Raises:
        InvalidArgument: with what to pass instead.
    """
    if attrgetter("_loop")(pool) is not asyncio.get_running_loop():
        raise InvalidArgument(
            "db_pool belongs to another event loop", fix="make the pool, and the Scheduler, in the loop that uses them"
        )


def _reason(error: BaseException) -> str:
    return next((text for kind, text in _REASONS if isinstance(error, kind)), "the connection was lost")


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "connection refused"),
    (FileNotFoundError, "no server listens on that socket"),
    (ConnectionError, "the connection was reset"),
    (OSError, "the host name does not resolve, or nobody answers there"),
    (asyncpg.InvalidAuthorizationSpecificationError, "the server refuses this user or password"),
    (asyncpg.InvalidCatalogNameError, "the server has no such database"),
    (asyncpg.TooManyConnectionsError, "the server has no connection left"),
    (asyncpg.ReadOnlySQLTransactionError, "the server is a standby"),
    (asyncpg.CannotConnectNowError, "the server is starting up or shutting down"),
    (asyncpg.QueryCanceledError, "the statement took too long"),
)
