"""A TCP proxy in front of a server's Unix socket, for the faults of a network.

Invariant: what it holds back it delivers once the network is whole again, as TCP would, unless the connection has been
cut meanwhile; nothing of it outlives its block.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CHUNK = 65536


@dataclass(frozen=True, slots=True, eq=False)
class Wire:
    """The two ends of one connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def cut(self) -> None:
        """Reset it."""
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Requests and replies pass, until one of the faults says otherwise."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._path = _socket_of(target)
        self._requests, self._replies = asyncio.Event(), asyncio.Event()
        self._wires: list[Wire] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.heal()

    @classmethod
    @asynccontextmanager
    async def to(cls, target: str) -> AsyncIterator[Self]:
        """A proxy to the server of the DSN ``target``."""
        proxy = cls(target)
        proxy._server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        try:
            yield proxy
        finally:
            proxy._server.close()
            proxy.cut()
            for pump in proxy._pumps:
                pump.cancel()
            await asyncio.gather(*proxy._pumps, return_exceptions=True)

    @property
    def dsn(self) -> str:
        """The target's database by this way."""
        port = self._server.sockets[0].getsockname()[1]
        return f"postgresql://{self._target.username}@127.0.0.1:{port}{self._target.path}"

    def heal(self) -> None:
        """Let everything pass."""
        self._requests.set()
        self._replies.set()

    def swallow_replies(self) -> None:
        """One-way loss: statements arrive and are carried out, no answer comes back."""
        self._replies.clear()

    def black_hole(self) -> None:
        """Nothing passes, every socket stays open, and new ones are accepted."""
        self._requests.clear()
        self._replies.clear()

    def lead_to(self, target: str) -> None:
        """From now on every new connection goes to the server of that DSN; those that are open are reset."""
        self._path = _socket_of(target)
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        for wire in self._wires:
            wire.cut()

    async def _may_send(self, _wire: Wire, _chunk: bytes) -> None:
        """Returns when the server may see the chunk; the last one, empty, is the end of the connection."""
        await self._requests.wait()

    async def _may_answer(self, _wire: Wire, _chunk: bytes) -> None:
        """Returns when the client may see the chunk."""
        await self._replies.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._path)
        except OSError:
            writer.transport.abort()
            return
        wire = Wire(writer, server_writer)
        self._wires.append(wire)
        self._pump(reader, wire.server, lambda chunk: self._may_send(wire, chunk))
        self._pump(server_reader, wire.client, lambda chunk: self._may_answer(wire, chunk))

    def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, may_pass: Callable[[bytes], Awaitable[None]]
    ) -> None:
        task = asyncio.get_running_loop().create_task(_carry(source, sink, may_pass))
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)


async def _carry(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, may_pass: Callable[[bytes], Awaitable[None]]
) -> None:
    try:
        with suppress(OSError):
            while chunk := await source.read(CHUNK):
                await may_pass(chunk)
                sink.write(chunk)
                await sink.drain()
            await may_pass(b"")
    finally:
        sink.close()


def _socket_of(dsn: str) -> str:
    options = parse_qs(urlsplit(dsn).query)
    return f"{options['host'][0]}/.s.PGSQL.{options['port'][0]}"
