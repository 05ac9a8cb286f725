"""A dead peer is noticed on both ends: a worker's end connects anew, the server's lets go of locks and sessions.

Invariant: every connection that this package opens has passed ``keep_alive``. A path that swallows packets in silence
shows after 25 s (10 + 3 times 5), or 10 s after the first byte that nobody acknowledges; by the defaults of most
systems it takes two hours and a quarter of one.
"""

import socket
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pg_scheduler._store.queries import QUERIES

if TYPE_CHECKING:
    import asyncpg

    from pg_scheduler._store.driver import Connection

IDLE_SECONDS = 10
INTERVAL_SECONDS = 5
PROBES = 3
UNACKNOWLEDGED_MILLISECONDS = 10_000

_INTERNET = (socket.AF_INET, socket.AF_INET6)
_OPTIONS = {
    "TCP_KEEPIDLE": IDLE_SECONDS,
    "TCP_KEEPALIVE": IDLE_SECONDS,  # what macOS calls it
    "TCP_KEEPINTVL": INTERVAL_SECONDS,
    "TCP_KEEPCNT": PROBES,
    "TCP_USER_TIMEOUT": UNACKNOWLEDGED_MILLISECONDS,
}


async def keep_alive(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    """Set the keepalives of this end, and of the server's where no pooler stands between; whether none does."""
    end = attrgetter("_transport")(connection).get_extra_info("socket")  # asyncpg has no public way to it
    if end is not None and end.family in _INTERNET:
        _set_options(end)
    return await connection.execute(of_own_session("keep_alive", connection)) == "SELECT 1"


async def reset_and_keep_alive(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What a pool does with a connection that comes back, which would end the server's keepalives too."""
    await connection.execute(f"{connection.get_reset_query()};\n{of_own_session('keep_alive', connection)}")


def of_own_session(query: str, connection: "Connection") -> str:
    """Settings that take hold only where no pooler stands between."""
    # As text, without a parameter: a prepared statement would stay behind in a session that a pooler only lends.
    return QUERIES[query].replace("$1", str(int(connection.get_server_pid())))


def _set_options(end: Any) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        if hasattr(socket, name):
            end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
