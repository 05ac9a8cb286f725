"""The loop around a service's pass.

Invariant: an outage never ends a service, and it is logged once when it begins and once when it ends; any other
exception ends it, and the lifecycle then stops the scheduler loudly.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pg_scheduler.errors import DatabaseUnreachable

OUTAGE_PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between tries while the database is away; the last one for as long as it lasts."""

logger = logging.getLogger("pg_scheduler.engine")


async def keep_running(
    name: str, one_pass: Callable[[], Awaitable[float]], *, wake: asyncio.Event, stopping: asyncio.Event
) -> None:
    """Repeat ``one_pass``, which answers how many seconds it may sleep, until ``stopping``; ``wake`` cuts a sleep
    short. A pass that answers 0 has waited for the database: the next one begins before anything else gets a turn.

    Whoever sets ``stopping`` sets ``wake`` too. The wake is cleared before the pass looks, so that no hint is lost
    between the look and the sleep.
    """
    failures = 0
    while not stopping.is_set():
        wake.clear()
        try:
            pause = await one_pass()
        except DatabaseUnreachable as error:
            if not failures:
                logger.warning("%s: %s", name, error)
            pause = OUTAGE_PAUSES[min(failures, len(OUTAGE_PAUSES) - 1)]
            failures += 1
            await sleep(pause, stopping)
            continue
        if failures:
            logger.info("%s: the database is back", name)
            failures = 0
        if pause > 0 and not stopping.is_set():
            await sleep(pause, wake)


async def sleep(seconds: float, wake: asyncio.Event) -> None:
    """Until ``wake`` is set, at most ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return
