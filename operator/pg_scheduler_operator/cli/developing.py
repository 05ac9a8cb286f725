"""``pgscheduler dev``: a PostgreSQL that keeps its data, workers that start again when their code changes, and a folder
of manifests with a status file beside each, whose WorkerPool says how many workers there are.

Invariant: whatever ends it, the server, the worker and the reconciler end before it returns, and the data stay.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pg_scheduler.cli.app_loading import locate
from pg_scheduler.cli.output import progress
from pg_scheduler.cli.stop_signals import StopSignals
from pg_scheduler.control import Control
from pg_scheduler.embedded import EmbeddedPostgres
from pg_scheduler_operator import file_mode
from pg_scheduler_operator.cli.demonstrating import embedded
from pg_scheduler_operator.cli.fleet import Fleet
from pg_scheduler_operator.cli.worker_processes import WorkerProcess
from pg_scheduler_operator.gateway.local_workers import LocalWorkers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

LOOK_SECONDS = 0.25
EXIT_ENDED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DevSettings:
    """What ``dev`` runs and where it keeps the data."""

    app: str
    manifests: Path | None
    data_dir: Path


async def run_dev(settings: DevSettings) -> int:
    """Serve until a signal; the exit code of the command."""
    file = locate(settings.app)
    signals = StopSignals(second_ends_at_once=False)
    signals.install()
    async with AsyncExitStack() as stack:
        progress(f"starting PostgreSQL on {settings.data_dir}")
        server = await stack.enter_async_context(embedded(EmbeddedPostgres(_made(settings.data_dir) / "postgres")))
        control = await stack.enter_async_context(Control(server.dsn))
        await control.migrate()
        progress(f"PGSCHEDULER_DSN='{server.dsn}'")
        workers, serve_app = LocalWorkers(), partial(_serve_app, settings.app, file, server.dsn)
        tasks = [
            await stack.enter_async_context(_ended_at_exit(_asked_to_end(signals))),
            await stack.enter_async_context(_ended_at_exit(Fleet(workers, serve_app).serve())),
        ]
        if settings.manifests is not None:
            progress(f"applying {settings.manifests}; the status of each manifest stands in a file beside it")
            tasks.append(await stack.enter_async_context(reconciling(control, settings.manifests, workers)))
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    return signals.exit_code if signals.event.is_set() else EXIT_ENDED


@asynccontextmanager
async def reconciling(
    control: Control, folder: Path, workers: LocalWorkers | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """The operator's reconciler over a folder, ended in order with the block."""
    stop = asyncio.Event()
    task = asyncio.create_task(file_mode.run(control, folder, stop=stop, workers=workers))
    try:
        yield task
    finally:
        stop.set()
        await task


@asynccontextmanager
async def _ended_at_exit(coroutine: Coroutine[None, None, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _asked_to_end(signals: StopSignals) -> None:
    await signals.event.wait()


async def _serve_app(app: str, file: Path | None, dsn: str, number: int, uid: str) -> None:
    """A worker, and another one under the same uid whenever its file is written."""
    watched = Watched(file)
    if file is None:
        progress(f"{app} is not below this folder: restart `pgscheduler dev` when its code changes")
    while True:
        watched.look()
        async with WorkerProcess(number, app, dsn=dsn, said=_said, uid=uid) as worker:
            await _until(lambda: watched.has_changed() or worker.exit_code is not None)
            exit_code = worker.exit_code
        if exit_code is not None:
            progress(f"the worker ended with {exit_code}")
            if file is None:
                return
            progress(f"it starts again when {file} changes")
            await _until(watched.has_changed)
        progress(f"{file} has changed: starting the worker again")


async def _until(probe: Callable[[], bool]) -> None:
    """Look again and again: a file system tells nobody that a file was saved."""
    while True:
        if probe():
            return
        await asyncio.sleep(LOOK_SECONDS)


class Watched:
    """A file, and what it was like when last looked at."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._seen = self._mark()

    def look(self) -> None:
        """What is there now is not news."""
        self._seen = self._mark()

    def has_changed(self) -> bool:
        """Whether it was saved since; false in the middle of a save, while it is not there."""
        mark = self._mark()
        return mark is not None and mark != self._seen

    def _mark(self) -> tuple[int, int] | None:
        try:
            stat = None if self.file is None else self.file.stat()
        except OSError:
            return None
        return None if stat is None else (stat.st_mtime_ns, stat.st_size)


def _said(number: int, stream: str, line: str) -> None:
    del number
    (sys.stdout if stream == "stdout" else sys.stderr).write(f"{line}\n")


def _made(folder: Path) -> Path:
    """The folder, made if need be, and kept out of version control."""
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return folder
