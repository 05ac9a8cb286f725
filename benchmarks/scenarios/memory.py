"""Megabytes resident in a worker that rests: ``pgscheduler worker``, and a bare loop."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import tasks
from benchmarks.bench import Bench, Scenario
from benchmarks.figures import Figure, Goal, compared
from benchmarks.processes import DEFAULTS, workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REST_SECONDS = 6.0
START_SECONDS = 30


async def run(bench: Bench) -> list[Figure]:
    """After some seconds of rest."""
    rest = max(0.2, REST_SECONDS * min(1.0, bench.scale))
    ours, bare = [], []
    for _ in bench.turns("memory"):
        async with bench.database() as dsn, _command(dsn) as pid:
            await asyncio.sleep(rest)
            ours.append(await _resident_mb(pid))
        async with bench.database() as dsn, workers(1, "bare", dsn, DEFAULTS, bench=bench) as (worker,):
            await asyncio.sleep(rest)
            bare.append(await _resident_mb(worker.pid))
    return [compared("memory", "worker at rest", "MB", ours, bare, Goal(of="ours", at_most=60))]


@asynccontextmanager
async def _command(dsn: str) -> AsyncIterator[int]:
    """The process id of a started ``pgscheduler worker``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pg_scheduler", "worker", str(Path(tasks.__file__))),
        env=os.environ | {"PGSCHEDULER_DSN": dsn},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await asyncio.wait_for(_says(process, b" started with "), START_SECONDS)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def _says(process: asyncio.subprocess.Process, text: bytes) -> None:
    if process.stderr is not None:
        async for line in process.stderr:
            if text in line:
                return
    raise RuntimeError("pgscheduler worker did not start")


async def _resident_mb(pid: int) -> float:
    asking = await asyncio.create_subprocess_exec("ps", "-o", "rss=", "-p", str(pid), stdout=asyncio.subprocess.PIPE)
    kilobytes, _ = await asking.communicate()
    return int(kilobytes) / 1024


SCENARIO = Scenario(name="memory", about="resident memory of a worker at rest", run=run)
