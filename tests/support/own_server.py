"""A PostgreSQL server of one test's own, for what a shared one must not suffer.

Invariant: it ends with the block that started it, and keeps its address and data over a restart within.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pg_scheduler.embedded import EmbeddedPostgres
from support.databases import bin_dir_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LOOPBACK = "host all all 127.0.0.1/32 trust"


@contextmanager
def own_server(data_dir: Path, *, release: int, hba: Sequence[str] = (), **settings: str) -> Iterator[EmbeddedPostgres]:
    """A server whose data lie in ``data_dir``; what it has committed survives its own crash, if not the machine's."""
    settings = {"synchronous_commit": "on", **settings}
    server = EmbeddedPostgres(data_dir, bin_dir=bin_dir_of(release), hba=hba, settings=settings, durable=False)
    with server:
        yield server


def crash(server: EmbeddedPostgres) -> None:
    """As ``pg_ctl stop -m immediate``: every session is cut, and the next start recovers from the log."""
    process = server._server
    assert process is not None
    process.send_signal(signal.SIGQUIT)
    process.wait()
    server.stop()
