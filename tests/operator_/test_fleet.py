"""The workers of ``dev``, without processes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from pg_scheduler_operator.cli.fleet import Fleet
from pg_scheduler_operator.gateway.local_workers import LocalWorkers
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Served:
    """What is served now, by number; one can be made to give up."""

    def __init__(self) -> None:
        self.now: dict[int, asyncio.Event] = {}

    async def one(self, number: int, uid: str) -> None:
        del uid
        self.now[number] = asyncio.Event()
        try:
            await self.now[number].wait()
        finally:
            del self.now[number]

    def are(self, *numbers: int) -> Callable[[], bool]:
        return lambda: sorted(self.now) == list(numbers)


@asynccontextmanager
async def serving(workers: LocalWorkers) -> AsyncIterator[tuple[Served, asyncio.Task[None]]]:
    served = Served()
    task = asyncio.create_task(Fleet(workers, served.one).serve())
    try:
        yield served, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert served.now == {}
    assert workers.pods == []


async def test_as_many_are_served_as_are_wanted() -> None:
    workers = LocalWorkers()
    async with serving(workers) as (served, _):
        await until(served.are(1))
        workers.want(3)
        await until(served.are(1, 2, 3))
        workers.want(0)
        await until(served.are())
        workers.want(1)
        await until(served.are(4))
        assert [pod.name for pod in workers.pods] == ["worker-4"]


async def test_cheapest_ends_first_and_then_the_newest() -> None:
    workers = LocalWorkers(4)
    async with serving(workers) as (served, _):
        await until(served.are(1, 2, 3, 4))
        workers.set_cost("worker-2", -5)
        workers.set_cost("gone", -9)
        workers.want(2)
        await until(served.are(1, 3))


async def test_one_that_gives_up_ends_all() -> None:
    workers = LocalWorkers(2)
    async with serving(workers) as (served, task):
        await until(served.are(1, 2))
        served.now[2].set()
        await asyncio.wait_for(task, PATIENCE)


async def test_error_of_one_is_the_error_of_all() -> None:
    async def fail(number: int, uid: str) -> None:
        raise LookupError(f"{number} {uid}")

    with pytest.raises(LookupError, match="1 "):
        await Fleet(LocalWorkers(), fail).serve()
