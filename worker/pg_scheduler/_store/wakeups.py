"""How a worker that found nothing to do learns that there is something: woken by NOTIFY, or by looking again.

Invariant: a hint is never more than that. Every waiter also polls, so a lost notification costs one poll and nothing
else; its payload is neither read nor logged.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pg_scheduler._domain.pace import idle_interval, until_due
from pg_scheduler._store.connections import close_quietly
from pg_scheduler._store.database import Database
from pg_scheduler._store.driver_errors import translated
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import DatabaseUnreachable
from pg_scheduler.polling import PollingConfig

if TYPE_CHECKING:
    import asyncpg

JOBS_CHANNEL = "scheduler_wakeup"
OVERDUE_CHANNEL = "scheduler_overdue"
"""Rung before the other where what is due may be due long ago."""
SCHEDULES_CHANNEL = "scheduler_schedules"
RECONNECT_SECONDS = 1.0
SELF_TEST_SECONDS = 2.0
CROWD_SECONDS = 0.05
CALM_SECONDS = 1.0
"""How long after a crowd a lone notification is still taken for one of it."""
CROWD = 25
"""So many notifications within ``CROWD_SECONDS`` are a crowd: 500 a second, more than a chain of single jobs makes."""

logger = logging.getLogger(__name__)

Connect = Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]


class Bell:
    """Wakes everyone who has subscribed."""

    def __init__(self) -> None:
        self._subscribers: list[asyncio.Event] = []

    def subscribe(self, event: asyncio.Event | None = None) -> asyncio.Event:
        """An event that each ring sets, a given or a new one; the subscriber clears it before it looks."""
        event = event or asyncio.Event()
        self._subscribers.append(event)
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Wake it no more."""
        self._subscribers.remove(event)

    def ring(self) -> None:
        """Wake them all."""
        for event in self._subscribers:
            event.set()


class Wakeups(Protocol):
    """What the claim loop asks how long it may sleep."""

    @property
    def hears(self) -> bool:
        """Whether notifications arrive at present."""

    def pause(self, due_in: float | None, empty_looks: int) -> float:
        """Seconds to sleep at most after ``empty_looks`` looks in a row that found nothing to claim.

        ``due_in`` are the seconds until the first job falls due: None without one, 0 or less when another worker is
        just taking it.
        """

    def pause_when_full(self) -> float:
        """Seconds to sleep at most while every slot is taken; a released slot ends the sleep."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Ring the bells, until ``stopping``."""

    async def close(self) -> None:
        """Give back what is open still."""


class Polling:
    """Nobody can wake this worker: it looks at the pace of its ``PollingConfig``."""

    def __init__(self, config: PollingConfig) -> None:
        self._config = config

    @property
    def hears(self) -> bool:
        """As ``Wakeups``."""
        return False

    def pause(self, due_in: float | None, empty_looks: int) -> float:
        """As ``Wakeups``."""
        interval = self._jittered(idle_interval(self._config, empty_looks))
        return until_due(interval, due_in, shortest=self._config.min_interval)

    def pause_when_full(self) -> float:
        """As ``Wakeups``."""
        return self._jittered(self._config.semaphore_full_interval)

    async def run(self, stopping: asyncio.Event) -> None:
        """As ``Wakeups``: there is nothing to hear."""
        await stopping.wait()

    async def close(self) -> None:
        """As ``Wakeups``: nothing is open."""

    def _jittered(self, seconds: float) -> float:
        return seconds * random.uniform(0.8, 1.0) if self._config.jitter else seconds  # noqa: S311  no secret


