"""Waiting for a database or tables that are not there yet, so that a pod which starts before them does not crash and
start again.

Invariant: only ``DatabaseUnreachable`` and ``MigrationNeeded`` are waited out, each where it says so; whatever else is
wrong ends the wait at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, TypeVar

from pg_scheduler.errors import DatabaseUnreachable, MigrationNeeded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
logger = logging.getLogger(__name__)

DELAYS_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""After the first, second, third and every later try."""
TABLES_SECONDS = 2.0
"""Between two looks whether the tables are there."""


async def first_contact(connect: Callable[[], Awaitable[T]], *, wait_seconds: float) -> T:
    """What ``connect`` returns at its first success; one log line for each try that fails.

    Raises:
        DatabaseUnreachable: not within ``wait_seconds``, counted up to the start of the last try.
    """
    started_at = time.monotonic()
    tries = 0
    while True:
        tries += 1
        try:
            return await connect()
        except DatabaseUnreachable as error:
            passed = time.monotonic() - started_at
            if passed >= wait_seconds:
                error.add_note(f"tried: {tries} time{'s' * (tries > 1)} in {passed:.0f} s")
                raise
            delay = min(DELAYS_SECONDS[min(tries, len(DELAYS_SECONDS)) - 1], wait_seconds - passed)
            logger.warning("try %d: %s; next try in %.1f s", tries, error.what, delay)
            await asyncio.sleep(delay)


async def once_migrated(start: Callable[[], Awaitable[T]]) -> T:
    """What ``start`` returns once somebody has made the tables what it needs, however long that takes; told once."""
    told = ""
    while True:
        try:
            return await start()
        except MigrationNeeded as error:
            if error.what != told:
                logger.warning("waiting for the tables: %s %s", error.code, error)
            told = error.what
            await asyncio.sleep(TABLES_SECONDS)
