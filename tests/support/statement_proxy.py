"""A TCP proxy in front of a server's Unix socket that cuts a connection at a chosen statement.

Invariant: it strikes once, at the first connection that sends the statement after ``arm``; everything else passes.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Moment = Literal["before", "after", "unanswered"]

CHUNK = 65536
PARSE, BIND = ord("P"), ord("B")


class StatementProxy:
    """Cuts ``before`` the server sees the statement, or ``after`` it has carried it out and before the client knows.

    ``unanswered`` is like after, but leaves the connection open and silent.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        options = parse_qs(self._target.query)
        self._path = f"{options['host'][0]}/.s.PGSQL.{options['port'][0]}"
        self._pairs: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self._armed: tuple[bytes, Moment] | None = None
        self.struck = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def to(cls, target: str) -> AsyncIterator[StatementProxy]:
        """A proxy to the server of the DSN ``target``."""
        proxy = cls(target)
        proxy._server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        try:
            yield proxy
        finally:
            proxy._server.close()
            for pair in proxy._pairs:
                pair.cancel()
            await asyncio.gather(*proxy._pairs, return_exceptions=True)

    @property
    def dsn(self) -> str:
        """The target's database by this way."""
        port = self._server.sockets[0].getsockname()[1]
        return f"postgresql://{self._target.username}@127.0.0.1:{port}{self._target.path}"

    def arm(self, statement: str, moment: Moment) -> None:
        """Strike at the next connection that sends this statement; the text has to be all or the unique part of it."""
        self._armed = (statement.encode(), moment)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._path)
        replies = asyncio.create_task(_carry(upstream_reader, writer))
        requests = asyncio.create_task(self._requests(reader, writer, upstream_reader, upstream_writer, replies))
        for task in (replies, requests):
            self._pairs.add(task)
            task.add_done_callback(self._pairs.discard)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream_writer: asyncio.StreamWriter,
        replies: asyncio.Task[None],
    ) -> None:
        with suppress(OSError):
            parsed: Moment | None = None  # the statement was prepared here; its execution is the chunk that binds it
            while chunk := await reader.read(CHUNK):
                moment = self._disarmed_by(chunk)
                if moment is not None and moment != "before" and PARSE in _kinds(chunk):
                    parsed, moment = moment, None
                elif parsed is not None and BIND in _kinds(chunk):
                    parsed, moment = None, parsed
                if moment is None:
                    upstream_writer.write(chunk)
                    await upstream_writer.drain()
                    continue
                if moment != "before":
                    await _carry_out(chunk, upstream_reader, upstream_writer, replies)
                self.struck.set()
                if moment != "unanswered":
                    break
        writer.transport.abort()
        upstream_writer.transport.abort()

    def _disarmed_by(self, chunk: bytes) -> Moment | None:
        if self._armed is None or self._armed[0] not in chunk:
            return None
        moment, self._armed = self._armed[1], None
        return moment


def _kinds(chunk: bytes) -> Iterator[int]:
    """The types of the messages in a chunk; a client writes whole ones."""
    while chunk:
        yield chunk[0]
        chunk = chunk[1 + int.from_bytes(chunk[1:5]) :]


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(CHUNK):
            sink.write(chunk)
            await sink.drain()
    sink.close()


async def _carry_out(
    chunk: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replies: asyncio.Task[None]
) -> None:
    """Have the server carry it out and keep its answer."""
    replies.cancel()
    await asyncio.gather(replies, return_exceptions=True)
    writer.write(chunk)
    answer = b""
    while answer[-6:-1] != b"Z\x00\x00\x00\x05":  # ready for the next query
        answer += await reader.read(CHUNK)
