"""A worker in a process of its own: ours or the bare one.

Invariant: it ends when its standard input does, so that none outlives the run that started it. On standard output it
writes one JSON object a line: that it is ready, how many jobs it has run so far, and when those began that keep it.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import pstats
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import asyncpg

from benchmarks import tasks
from benchmarks.bare import BareWorker
from pg_scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

REPORT_SECONDS = 0.1
PROFILE_LINES = 60

Side = Literal["ours", "bare"]
Tell = Literal["often", "each", "end"]


@asynccontextmanager
async def bare_worker(dsn: str, *, batch: int) -> AsyncIterator[None]:
    """The bare loop on a connection of its own, running."""
    connection = await asyncpg.connect(dsn)
    running = asyncio.create_task(BareWorker(connection, batch=batch).run())
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await connection.close()


@asynccontextmanager
async def our_worker(dsn: str, *, slots: int, batch: int, tenant: str = "") -> AsyncIterator[Scheduler]:
    """A started scheduler with the tasks of the benchmarks."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool:
        scheduler = Scheduler(pool, slots, misfire_grace_time=None, batch_claim_limit=batch, tenant=tenant)
        scheduler.register(tasks.noop, tasks.stamp, tasks.stamp_tick)
        async with scheduler:
            yield scheduler


def worker_of(side: Side, dsn: str, *, slots: int, batch: int, tenant: str = "") -> AbstractAsyncContextManager[object]:
    """A running worker of this side, in this process."""
    if side == "bare":
        return bare_worker(dsn, batch=batch)
    return our_worker(dsn, slots=slots, batch=batch, tenant=tenant)


async def _serve(options: dict[str, Any]) -> None:
    dsn, slots, batch = options["dsn"], options["slots"], options["batch"]
    worker = worker_of(options["side"], dsn, slots=slots, batch=batch, tenant=options["tenant"])
    ended = await _end_of_input()
    async with worker:
        _say(ready=True)
        await _report(ended, options["tell"])


async def _report(ended: asyncio.Event, tell: Tell) -> None:
    """Say what has run: ten times a second, at once for each start, or at the end only."""
    if tell == "each":
        tasks.TALLY.on_start = _say_tally
    told = 0
    while not ended.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), REPORT_SECONDS if tell == "often" else None)
        if tell == "often" and tasks.TALLY.ran != told:
            told = tasks.TALLY.ran
            _say_tally()
    _say_tally()


def _say_tally() -> None:
    _say(ran=tasks.TALLY.ran, starts=tasks.TALLY.take_starts())


class _EndOfInput(asyncio.Protocol):
    """Sets ``ended`` once standard input ends."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.ended.set()


async def _end_of_input() -> asyncio.Event:
    _, protocol = await asyncio.get_running_loop().connect_read_pipe(_EndOfInput, sys.stdin)
    return protocol.ended


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


@contextmanager
def _profiled(folder: str | None) -> Iterator[None]:
    """Write what the main thread spent its time on into the folder, if there is one, as text."""
    if folder is None:
        yield
        return
    with cProfile.Profile() as profile:
        yield
    with Path(folder, f"worker-{os.getpid()}.txt").open("w") as file:
        pstats.Stats(profile, stream=file).sort_stats("tottime").print_stats(PROFILE_LINES)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """The event loop of this name: ``asyncio`` or ``uvloop``."""
    if name == "uvloop":
        import uvloop  # noqa: PLC0415 (an extra)

        return uvloop.new_event_loop
    return asyncio.new_event_loop


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    with _profiled(settings["profile"]), asyncio.Runner(loop_factory=loop_factory(settings["loop"])) as runner:
        runner.run(_serve(settings))
