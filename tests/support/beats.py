"""What follows from a worker's heartbeats, without waiting for their time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pg_scheduler import Scheduler

T = TypeVar("T")


async def beating_until(scheduler: Scheduler, probe: Callable[[], Awaitable[T]]) -> T:
    """The first true answer of ``probe``, while the worker beats as often as it is asked."""

    async def beat_and_look() -> T:
        await scheduler.send_heartbeat("any")
        return await probe()

    return await until(beat_and_look)
