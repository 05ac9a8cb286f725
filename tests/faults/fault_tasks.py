"""Tasks that do harm, and a record of what they did that outlives their process: the APP of workers that are faulted.

Each event is one ``os.write`` to a file opened O_APPEND: it survives SIGKILL, and writers do not tear each other's
lines.
As a program: ``fault_tasks.py DSN LEASE QUEUES [ENGINE_DSN]`` runs a worker for each of the queues in one process.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import sys
import time
from typing import TYPE_CHECKING

import asyncpg

from pg_scheduler import JobContext, Scheduler, task
from pg_scheduler._engine import alarm

if TYPE_CHECKING:
    from collections.abc import Sequence

RECORD = "FAULT_RECORD"

if "FAKETIME_TIMESTAMP_FILE" in os.environ:  # it would move timers of the monotonic clock too, which no clock does
    alarm._libc = lambda: ctypes.CDLL("libc.so.6")  # type: ignore[assignment]  # the same calls, past it


def _note(event: str, name: str, **more: object) -> None:
    at, moment = time.time(), time.monotonic()  # the second is one clock for all, whatever their first one says
    line = json.dumps({"event": event, "name": name, "at": at, "moment": moment, "pid": os.getpid(), **more})
    file = os.open(os.environ[RECORD], os.O_APPEND | os.O_WRONLY | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)


async def hang(name: str) -> None:
    """Run until cancelled."""
    _note("start", name)
    try:
        await asyncio.Event().wait()
    finally:
        _note("stopped", name)


async def nap(name: str, seconds: float) -> None:
    """End by itself."""
    _note("start", name)
    await asyncio.sleep(seconds)
    _note("end", name)


@task(name="fault_tasks:work")
async def work(name: str, seconds: float, ctx: JobContext) -> None:
    """The same, with the token under which it ran."""
    _note("start", name, token=ctx.token)
    await asyncio.sleep(seconds)
    _note("end", name, token=ctx.token)


async def charge(name: str, ctx: JobContext) -> None:
    """Have an effect that is committed with the job's completion, and another job besides."""
    _note("start", name)
    async with ctx.transaction() as connection:
        await connection.execute("INSERT INTO effects VALUES ($1)", name)
        await ctx.enqueue(follow, args=(name,))


async def follow(name: str) -> None:
    """What a charge enqueues."""


async def block(name: str, seconds: float) -> None:
    """Let nothing else in the loop run."""
    _note("start", name)
    time.sleep(seconds)  # noqa: ASYNC251  the fault
    _note("end", name)


async def burn(name: str, seconds: float) -> None:
    """The same with the processor busy."""
    _note("start", name)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    _note("end", name)


async def hold_the_gil(name: str, seconds: float) -> None:
    """The same, and no other thread of the process runs either."""
    _note("start", name)
    ctypes.PyDLL(None).usleep(ctypes.c_uint(int(seconds * 1e6)))
    _note("end", name)


async def die(name: str, seconds: float, ctx: JobContext) -> None:
    """Take the worker along: every other time it does not even know that it ends."""
    _note("start", name)
    await asyncio.sleep(seconds)
    if ctx.attempt % 2:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)  # a segmentation fault


async def eat(name: str) -> None:
    """Take a gigabyte, which is more than the worker may have."""
    _note("start", name)
    meal = [os.urandom(2**20) for _ in range(1024)]
    _note("end", f"{name} of {len(meal)} MB")


async def main(dsn: str, lease_seconds: float, queues: Sequence[str], engine_dsn: str | None = None) -> None:
    async with asyncpg.create_pool(dsn, min_size=1) as pool:
        for queue in queues:
            scheduler = Scheduler(pool, queues=(queue,), lease_seconds=lease_seconds, dsn=engine_dsn)
            for function in (hang, nap, charge, follow):
                scheduler._registry.add(function, f"fault_tasks:{function.__name__}")
            await scheduler.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3].split(","), *sys.argv[4:]))
