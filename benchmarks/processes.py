"""Workers in processes of their own, seen from the run that starts them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.bench import Bench
    from benchmarks.child import Side, Tell

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 30
END_SECONDS = 60
LINE_BYTES = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Slots of a worker and how many jobs it claims at once; the bare loop has only the latter."""

    name: str
    slots: int
    batch: int


LARGE = Setting(name="large slots", slots=4000, batch=1000)
DEFAULTS = Setting(name="the seed's defaults", slots=25, batch=10)


class WorkerProcess:
    """One worker: what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._reading = asyncio.create_task(self._read())
        self._ready = asyncio.Event()
        self.ran = 0
        self.starts: list[tuple[int, int]] = []
        self.started: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ready(self) -> None:
        """Until it serves.

        Raises:
            RuntimeError: it ended instead; its own words are on standard error.
        """
        waiting = asyncio.create_task(self._ready.wait())
        await asyncio.wait({waiting, self._reading}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self._ready.is_set():
            raise RuntimeError("a worker of the benchmark did not start")

    async def end(self) -> None:
        """Let it end and hear its last words; kill it if it takes too long."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        if self._process.stdout is None:
            raise RuntimeError("the worker's output is not ours")
        async for line in self._process.stdout:
            said = json.loads(line)
            self.ran = said.get("ran", self.ran)
            for due_us, start_us in said.get("starts", ()):
                self.starts.append((due_us, start_us))
                self.started.put_nowait((due_us, start_us))
            if "ready" in said:
                self._ready.set()


@asynccontextmanager
async def workers(
    number: int, side: Side, dsn: str, setting: Setting, *, bench: Bench, tell: Tell = "often", tenant: str = ""
) -> AsyncIterator[list[WorkerProcess]]:
    """So many workers of one side, all serving; ended with the block. The bare loop knows no tenants."""
    started: list[WorkerProcess] = []
    try:
        for _ in range(number):
            started.append(await _start(side, dsn, setting, bench, tell, tenant))  # noqa: PERF401 - those before are to be ended
        for worker in started:
            await worker.ready()
        yield started
    finally:
        await asyncio.gather(*(worker.end() for worker in started))


async def _start(side: Side, dsn: str, setting: Setting, bench: Bench, tell: Tell, tenant: str) -> WorkerProcess:
    options = {
        "side": side,
        "dsn": dsn,
        "slots": setting.slots,
        "batch": setting.batch,
        "loop": bench.loop,
        "tell": tell,
        "tenant": tenant,
        "profile": str(bench.profile) if bench.profile and side == "ours" else None,
    }
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.child", json.dumps(options)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        limit=LINE_BYTES,
        start_new_session=True,  # Ctrl-C is for the run, which lets its workers end
    )
    return WorkerProcess(process)
