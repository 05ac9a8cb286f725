"""Steps that are done again and again, or until they succeed.

Invariant: a loop outlives whatever its step raises, and reports the first failure of a row of failures.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from pg_scheduler.errors import PgSchedulerError
from pg_scheduler_operator.errors import ObjectChanged
from pg_scheduler_operator.metrics import LOOP_AGE, LOOP_FAILURES
from pg_scheduler_operator.reconciler.queue import BACKOFF_MAX_SECONDS, backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pg_scheduler_operator.metrics import Metrics
    from pg_scheduler_operator.resources import Key

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Loop(StrEnum):
    """The loops of an operator, by the names under which logs and metrics tell of them."""

    CHANGES = "changes of rows"
    CROWD = "the crowd"
    DATABASE = "the database"
    FOLDER = "the folder"
    KINDS = "the kinds"
    LEASE = "the Lease"
    PRESENCE = "the presence"
    SWEEP = "the sweep"


async def repeat(
    what: Loop,
    step: Callable[[], Awaitable[object]],
    seconds: float,
    *,
    at_most_seconds: float = BACKOFF_MAX_SECONDS,
    metrics: Metrics,
) -> None:
    """Do a step for ever, every so often; after failures again within ``at_most_seconds``."""
    failures = 0
    while True:
        metrics.mark(LOOP_AGE, what)
        try:
            await step()
        except Exception as error:  # noqa: BLE001 (a loop outlives what it meets)
            failures += 1
            metrics.count(LOOP_FAILURES, what)
            report(what, error, failures)
            await asyncio.sleep(min(backoff_seconds(failures), at_most_seconds))
        else:
            if failures:
                logger.info("%s: works again after %d failures", what, failures)
            failures = 0
            await asyncio.sleep(seconds)


async def retry(what: str, step: Callable[[], Awaitable[T]]) -> T:
    """Do a step until it succeeds; what it then returns."""
    failures = 0
    while True:
        try:
            return await step()
        except Exception as error:  # noqa: BLE001 (as above)
            failures += 1
            report(what, error, failures)
            await asyncio.sleep(backoff_seconds(failures))


def report(what: str | Key, error: Exception, failures: int) -> None:
    """At the first failure only. Texts of foreign errors may quote a row, so only their type and place are told."""
    about = {} if isinstance(what, str) else {"object": str(what)}
    if failures > 1 or isinstance(error, ObjectChanged):
        logger.debug("%s: %s (tried again)", what, type(error).__name__, extra=about)
    elif isinstance(error, PgSchedulerError):
        logger.warning("%s: %s %s (tried again)", what, error.code, error, extra=about)
    else:
        place = "".join(traceback.format_tb(error.__traceback__))
        logger.error("%s: %s (tried again)\n%s", what, type(error).__name__, place, extra=about)


async def until_one_ends(tasks: set[asyncio.Task[Any]], *, and_end: Iterable[asyncio.Task[Any]] = ()) -> None:
    """Wait for the first of ``tasks``, then end them all, and raise what one of them died of."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        everything = [*tasks, *and_end]
        for task in everything:
            task.cancel()
        results = await asyncio.gather(*everything, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
