"""The loop around a service's pass.

Invariant: whatever a database may come back from never ends a service, and it is logged once when it begins and once
when it ends; any other exception ends it, and the lifecycle then stops the scheduler loudly.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from pg_scheduler._domain.sqlstates import Fault, fault_of
from pg_scheduler.errors import DatabaseUnreachable

OUTAGE_PAUSES = (0.2, 0.5, 1.0)
"""Seconds between tries while the database is away; the last one for as long as it lasts."""
BUSY_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""The same while it undoes what is asked: a lock, a time limit, no connection left."""
IMPAIRED_SECONDS = 5.0
"""The same while its disk is full, its memory used up, or the password wrong: a person has to act."""
BUSY_TOLD_AFTER = 5
"""So many tries in a row are usual under contention and not worth a line."""

logger = logging.getLogger("pg_scheduler.engine")


async def keep_running(
    name: str, one_pass: Callable[[], Awaitable[float]], *, wake: asyncio.Event, stopping: asyncio.Event
) -> None:
    """Repeat ``one_pass``, which answers how many seconds it may sleep, until ``stopping``; ``wake`` cuts a sleep
    short. A pass that answers 0 has waited for the database: the next one begins before anything else gets a turn.

    Whoever sets ``stopping`` sets ``wake`` too. The wake is cleared before the pass looks, so that no hint is lost
    between the look and the sleep.
    """
    trouble = Trouble(name)
    while not stopping.is_set():
        wake.clear()
        try:
            pause = await one_pass()
        except DatabaseUnreachable as error:
            await sleep(trouble.seconds_after(error), stopping)
            continue
        trouble.end()
        if pause > 0 and not stopping.is_set():
            await sleep(pause, wake)


class Trouble:
    """What a service has met in a row, and what has been said of it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._failures = 0
        self._told: set[Fault | None] = set()

    def seconds_after(self, error: DatabaseUnreachable) -> float:
        """How long to wait after one more failure, with jitter; tells of each kind the first time."""
        self._failures += 1
        fault = fault_of(error.sqlstate)
        match fault:
            case Fault.LOST:
                self._tell(logging.WARNING, fault, error)
                return self._drawn(OUTAGE_PAUSES)
            case Fault.IMPAIRED:
                self._tell(logging.ERROR, fault, error)
                return self._drawn((IMPAIRED_SECONDS,))
            case _:
                if self._failures >= BUSY_TOLD_AFTER:
                    self._tell(logging.WARNING, fault, error)
                return self._drawn(BUSY_PAUSES)

    def end(self) -> None:
        """A pass has succeeded."""
        if self._told:
            logger.info("%s: the database is back", self._name)
        self._failures = 0
        self._told.clear()

    def _tell(self, level: int, fault: Fault | None, error: DatabaseUnreachable) -> None:
        if fault not in self._told:
            logger.log(level, "%s: %s", self._name, error)
            self._told.add(fault)

    def _drawn(self, pauses: tuple[float, ...]) -> float:
        return pauses[min(self._failures, len(pauses)) - 1] * random.uniform(0.5, 1.0)  # noqa: S311  no secret


async def sleep(seconds: float, wake: asyncio.Event) -> None:
    """Until ``wake`` is set, at most ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return
