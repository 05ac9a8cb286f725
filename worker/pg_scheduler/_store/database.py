"""Connections, and what their failures mean to the rest of the package.

Invariant: no driver exception for the server's or the caller's state leaves this module, but an error of the tree in
``errors``; what SQLSTATE means which stands in ``_domain.sqlstates``. What is a mistake of ours passes as it is. No
message holds a value of a statement, nor the server's own text, which may quote one.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias, TypeVar

import asyncpg

from pg_scheduler._domain.sqlstates import Fault, fault_of
from pg_scheduler._store.dsn import checked_dsn, where
from pg_scheduler._store.keepalive import keep_alive, reset_and_keep_alive
from pg_scheduler._store.tls import Dsn, require_authority, untrusted
from pg_scheduler.errors import (
    DatabaseBusy,
    DatabaseNotReady,
    DatabaseUnreachable,
    InvalidArgument,
    PgSchedulerError,
    SchemaMismatch,
    StorageFull,
    TenantLimitExceeded,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Record: TypeAlias = asyncpg.Record
Answer = TypeVar("Answer")
Answered: TypeAlias = Callable[[Record | None], None]
_Connect: TypeAlias = "Callable[..., Coroutine[Any, Any, asyncpg.Connection[Record]]]"

CONNECT_TIMEOUT_SECONDS = 5.0
CLOSE_SECONDS = 0.5
"""How long somebody who ends waits for a server that may not answer."""
BUSY_PAUSES_SECONDS = (0.05, 0.2, 0.5)
"""At most this long before a statement is sent again that the server has undone; the pause itself is drawn."""

NOTIFY_QUEUE_FULL = "54000"
"""The SQLSTATE of a ``DatabaseBusy``: a session that listens and stays in a transaction has kept so many notifications
that a commit with one more was undone."""

_LIMIT_EXCEEDED = "53400"

_NO_FLOOR = 0
"""A pool that keeps a number of connections open logs a traceback for each try in an outage."""

_RESET_TEXT = "_reset_query"

_FIX = "check the address, the server and the password"


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

    @asynccontextmanager
    async def connection(self, *, leaves_nothing: bool = False) -> AsyncIterator[Connection]:
        """A connection of the pool, given back at the end; ``leaves_nothing`` in its session that a reset would undo.

        Raises:
            InvalidArgument: the pool has been closed, or belongs to another event loop.
        """
        require_pool(self._pool)
        require_loop(self._pool)
        proxy = await self._acquired()
        try:
            with translated(self._place, proxy):
                yield proxy
        except asyncio.CancelledError:
            # to be told of a server that does not answer would have the caller try again, and never end
            with contextlib.suppress(Exception):
                await self._pool.release(proxy, timeout=CLOSE_SECONDS)
            raise
        except BaseException:
            await self._give_back(proxy)
            raise
        with _unreset(self._pool, proxy) if leaves_nothing else contextlib.nullcontext():
            await self._give_back(proxy)

    async def _give_back(self, proxy: "PoolConnectionProxy[Record]") -> None:
        with translated(self._place):
            await self._pool.release(proxy, timeout=self._acquire_seconds)

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


@contextmanager
def translated(place: str, connection: "Connection | None" = None) -> Iterator[None]:
    """Turn the driver's errors into ours.

    What asyncpg calls an interface error is a lost connection only where the connection is closed; else it is a mistake
    of ours, such as a missing argument, and passes.
    """
    try:
        yield
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if connection is not None and not _is_gone(connection):
            raise
        raise DatabaseUnreachable("cannot reach PostgreSQL: the connection was lost", why=place, fix=_FIX) from error
    except (OSError, TimeoutError) as error:
        if doubt := untrusted(error, place):
            raise doubt from error
        raise DatabaseUnreachable(f"cannot reach PostgreSQL: {_reason(error)}", why=place, fix=_FIX) from error
    except asyncpg.PostgresError as error:
        _raise_ours(error, place)


def _is_gone(connection: "Connection") -> bool:
    """Also where the pool has taken back a lost connection, so that its proxy no longer answers even this."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def _raise_ours(error: asyncpg.PostgresError, place: str) -> NoReturn:
    fault = fault_of(error.sqlstate) if error.sqlstate else None
    match fault:
        case None:
            if limit := _beyond_limit(error):
                raise limit from error
            raise error
        case Fault.CALLER:
            raise (_notify_queue_full(error, place) or _refused(error)) from error
        case Fault.NOT_READY:
            raise _not_ready(error, place) from error
        case Fault.LOST | Fault.BUSY | Fault.IMPAIRED:
            raise _unreachable(error, fault, place) from error


