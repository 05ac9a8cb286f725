"""Connections and pools: how they are opened, to where the caller's pool goes or to an address.

Invariants: every connection of ours has keepalives, and none caches statements behind a pooler that would lose them. A
connection belongs to the event loop that opened it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from pg_scheduler._store.driver import Connection, Pool, Record
from pg_scheduler._store.driver_errors import translated
from pg_scheduler._store.dsn import checked_dsn, where
from pg_scheduler._store.keepalive import keep_alive, reset_and_keep_alive
from pg_scheduler._store.tls import Dsn, require_authority
from pg_scheduler.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Coroutine

_Connect: TypeAlias = "Callable[..., Coroutine[Any, Any, asyncpg.Connection[Record]]]"

CONNECT_TIMEOUT_SECONDS = 5.0

_NO_FLOOR = 0
"""A pool that keeps a number of connections open logs a traceback for each try in an outage."""

_NOT_OF_THE_PLACE = ("statement_cache_size", "max_cached_statement_lifetime", "max_cacheable_statement_size")
"""What of the pool's arguments goes for another address too: how its pooler takes prepared statements."""


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
