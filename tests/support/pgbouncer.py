"""PgBouncer in transaction mode, in front of the server of a DSN.

Invariant: it ends with the block that started it. Few server connections, so that two transactions of one client
really land in different sessions.
"""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import asyncpg

from pg_scheduler.embedded import _identity
from support.databases import ADVISORY_LOCKS, bin_dir_of
from support.needs import PROGRAMS
from support.waiting import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator
    from pathlib import Path

INI = """
[databases]
* = host={socket_folder} port={server_port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 200
server_lifetime = 5
"""
STOP_SECONDS = 10


@asynccontextmanager
async def pgbouncer(dsn: str, folder: Path, *, release: int) -> AsyncIterator[str]:
    """The DSN of the same database through a pooler that runs within the block."""
    program = PROGRAMS["pgbouncer"].find()
    assert program is not None
    options = parse_qs(urlsplit(dsn).query)
    port = _free_port()
    ini = folder / "pgbouncer.ini"
    ini.write_text(INI.format(socket_folder=options["host"][0], server_port=options["port"][0], port=port))
    identity = _identity(bin_dir_of(release))  # it refuses root, and has to enter the folder of the server's socket
    process = identity.popen([program, ini], output=folder / "pgbouncer.log")
    pooled = f"postgresql://postgres@127.0.0.1:{port}{urlsplit(dsn).path}"
    try:
        await until(lambda: _answers(process, pooled), what="PgBouncer answers")
        yield pooled
        direct = await asyncpg.connect(dsn)
        held = await direct.fetchval(
            ADVISORY_LOCKS, urlsplit(dsn).path.removeprefix("/")
        )  # while the sessions that the pooler lends are still there
        await direct.close()
        assert held == 0, "an advisory lock stayed in a session of the pooler"
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


async def _answers(process: subprocess.Popen[bytes], dsn: str) -> bool:
    assert process.poll() is None, "PgBouncer has ended"
    try:
        connection = await asyncpg.connect(dsn, statement_cache_size=0)
    except OSError as error:
        raise AssertionError(str(error)) from error
    await connection.close()
    return True


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
