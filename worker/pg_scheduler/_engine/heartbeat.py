"""The worker's lease: a beat from a thread of its own, so that user code that blocks the loop does not cost the lease.

Invariants: one row for each incarnation; once a sweep has marked it dead, what it has finished is written (the fence
takes what nobody has requeued yet), what it runs is stopped, and the worker goes on under a new id, in this order. A
claim that the database no longer lists under us is somebody else's: its coroutine is told to stop. A connection that is
lost is replaced at once and by a beat: others suspect who has none.
"""

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.lease import Lease, boot_seconds
from pg_scheduler._engine.main_loop import MainLoopWatch
from pg_scheduler._engine.service import sleep
from pg_scheduler._engine.slots import Slots, StopReason
from pg_scheduler._store.connections import close_quietly, connect_like, place_of
from pg_scheduler._store.driver import Pool
from pg_scheduler._store.workers import LeaseStore, WorkerCard
from pg_scheduler.errors import DatabaseUnreachable, MainLoopStalled

if TYPE_CHECKING:
    import asyncpg

EAGER_SECONDS = 8.0
"""How long a lost connection is tried for at most a second apart: as long as a suspected worker has."""
EAGER_PAUSES = (0.0, 0.1, 0.25, 0.5, 1.0)
PATIENT_PAUSE = 2.0
FLUSH_LOOK_SECONDS = 0.02
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
        finished_tokens: Callable[[], frozenset[int]],
        flush: Callable[[], None],
        ghosts: Ghosts,
        config: EngineConfig,
        new_worker_id: Callable[[], str],
        on_stall: Callable[[MainLoopStalled], None],
    ) -> None:
        self._pool = pool
        self._card = card
        self._tasks = tasks
        self._lease = lease
        self._slots = slots
        self._known_tokens = known_tokens
        self._finished_tokens = finished_tokens
        self._flush = flush
        self._ghosts = ghosts
        self._config = config
        self._new_worker_id = new_worker_id
        self._on_stall = on_stall
        self._watch = MainLoopWatch(max_stall_seconds=config.max_stall_seconds)
        self._beater = threading.Thread(target=self._thread, name="pg_scheduler heartbeat", daemon=True)
        self._registered: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._main: asyncio.AbstractEventLoop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: asyncpg.Connection[asyncpg.Record]
        self._stopping: asyncio.Event
        self._nudged: asyncio.Event

    async def start(self) -> None:
        """Register the worker and begin to beat.

        Raises:
            DatabaseUnreachable: the first connection or registration failed.
        """
        self._main = asyncio.get_running_loop()
        self._watch.attach()
        self._beater.start()
        await asyncio.wrap_future(self._registered)

    async def run(self, _stopping: asyncio.Event) -> None:
        """Until the thread has ended; raises what ended it."""
        await asyncio.shield(asyncio.wrap_future(self._ended))

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._beater.is_alive()

    def beat_soon(self) -> None:
        """Beat without waiting for the next one's time."""
        self._in_thread(self._nudge)

    async def stop(self) -> None:
        """Retire the worker's row and end the thread."""
        self._in_thread(self._stop)
        with contextlib.suppress(Exception):  # run() has reported it
            await asyncio.wrap_future(self._ended)

    def _in_thread(self, callback: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the thread's loop is closed already
                self._loop.call_soon_threadsafe(callback)

    def _stop(self) -> None:
        self._stopping.set()
        self._nudge()

    def _nudge(self) -> None:
        self._nudged.set()

    def _thread(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001  whatever ends the thread must reach the main loop
            if not self._registered.done():
                self._registered.set_exception(error)
            self._ended.set_exception(error)
            if isinstance(error, MainLoopStalled):
                self._on_stall(error)
        else:
            self._ended.set_result(None)

    async def _live(self) -> None:
        self._stopping, self._nudged = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        store = await self._connect()
        try:
            await self._incarnate(store)
            if self._registered.set_running_or_notify_cancel():  # else the start was given up meanwhile
                self._registered.set_result(None)
                await _until_first_ends(self._beat_until_stopped(store), self._watch.run(self._stopping))
            with contextlib.suppress(DatabaseUnreachable):
                await self._store().retire(self._lease.worker_id)
        finally:
            await close_quietly(self._connection)

    async def _beat_until_stopped(self, store: LeaseStore) -> None:
        while not self._stopping.is_set():
            try:
                await self._beat_while_connected(store)
            except DatabaseUnreachable as error:
                self._lease.miss()
                logger.warning("heartbeat: %s", error)
                store = await self._reconnected(str(error))

    async def _reconnected(self, told: str) -> LeaseStore:
        """At once, at most a second apart while others may suspect us, then with patience: for as long as it takes.

        Tells when the reason becomes another one: a lost connection says less than what keeps us from the next.
        """
        await close_quietly(self._connection)
        for pause in _reconnect_pauses():
            await sleep(min(pause, self._config.beat_seconds), self._stopping)
            if self._stopping.is_set():
                break
            try:
                return await self._connect()
            except DatabaseUnreachable as error:
                if str(error) != told:
                    told = str(error)
                    logger.warning("heartbeat: %s", told)
        return self._store()

    async def _beat_while_connected(self, store: LeaseStore) -> None:
        while not self._stopping.is_set():
            self._nudged.clear()
            await self.beat(store)
            next_beat = boot_seconds() + self._config.beat_seconds
            while (left := next_beat - boot_seconds()) > 0 and not self._nudged.is_set():
                await sleep(min(left, HELD_CHECK_SECONDS), self._nudged)
                if self._slots.tokens() and not self._nudged.is_set():
                    await self._check_held(store)

    async def beat(self, store: LeaseStore) -> None:
        """Renew the lease; take a new incarnation if it had been given up for dead."""
        sent_at, held = boot_seconds(), self._slots.tokens()
        listed = await store.beat(self._lease.worker_id, self._config.lease_seconds, self._tasks())
        if listed is None:
            await self._live_again(store)
        else:
            self._lease.acknowledge(sent_at, store.server_started_at)
            self._stop_lost(held - listed)
            await self._release_ghosts(store, sent_at, listed - self._known_tokens())

    async def _live_again(self, store: LeaseStore) -> None:
        logger.error("worker %s was marked dead while it lived; it goes on under a new id", self._lease.worker_id)
        self._lease.lose()
        await self._write_what_is_finished()
        await self._told(self._slots.stop, self._slots.tokens(), StopReason.LOST)
        await self._incarnate(
            store
        )  # which holds nothing: a claim that is answered only now is stopped by the next check

    async def _write_what_is_finished(self) -> None:
        finished, deadline = self._finished_tokens(), boot_seconds() + self._config.command_seconds
        await self._told(self._flush)
        while finished & self._finished_tokens() and boot_seconds() < deadline:
            await sleep(FLUSH_LOOK_SECONDS, self._stopping)

    async def _told(self, callback: Callable[..., None], *arguments: object) -> None:
        """Have the main loop call this, and wait for it as long as for a statement: it may be blocked."""
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def call() -> None:
            callback(*arguments)
            with contextlib.suppress(RuntimeError):  # this thread has ended meanwhile
                loop.call_soon_threadsafe(done.set)

        self._main.call_soon_threadsafe(call)
        await sleep(self._config.command_seconds, done)

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
        self._lease.begin(card.worker_id, sent_at, store.server_started_at)

    async def _connect(self) -> LeaseStore:
        self._connection = await connect_like(self._pool, command_timeout=self._config.command_seconds)
        store = self._store()
        store.on_lost(self._nudge)  # the next beat finds out, and connects anew
        return store

    def _store(self) -> LeaseStore:
        return LeaseStore(self._connection, place=place_of(self._pool))


def _reconnect_pauses() -> Iterator[float]:
    """What to wait before each try."""
    yield from EAGER_PAUSES
    eager_until = boot_seconds() + EAGER_SECONDS
    while boot_seconds() < eager_until:
        yield EAGER_PAUSES[-1]
    while True:
        yield random.uniform(PATIENT_PAUSE / 2, PATIENT_PAUSE)  # noqa: S311  jitter, not a secret


async def _until_first_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Run them together; when one ends, cancel the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
