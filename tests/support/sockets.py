"""The sockets of this process, whoever opened them."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DESCRIPTORS = Path("/dev/fd")


def connected_to(port: int) -> Iterator[socket.socket]:
    """This process's ends of TCP connections to a local port, each a copy to ask."""
    for entry in list(DESCRIPTORS.iterdir()):
        with suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as end:
            if end.family == socket.AF_INET and end.getpeername()[1] == port:
                yield end


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
