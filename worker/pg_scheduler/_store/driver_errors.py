"""What the driver's errors mean to the rest of the package.

Invariant: what is of the server's or the caller's state becomes an error of the tree in ``errors``; what SQLSTATE means
which stands in ``_domain.sqlstates``. What is a mistake of ours passes as it is. No message holds a value of a
statement, nor the server's own text, which may quote one.
"""

import ssl
from operator import attrgetter
from typing import TYPE_CHECKING

import asyncpg

from pg_scheduler._domain.sqlstates import Fault, fault_of
from pg_scheduler._store.tls import untrusted
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
    from pg_scheduler._store.driver import Connection

NOTIFY_QUEUE_FULL = "54000"
"""The SQLSTATE of a ``DatabaseBusy``: a session that listens and stays in a transaction has kept so many notifications
that a commit with one more was undone."""

_LIMIT_EXCEEDED = "53400"

_FIX = "check the address, the server and the password"


class translated:  # noqa: N801  read as a word of its sentence, as those of contextlib are
    """Turns the driver's errors into ours, within a block. No generator: it stands around every statement."""

    __slots__ = ("_connection", "_place")

    def __init__(self, place: str, connection: "Connection | None" = None) -> None:
        self._place = place
        self._connection = connection

    def __enter__(self) -> None:
        """Nothing has happened yet."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise ours instead of the driver's."""
        if error is not None and (ours := translation(error, self._place, self._connection)) is not None:
            raise ours from error


def translation(error: BaseException, place: str, connection: "Connection | None" = None) -> PgSchedulerError | None:
    """What the rest of the package is to know instead of this error; None where it passes as it is.

    What asyncpg calls an interface error is a lost connection only where the connection is closed; else it is a mistake
    of ours, such as a missing argument, and passes.
    """
    match error:
        case asyncpg.InterfaceError() | asyncpg.InternalClientError():
            if connection is not None and not _is_gone(connection):
                return None
            return DatabaseUnreachable("cannot reach PostgreSQL: the connection was lost", why=place, fix=_FIX)
        case OSError():  # a TimeoutError too
            message = f"cannot reach PostgreSQL: {_reason(error)}"
            return untrusted(error, place) or DatabaseUnreachable(message, why=place, fix=_FIX)
        case asyncpg.PostgresError():
            return _translation(error, place)
        case _:
            return None


def _is_gone(connection: "Connection") -> bool:
    """Also where the pool has taken back a lost connection, so that its proxy no longer answers even this."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def _translation(error: asyncpg.PostgresError, place: str) -> PgSchedulerError | None:
    fault = fault_of(error.sqlstate) if error.sqlstate else None
    match fault:
        case None:
            return _beyond_limit(error)
        case Fault.CALLER:
            return _notify_queue_full(error, place) or _refused(error)
        case Fault.NOT_READY:
            return _not_ready(error, place)
        case Fault.LOST | Fault.BUSY | Fault.IMPAIRED:
            return _unreachable(error, fault, place)


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
    (asyncpg.ReadOnlySQLTransactionError, "the server takes no writes: a standby, or one that is set to read only"),
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
