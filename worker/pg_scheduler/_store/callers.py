"""What callers bring along: a connection with a transaction of their own.

Invariant: what is written there is committed or rolled back with the caller's own writes, and by the caller.
"""

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from pg_scheduler.errors import InvalidArgument

_FIX = "open one: async with connection.transaction(): …"


def require_transaction(connection: object) -> None:
    """Refuse a connection that is not in a transaction.

    Raises:
        InvalidArgument: with what to pass instead.
    """
    if not isinstance(connection, asyncpg.Connection | PoolConnectionProxy):
        raise InvalidArgument(
            f"connection is a {type(connection).__name__}",
            fix="pass an asyncpg connection; for SQLAlchemy see pg_scheduler.contrib.sqlalchemy",
        )
    try:
        ready = not connection.is_closed() and connection.is_in_transaction()
    except asyncpg.InterfaceError as error:
        raise InvalidArgument("connection was given back to its pool", fix="enqueue before that") from error
    if not ready:
        raise InvalidArgument("connection is not in a transaction", why="the job would be committed alone", fix=_FIX)
