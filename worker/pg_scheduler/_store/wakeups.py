"""Hints that something may be due: a bell inside the process, rung by LISTEN as well.

Invariant: a hint is never more than that. Every waiter also polls, so a lost notification costs one poll and nothing
else; its payload is neither read nor logged.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pg_scheduler._store.database import Pool, close_quietly, connect_like, place_of, translated
from pg_scheduler.errors import DatabaseUnreachable

if TYPE_CHECKING:
    import asyncpg

JOBS_CHANNEL = "scheduler_wakeup"
SCHEDULES_CHANNEL = "scheduler_schedules"
RECONNECT_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Bell:
    """Wakes everyone who has subscribed."""

    def __init__(self) -> None:
        self._subscribers: list[asyncio.Event] = []

    def subscribe(self) -> asyncio.Event:
        """An event that each ring sets; the subscriber clears it before it looks."""
        event = asyncio.Event()
        self._subscribers.append(event)
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Wake it no more."""
        self._subscribers.remove(event)

    def ring(self) -> None:
        """Wake them all."""
        for event in self._subscribers:
            event.set()


class Listener:
    """One connection that listens and rings; after an outage it comes back by itself and rings for what it missed."""

    def __init__(self, pool: Pool, bells: Mapping[str, Bell], *, command_timeout: float) -> None:
        self._pool = pool
        self._bells = bells
        self._command_timeout = command_timeout

    async def run(self, stopping: asyncio.Event) -> None:
        """Listen until ``stopping``."""
        stop = asyncio.ensure_future(stopping.wait())
        try:
            while not stopping.is_set():
                with contextlib.suppress(DatabaseUnreachable):
                    await self._listen(stop)
                if not stopping.is_set():
                    await asyncio.wait([stop], timeout=RECONNECT_SECONDS)
        finally:
            stop.cancel()

    async def _listen(self, stop: "asyncio.Future[Any]") -> None:
        connection = await connect_like(self._pool, command_timeout=self._command_timeout)
        with translated(place_of(self._pool)):
            await self._listen_on(connection, stop)

    async def _listen_on(self, connection: "asyncpg.Connection[Any]", stop: "asyncio.Future[Any]") -> None:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end(_: object) -> None:
            if not lost.done():
                lost.set_result(None)

        connection.add_termination_listener(end)
        try:
            for channel, bell in self._bells.items():
                await connection.add_listener(channel, self._heard)
                bell.ring()
            await asyncio.wait([stop, lost], return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                logger.warning("the LISTEN connection was lost; polling until it is back")
        finally:
            await close_quietly(connection)

    def _heard(self, _connection: object, _pid: int, channel: str, _payload: object) -> None:
        self._bells[channel].ring()