def _unreachable(error: asyncpg.PostgresError, fault: Fault, place: str) -> DatabaseUnreachable:
    if isinstance(error, asyncpg.DiskFullError):
        what, fix = "the disk of PostgreSQL is full: nothing was written", "free space on the server, then repeat"
        return StorageFull(what, why=place, fix=fix, sqlstate=error.sqlstate)
    if fault is Fault.BUSY:
        what, fix = f"PostgreSQL is busy: {_reason(error)}; nothing was written", "repeat it a moment later"
        return DatabaseBusy(what, why=place, fix=fix, sqlstate=error.sqlstate)
    return DatabaseUnreachable(
        f"cannot reach PostgreSQL: {_reason(error)}", why=place, fix=_FIX, sqlstate=error.sqlstate
    )


def _not_ready(error: asyncpg.PostgresError, place: str) -> DatabaseNotReady:
    kind, what, fix = next(row[1:] for row in _NOT_READY if isinstance(error, row[0]))
    return kind(what, why=place, fix=fix, sqlstate=error.sqlstate)


def _beyond_limit(error: asyncpg.PostgresError) -> TenantLimitExceeded | None:
    """What the trigger of migration 0035 says, in its own words: they hold nothing of the statement."""
    table, limit, why, fix = attrgetter("table_name", "constraint_name", "detail", "hint")(error)
    if error.sqlstate != _LIMIT_EXCEEDED or table != "scheduler_tenant_limits":
        return None
    return TenantLimitExceeded(error.args[0], limit=limit, why=why, fix=fix)


def _notify_queue_full(error: asyncpg.PostgresError, place: str) -> DatabaseBusy | None:
    if not isinstance(error, asyncpg.ProgramLimitExceededError) or error.server_source_filename != "async.c":
        return None
    return DatabaseBusy(
        "PostgreSQL is busy: its queue of notifications is full; nothing was written",
        why=place,
        fix="end the session that listens and is idle in a transaction, or submit with notify_workers=False",
        sqlstate=error.sqlstate,
    )


def _refused(error: asyncpg.PostgresError) -> PgSchedulerError:
    names = attrgetter("table_name", "column_name", "constraint_name")(error)
    at = ".".join(name for name in names if name)
    return InvalidArgument(
        f"PostgreSQL refuses a value: {type(error).__name__.removesuffix('Error')}",
        why=f"SQLSTATE {error.sqlstate}" + (f" at {at}" if at else ""),
        fix="its log has the statement's error in full",
    )


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


async def open_pool(dsn: Dsn, *, size: int, eager: bool, command_timeout: float | None = None) -> Pool:
    """A pool of at most ``size`` connections; ``eager`` opens the first one now, else none until one is needed.

    A function is asked for the DSN at each connection: a password may change while the pool lives.

    Raises:
        InvalidDsn: the DSN cannot be used; the message never repeats it.
        DatabaseUnreachable: eager, and no connection within 5 s.
    """
    now = checked_dsn(dsn if isinstance(dsn, str) else dsn())
    with translated(where(now)):
        pool = await asyncpg.create_pool(
            now,
            min_size=_NO_FLOOR,
            max_size=size,
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=command_timeout,
            connect=_kept_alive(_asking(dsn)),
            reset=reset_and_keep_alive,
        )
        if eager:
            await _open_first(pool)
    return pool


def _asking(dsn: Dsn) -> _Connect:
    async def connect(_: str, *args: Any, **options: Any) -> "asyncpg.Connection[Record]":
        now = checked_dsn(dsn if isinstance(dsn, str) else dsn())
        require_authority(now)
        return await asyncpg.connect(now, *args, **options)

    return connect


async def open_pool_like(
    pool: Pool,
    *,
    size: int,
    command_timeout: float,
    connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
    dsn: str | None = None,
    init: "Callable[[Connection], Coroutine[Any, Any, None]] | None" = None,
) -> Pool:
    """A second pool to the same place as the caller's, or to ``dsn``; its first connection is open.

    ``init`` is called with each new connection.

    Raises:
        InvalidDsn: the DSN cannot be used; the message never repeats it.
        DatabaseUnreachable: no connection within ``connect_timeout`` seconds.
    """
    args, kwargs = connect_arguments(pool)
    connect = attrgetter("_connect")(pool)
    if dsn is not None:
        args, kwargs = (checked_dsn(dsn),), {name: kwargs[name] for name in _NOT_OF_THE_PLACE if name in kwargs}
        connect = _asking(dsn)
    options = {**kwargs, "timeout": connect_timeout, "command_timeout": command_timeout}
    with translated(where(dsn) if dsn else place_of(pool)):
        own = await asyncpg.create_pool(
            *args,
            min_size=_NO_FLOOR,
            max_size=size,
            init=init,
            reset=_nothing_to_reset,
            connect=_kept_alive(connect),
            **options,
        )
        await _open_first(own)
    return own


