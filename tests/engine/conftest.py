"""Engine tests own tasks and threads; each test ends what it started."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import Scheduler
from pg_scheduler._engine.config import EngineConfig
from support.world import World

if TYPE_CHECKING:
    import asyncpg

MakeScheduler = Callable[..., Awaitable[Scheduler]]


@pytest.fixture(autouse=True)
def _ends_what_it_started(no_leaks: None) -> None:
    """Set up first, so torn down last."""


@pytest.fixture
def world(pool: asyncpg.Pool[asyncpg.Record]) -> World:
    """The stores over this test's database."""
    return World.over(pool)


@pytest.fixture
def unpolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedulers of this test look for nothing unasked: what one notices, it was told."""
    defaults = EngineConfig.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "poll_seconds", 3600.0)


@pytest.fixture
async def started(pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[MakeScheduler]:
    """Makes running schedulers that know the given tasks; shuts them down at the end."""
    async with AsyncExitStack() as stack:

        async def start(*tasks: Any, **settings: Any) -> Scheduler:
            scheduler = Scheduler(pool, **{"shutdown_timeout": 0.2, **settings})
            scheduler.register(*tasks)
            await stack.enter_async_context(scheduler)
            return scheduler

        yield start