class Listening:
    """NOTIFY wakes this worker; a slow poll stays on.

    After the loss of its connection it comes back by itself, rings for what it missed, and polls meanwhile.
    """

    def __init__(
        self,
        connection: "asyncpg.Connection[asyncpg.Record] | None",
        connect: Connect,
        bells: Mapping[str, Bell],
        *,
        place: str,
        poll_seconds: float,
        polling: PollingConfig,
    ) -> None:
        self._connection = connection
        self._connect = connect
        self._heard = {channel: Debounced(bell.ring) for channel, bell in bells.items()}
        self._bells = bells
        self._place = place
        self._poll_seconds = poll_seconds
        self._shortest = polling.min_interval
        self._deaf = Polling(polling)

    @property
    def hears(self) -> bool:
        """As ``Wakeups``."""
        return self._connection is not None

    def pause(self, due_in: float | None, empty_looks: int) -> float:
        """As ``Wakeups``."""
        if self._connection is None:
            return self._deaf.pause(due_in, empty_looks)
        return until_due(self._poll_seconds, due_in, shortest=self._shortest)

    def pause_when_full(self) -> float:
        """As ``Wakeups``."""
        return self._poll_seconds

    async def run(self, stopping: asyncio.Event) -> None:
        """As ``Wakeups``."""
        stop = asyncio.ensure_future(stopping.wait())
        try:
            while not stopping.is_set():
                with contextlib.suppress(DatabaseUnreachable):
                    await self._listen(stop)
                if not stopping.is_set():
                    await asyncio.wait([stop], timeout=RECONNECT_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311
        finally:
            stop.cancel()
            for heard in self._heard.values():
                heard.cancel()

    async def close(self) -> None:
        """As ``Wakeups``."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await close_quietly(connection)

    async def _listen(self, stop: "asyncio.Future[Any]") -> None:
        if self._connection is None:
            self._connection = await self._connect()
        try:
            with translated(self._place):
                await self._listen_on(self._connection, stop)
        finally:
            await self.close()

    async def _listen_on(self, connection: "asyncpg.Connection[Any]", stop: "asyncio.Future[Any]") -> None:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end(_: object) -> None:
            if not lost.done():
                lost.set_result(None)

        connection.add_termination_listener(end)
        for channel, bell in self._bells.items():
            await connection.add_listener(channel, self._notified)
            bell.ring()
        await asyncio.wait([stop, lost], return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            logger.warning("the LISTEN connection was lost; polling until it is back")

    def _notified(self, _connection: object, _pid: int, channel: str, _payload: object) -> None:
        self._heard[channel].hear()


class Debounced:
    """Passes a lone notification on at once, and of a crowd at most twenty a second.

    The pause is drawn, so that the workers that hear the same crowd do not claim in step.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._began_at = 0.0
        self._count = 0
        self._crowded_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def hear(self) -> None:
        """One more notification."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - self._began_at >= CROWD_SECONDS:
            self._began_at, self._count = now, 0
        self._count += 1
        if self._count >= CROWD:
            self._crowded_until = now + CALM_SECONDS
        if now >= self._crowded_until:
            self._ring()
        elif self._timer is None:
            self._timer = loop.call_later(CROWD_SECONDS * random.uniform(1.0, 1.2), self._ring_late)  # noqa: S311

    def cancel(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring_late(self) -> None:
        self._timer = None
        self._ring()


async def choose_wakeups(
    connect: Connect,
    database: Database,
    bells: Mapping[str, Bell],
    *,
    place: str,
    poll_seconds: float,
    polling: PollingConfig,
) -> Wakeups:
    """Listening where a notification that ``database`` sends really arrives at ``connect``'s connection, else polling.

    Behind a pooler in transaction mode LISTEN succeeds and nothing ever arrives.

    Raises:
        DatabaseUnreachable: no connection, or it was lost.
    """
    connection = await connect()
    try:
        with translated(place, connection):
            hears = await _hears(connection, database)
    except BaseException:
        await close_quietly(connection)
        raise
    if hears:
        return Listening(connection, connect, bells, place=place, poll_seconds=poll_seconds, polling=polling)
    await close_quietly(connection)
    logger.warning(
        "no NOTIFY arrives here, as behind a pooler in transaction mode: polling every %g to %g s instead;"
        " to be woken, give direct_dsn=, an address that leads past the pooler (%s)",
        polling.min_interval,
        polling.max_interval,
        place,
    )
    return Polling(polling)


async def _hears(connection: "asyncpg.Connection[Any]", database: Database) -> bool:
    # The notification goes out on another connection: a pooler hands on what comes with the answer to a statement.
    heard = asyncio.Event()
    channel = f"scheduler_test_{secrets.token_hex(8)}"

    def hear(*_: object) -> None:
        heard.set()

    await connection.add_listener(channel, hear)
    await database.fetchval(QUERIES["notify"], channel)
    try:
        async with asyncio.timeout(SELF_TEST_SECONDS):
            await heard.wait()
    except TimeoutError:
        pass
    await connection.remove_listener(channel, hear)
    return heard.is_set()
