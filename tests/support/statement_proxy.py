"""A proxy that strikes at a chosen statement.

Invariant: it strikes once, at the first connection that sends the statement after ``arm``; everything else passes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from support.proxy import Proxy, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Moment = Literal["before", "after"]

CARRIES_OUT = {ord("B"), ord("Q")}
"""Bind or Query: a statement that is new to its connection is parsed first, and answered for that."""
READY = b"Z\x00\x00\x00\x05"
"""How the last message of an answer begins; one byte follows."""


def fall_silent(_wire: Wire) -> None:
    """The connection stays open, and no answer comes."""


class StatementProxy(Proxy):
    """Strikes ``before`` the server is to carry the statement out, or ``after`` it has and before the client knows.

    Attributes:
        struck: set once it has.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self._statement: bytes | None = None
        self._moment: Moment = "before"
        self._fault: Callable[[Wire], object] = Wire.cut
        self._chosen: Wire | None = None
        self._is_carried_out = False
        self.struck = asyncio.Event()

    def arm(self, statement: str, moment: Moment, fault: Callable[[Wire], object] = Wire.cut) -> None:
        """Choose the next connection that sends this statement; the text has to be all or the unique part of it."""
        self._statement, self._moment, self._fault = statement.encode(), moment, fault

    async def _may_send(self, wire: Wire, chunk: bytes) -> None:
        if self._statement is not None and self._statement in chunk:
            self._chosen, self._statement = wire, None
        if wire is self._chosen and not CARRIES_OUT.isdisjoint(_kinds(chunk)):
            if self._moment == "before":
                await self._strike(wire)
            self._is_carried_out = True

    async def _may_answer(self, wire: Wire, chunk: bytes) -> None:
        if wire is self._chosen and self._is_carried_out and chunk[-len(READY) - 1 : -1] == READY:
            await self._strike(wire)

    async def _strike(self, wire: Wire) -> None:
        """What is held back now never passes."""
        self.struck.set()
        self._fault(wire)
        await asyncio.Event().wait()


def _kinds(chunk: bytes) -> Iterator[int]:
    """The types of the messages in a chunk; a client writes whole ones."""
    while chunk:
        yield chunk[0]
        chunk = chunk[1 + int.from_bytes(chunk[1:5]) :]
