"""The worker processes of ``dev``: as many as its folder's WorkerPool wants, one without a pool.

Invariant: no process outlives ``serve``. Each starts again when the app's file is written, under the same uid: to the
pool it is the same worker.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING
from uuid import uuid4

from pg_scheduler_operator.resources import Pod

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pg_scheduler_operator.gateway.local_workers import LocalWorkers

    ServeOne = Callable[[int, str], Awaitable[None]]


class Fleet:
    """Keeps as many of ``serve_one`` under way as are wanted; each is told a number and a uid, and may give up."""

    def __init__(self, workers: LocalWorkers, serve_one: ServeOne) -> None:
        self._workers = workers
        self._serve_one = serve_one
        self._numbers = count(1)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Until one of them gives up by itself."""
        try:
            while not any(task.done() for task in self._tasks.values()):
                self._workers.changed.clear()
                await self._adjust()
                changed = asyncio.ensure_future(self._workers.changed.wait())
                await asyncio.wait({changed, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
            for task in self._tasks.values():
                if task.done():
                    task.result()
        finally:
            await self._end(list(self._tasks))

    async def _adjust(self) -> None:
        for _ in range(self._workers.wanted - len(self._tasks)):
            self._begin()
        for pod in self._workers.to_end():
            self._workers.put(replace(pod, is_terminating=True))
            await self._end([pod.name])

    def _begin(self) -> None:
        number, uid = next(self._numbers), str(uuid4())
        name = f"worker-{number}"
        self._workers.put(Pod(name=name, uid=uid, created_at=datetime.now(UTC)))
        self._tasks[name] = asyncio.ensure_future(self._serve_one(number, uid))

    async def _end(self, names: list[str]) -> None:
        ending = [self._tasks.pop(name) for name in names]
        for task in ending:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*ending, return_exceptions=True)
        for name in names:
            self._workers.drop(name)