async def _open_first(pool: Pool) -> None:
    try:
        async with pool.acquire():
            pass
    except BaseException:
        pool.terminate()
        raise


async def _nothing_to_reset(_: object) -> None:
    """No statement of ours leaves anything in its session, so that giving a connection back costs no round trip."""


async def connect_like(
    pool: Pool, *, command_timeout: float | None, connect_timeout: float = CONNECT_TIMEOUT_SECONDS
) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection to the same place as the pool, in the running loop, owned by the caller."""
    args, kwargs = connect_arguments(pool)
    options = {**kwargs, "timeout": kwargs.get("timeout", connect_timeout), "command_timeout": command_timeout}
    with translated(place_of(pool)):
        return await _kept_alive(attrgetter("_connect")(pool))(*args, **options)


async def connect_to(dsn: str, *, command_timeout: float | None) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection, owned by the caller.

    Raises:
        InvalidDsn: the DSN cannot be used; the message never repeats it.
        DatabaseUnreachable: no connection within 5 s.
    """
    dsn = checked_dsn(dsn)
    with translated(where(dsn)):
        return await _kept_alive(_asking(dsn))(dsn, timeout=CONNECT_TIMEOUT_SECONDS, command_timeout=command_timeout)


class _KeptAlive:
    """The way in which every connection of ours is opened: as the caller's pool does it, and with keepalives.

    Through a pooler it caches no prepared statements, unless the caller has said how many.
    """

    def __init__(self, connect: _Connect) -> None:
        self._connect = connect
        self._defaults: dict[str, Any] = {}

    async def __call__(self, *args: Any, **options: Any) -> "asyncpg.Connection[Record]":
        options = self._defaults | options
        connection = await self._connect(*args, **options)
        try:
            direct = await keep_alive(connection)
            if direct or "statement_cache_size" in options:
                return connection
            await connection.close()
        except BaseException:
            connection.terminate()
            raise
        self._defaults["statement_cache_size"] = 0
        return await self(*args, **options)


def _kept_alive(connect: _Connect) -> _Connect:
    return connect if isinstance(connect, _KeptAlive) else _KeptAlive(connect)


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
    (ssl.SSLError, "TLS does not come about"),
    (ConnectionRefusedError, "connection refused"),
    (FileNotFoundError, "no server listens on that socket"),
    (ConnectionError, "the connection was reset"),
    (OSError, "the host name does not resolve, or nobody answers there"),
    (asyncpg.InvalidAuthorizationSpecificationError, "the server refuses this user or password"),
    (asyncpg.TooManyConnectionsError, "the server has no connection left"),
    (asyncpg.ReadOnlySQLTransactionError, "the server is a standby"),
    (asyncpg.CannotConnectNowError, "the server is starting up or shutting down"),
    (asyncpg.QueryCanceledError, "the statement took too long"),
    (asyncpg.LockNotAvailableError, "a lock was not to be had in time"),
    (asyncpg.DeadlockDetectedError, "a deadlock"),
    (asyncpg.SerializationError, "it could not be serialized with another transaction"),
    (asyncpg.IdleInTransactionSessionTimeoutError, "the transaction was idle for too long"),
    (asyncpg.OutOfMemoryError, "the server is out of memory"),
    (asyncpg.PostgresSystemError, "the server cannot read or write its files"),
)

_POOLER = (
    DatabaseNotReady,
    "a pooler in front of PostgreSQL does not keep prepared statements",
    "create the pool with statement_cache_size=0, or give PgBouncer (1.21 or newer) max_prepared_statements",
)
_NOT_READY: tuple[tuple[type[BaseException], type[DatabaseNotReady], str, str], ...] = (
    (asyncpg.InsufficientPrivilegeError, DatabaseNotReady, "this user lacks a right", "grant it what the docs list"),
    (asyncpg.InvalidCatalogNameError, DatabaseNotReady, "there is no such database", "create it, or name another"),
    (asyncpg.InvalidSQLStatementNameError, *_POOLER),
    (asyncpg.DuplicatePreparedStatementError, *_POOLER),
    (
        asyncpg.PostgresError,
        SchemaMismatch,
        "a table of the scheduler is missing or of another release",
        "run `pgscheduler migrate`",
    ),
)

_NOT_OF_THE_PLACE = ("statement_cache_size", "max_cached_statement_lifetime", "max_cacheable_statement_size")
"""What of the pool's arguments goes for another address too: how its pooler takes prepared statements."""
