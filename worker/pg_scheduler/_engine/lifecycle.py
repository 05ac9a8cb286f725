"""Start and stop of all that runs in a worker.

Invariants: every asyncio task of the engine is owned here; one that dies stops the scheduler loudly. Stopping goes in
the order of the data: nothing new is taken, what runs ends or is handed back, what ended is written, the lease is
retired.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pg_scheduler._engine.completions import Completions
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.heartbeat import Heartbeat
from pg_scheduler._engine.slots import Slots, StopReason

CANCEL_SECONDS = 2.0
"""How long a coroutine may take to notice that it was cancelled at shutdown."""
DRAIN_SECONDS = 5.0
"""How long a shutdown tries to write outcomes to a database that is away; the rest is run again by others."""

logger = logging.getLogger("pg_scheduler.engine")

Service = Callable[[asyncio.Event], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What lifecycle runs: ``taking`` brings work in and stops first; ``wake`` ends all sleeps."""

    taking: dict[str, Service]
    completions: Completions
    heartbeat: Heartbeat
    slots: Slots
    wake: Callable[[], None]


class Lifecycle:
    """One run of a worker, from start to the end of shutdown."""

    def __init__(self, services: Services, config: EngineConfig) -> None:
        self._services = services
        self._config = config
        self._stop_taking = asyncio.Event()
        self._stop_flushing = asyncio.Event()
        self._taking: list[asyncio.Task[None]] = []
        self._flushing: list[asyncio.Task[None]] = []
        self._beating: list[asyncio.Task[None]] = []
        self._dead_part: str | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_stopping(self) -> bool:
        """Whether nothing new is taken any more, by a stop or because a part has died."""
        return self._stop_taking.is_set()

    @property
    def dead_part(self) -> str | None:
        """The service that died first; None while all of them live, or ended in order."""
        if self._dead_part is None and not self._stop_flushing.is_set() and not self._services.heartbeat.is_alive:
            return _task_name("heartbeat")
        return self._dead_part

    async def start(self) -> None:
        """Register the worker, then start every service."""
        await self._services.heartbeat.start()
        self._beating = [self._own("heartbeat", self._services.heartbeat.run, self._stop_flushing)]
        self._flushing = [self._own("completions", self._services.completions.run, self._stop_flushing)]
        self._taking = [self._own(name, run, self._stop_taking) for name, run in self._services.taking.items()]

    async def wait_ended(self, name: str) -> None:
        """Until a service, such as ``rescuer``, has ended, with the worker or by itself."""
        tasks = [task for task in (*self._taking, *self._beating) if task.get_name() == _task_name(name)]
        if tasks:
            await asyncio.wait(tasks)

    async def wait_failed(self) -> None:
        """Until a service dies; raises what killed it."""
        await asyncio.shield(self._failed)

    async def wait_stopped(self) -> None:
        """Until it has stopped in order; raises what killed a service."""
        await asyncio.wait([self._failed])
        if not self._failed.cancelled():
            self._failed.result()

    async def stop(self) -> None:
        """Stop in order; jobs that do not end in time are handed back."""
        await self._stop(self._taking, self._stop_taking)
        await self._finish_jobs()
        await self._stop(self._flushing, self._stop_flushing)
        unwritten = await self._services.completions.drain(DRAIN_SECONDS)
        if unwritten:
            logger.error("%d outcomes could not be written: those jobs will be run again", unwritten)
        await self._services.heartbeat.stop()
        await asyncio.gather(*self._beating, return_exceptions=True)
        self._failed.cancel()

    async def _finish_jobs(self) -> None:
        if await self._idle_within(self._config.shutdown_seconds):
            return
        count = self._services.slots.stop_all(StopReason.SHUTDOWN)
        logger.warning("%d jobs still ran after %g s: handing them back", count, self._config.shutdown_seconds)
        if not await self._idle_within(CANCEL_SECONDS):
            logger.error("%d jobs ignore their cancellation; their rows follow the lease", count)

    async def _idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._services.slots.wait_idle()
        except TimeoutError:
            return False
        return True

    def _own(self, name: str, run: Service, stopping: asyncio.Event) -> asyncio.Task[None]:
        async def owned() -> None:
            await run(stopping)

        task = asyncio.get_running_loop().create_task(owned(), name=_task_name(name))
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failed.done():
            logger.critical("%s died; this worker stops", task.get_name(), exc_info=error)
            self._dead_part = task.get_name()
            self._failed.set_exception(error)
            self._failed.exception()  # a caller that never waits for it is not warned twice
            self._stop_taking.set()
            self._services.wake()

    async def _stop(self, tasks: Sequence[asyncio.Task[None]], stopping: asyncio.Event) -> None:
        stopping.set()
        self._services.wake()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=2 * self._config.command_seconds + 1)
        for task in late:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def _task_name(service: str) -> str:
    return f"pg_scheduler {service}"
