"""The worker's lease: a beat from a thread of its own, so that user code that blocks the loop does not cost the lease.

Invariants: one row for each incarnation; once a sweep has marked it dead, what it ran is stopped and the worker goes
on under a new id. A claim that the database no longer lists under us is somebody else's: its coroutine is told to
stop.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.lease import Lease, boot_seconds
from pg_scheduler._engine.service import sleep
from pg_scheduler._engine.slots import Slots, StopReason
from pg_scheduler._store.database import Pool, close_quietly, connect_like, place_of
from pg_scheduler._store.workers import LeaseStore, WorkerCard
from pg_scheduler.errors import DatabaseUnreachable

if TYPE_CHECKING:
    import asyncpg

RECONNECT_SECONDS = 1.0
HELD_CHECK_SECONDS = 1.0
"""How soon the coroutine of a cancelled job is told (design page 2 §2.6: within a second)."""

logger = logging.getLogger("pg_scheduler.engine")


class Heartbeat:
    """The thread, its connection, and what it tells the main loop."""

    def __init__(
        self,
        pool: Pool,
        card: WorkerCard,
        tasks: Callable[[], Sequence[str]],
        *,
        lease: Lease,
        slots: Slots,
        known_tokens: Callable[[], frozenset[int]],
        ghosts: Ghosts,
        config: EngineConfig,
        new_worker_id: Callable[[], str],
    ) -> None:
        self._pool = pool
        self._card = card
        self._tasks = tasks
        self._lease = lease
        self._slots = slots
        self._known_tokens = known_tokens
        self._ghosts = ghosts
        self._config = config
        self._new_worker_id = new_worker_id
        self._registered: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._main: asyncio.AbstractEventLoop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event

    async def start(self) -> None:
        """Register the worker and begin to beat.

        Raises:
            DatabaseUnreachable: the first connection or registration failed.
        """
        self._main = asyncio.get_running_loop()
        threading.Thread(target=self._thread, name="pg_scheduler heartbeat", daemon=True).start()
        await asyncio.wrap_future(self._registered)

    async def run(self, _stopping: asyncio.Event) -> None:
        """Until the thread has ended; raises what ended it."""
        await asyncio.shield(asyncio.wrap_future(self._ended))

    async def stop(self) -> None:
        """Retire the worker's row and end the thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the thread's loop is closed already
                self._loop.call_soon_threadsafe(self._stopping.set)
        with contextlib.suppress(Exception):  # run() has reported it
            await asyncio.wrap_future(self._ended)

    def _thread(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001  whatever ends the thread must reach the main loop
            if not self._registered.done():
                self._registered.set_exception(error)
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _live(self) -> None:
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        connection = await self._connect()
        try:
            await self._incarnate(LeaseStore(connection, place=place_of(self._pool)))
            self._registered.set_result(None)
            connection = await self._beat_until_stopped(connection)
            with contextlib.suppress(DatabaseUnreachable):
                await LeaseStore(connection, place=place_of(self._pool)).retire(self._lease.worker_id)
        finally:
            await close_quietly(connection)

    async def _beat_until_stopped(
        self, connection: "asyncpg.Connection[asyncpg.Record]"
    ) -> "asyncpg.Connection[asyncpg.Record]":
        while not self._stopping.is_set():
            try:
                await self._beat_while_connected(LeaseStore(connection, place=place_of(self._pool)))
            except DatabaseUnreachable as error:
                self._lease.miss()
                logger.warning("heartbeat: %s", error)
                connection = await self._reconnected(connection)
        return connection

    async def _reconnected(self, lost: "asyncpg.Connection[asyncpg.Record]") -> "asyncpg.Connection[asyncpg.Record]":
        """Try at most a second apart for as long as it takes: every beat counts against the lease."""
        await close_quietly(lost)
        while not self._stopping.is_set():
            with contextlib.suppress(DatabaseUnreachable):
                return await self._connect()
            await sleep(RECONNECT_SECONDS, self._stopping)
        return lost

    async def _beat_while_connected(self, store: LeaseStore) -> None:
        while not self._stopping.is_set():
            await self.beat(store)
            next_beat = boot_seconds() + self._config.beat_seconds
            while (left := next_beat - boot_seconds()) > 0 and not self._stopping.is_set():
                await sleep(min(left, HELD_CHECK_SECONDS), self._stopping)
                if self._slots.tokens() and not self._stopping.is_set():
                    await self._check_held(store)

    async def beat(self, store: LeaseStore) -> None:
        """Renew the lease; take a new incarnation if it had been given up for dead."""
        sent_at, held = boot_seconds(), self._slots.tokens()
        listed = await store.beat(self._lease.worker_id, self._config.lease_seconds, self._tasks())
        if listed is None:
            logger.error("worker %s was marked dead while it lived; it goes on under a new id", self._lease.worker_id)
            await self._incarnate(store)  # which holds nothing: the next check stops all that runs
            return
        self._lease.acknowledge(sent_at)
        self._stop_lost(held - listed)
        await self._release_ghosts(store, sent_at, listed - self._known_tokens())

    async def _check_held(self, store: LeaseStore) -> None:
        held = self._slots.tokens()
        self._stop_lost(held - await store.held_tokens(self._lease.worker_id))

    async def _release_ghosts(self, store: LeaseStore, sent_at: float, unknown: set[int]) -> None:
        ghosts = self._ghosts.observe(sent_at, unknown)
        if ghosts:
            released = await store.release_ghosts(self._lease.worker_id, ghosts)
            logger.warning("%d claims whose reply was lost are handed back", released)

    def _stop_lost(self, lost: frozenset[int]) -> None:
        # What ran before the question was sent and is not in the answer has been taken from us, or has just ended
        # here: then the main loop no longer finds it.
        if lost:
            self._main.call_soon_threadsafe(self._slots.stop, lost, StopReason.LOST)

    async def _incarnate(self, store: LeaseStore) -> None:
        sent_at = boot_seconds()
        card = replace(self._card, worker_id=self._new_worker_id())
        await store.register(card, self._tasks(), self._config.lease_seconds)
        self._lease.begin(card.worker_id, sent_at)

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        return await connect_like(self._pool, command_timeout=self._config.command_seconds)
