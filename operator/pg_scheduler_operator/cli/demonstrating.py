"""``pgscheduler demo``: a PostgreSQL, some workers, the operator's own reconciler over a folder, and what comes of it.

Invariant: whatever ends the demo (all is done, a signal, a key, an error, dead workers), the server, the workers and
the reconciler end before it returns. Nothing is written into the folder.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pg_scheduler.cli.exit_codes import EXIT_INTERRUPTED
from pg_scheduler.cli.output import progress
from pg_scheduler.cli.stop_signals import StopSignals
from pg_scheduler.control import Control
from pg_scheduler.embedded import EmbeddedPostgres
from pg_scheduler_operator import file_mode
from pg_scheduler_operator.cli.board import Board
from pg_scheduler_operator.cli.demo_view import View, view_for
from pg_scheduler_operator.cli.expectations import expectations_in
from pg_scheduler_operator.cli.worker_processes import TENANT, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from pg_scheduler_operator.resources import Key

LOOK_SECONDS = 0.1
FIRST_JOB_SECONDS = 60.0
EXIT_MISSING = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What the demo runs, and for how long after its first job."""

    manifests: Path
    app: Path
    workers: int
    timeout_seconds: float


@dataclass(slots=True, kw_only=True)
class Demo:
    """A demo whose database is up."""

    settings: DemoSettings
    control: Control
    board: Board
    signals: StopSignals
    started_at: float = field(default_factory=time.monotonic)
    first_job_at: float | None = None
    has_quit: bool = False
    told_ended: set[int] = field(default_factory=set)

    async def run(self, dsn: str) -> None:
        """Run until nothing more is to come, or somebody asks to end."""
        async with AsyncExitStack() as stack:
            view = stack.enter_context(view_for(self.board, quit_asked=self.quit))
            workers = [await stack.enter_async_context(self._worker(number, dsn, view)) for number in self._numbers()]
            # Entered last, it ends first: what the workers hand back as they end is not what came of the demo.
            reconciler = await stack.enter_async_context(self._reconciling(view))
            while not self._is_over(workers, is_endless=view.is_endless):
                if reconciler.done():
                    reconciler.result()
                await self._ask_rows()
                self._tell_ended(workers, view)
                view.refresh(self.board)
                await asyncio.sleep(LOOK_SECONDS)

    def quit(self) -> None:
        """End soon, because the user asked."""
        self.has_quit = True

    @property
    def summary(self) -> Sequence[str]:
        """What came of it, line by line."""
        first = self.first_job_at
        seen = (
            "no job seen running" if first is None else f"first job seen running after {first - self.started_at:.1f} s"
        )
        return [
            f"jobs run {self.board.runs}, failed {self.board.failed}, {seen}",
            *(f"missing: {what}" for what in self.board.missing),
        ]

    def _numbers(self) -> range:
        return range(1, self.settings.workers + 1)

    def _worker(self, number: int, dsn: str, view: View) -> WorkerProcess:
        def said(number: int, stream: str, line: str) -> None:
            if stream == "stdout":
                view.said(f"worker {number}: {line}")

        return WorkerProcess(number, self.settings.app, dsn=dsn, said=said)

    @asynccontextmanager
    async def _reconciling(self, view: View) -> AsyncIterator[asyncio.Task[None]]:
        def on_status(key: Key, status: Mapping[str, Any]) -> None:
            row = self.board.apply(key, status)
            if row is not None:
                view.changed(row)
            if self.first_job_at is None and self.board.has_started:
                self.first_job_at = time.monotonic()

        stop = asyncio.Event()
        task = asyncio.create_task(
            file_mode.run(self.control, self.settings.manifests, stop=stop, write_status=False, on_status=on_status)
        )
        try:
            yield task
        finally:
            stop.set()
            await task

    async def _ask_rows(self) -> None:
        """What no status says: which worker has a schedule's newest job, and that no worker knows a task."""
        for row in self.board.rows:
            if row.job_id and not row.worker:
                job = await self.control.job(row.job_id)
                if job is not None and job.worker_id:
                    self.board.name_worker(row.key, job.worker_id)
        waiting = {row.task for row in self.board.rows if not row.has_started}
        self.board.mark_unknown(await self.control.unknown_tasks(TENANT, waiting))

    def _tell_ended(self, workers: Sequence[WorkerProcess], view: View) -> None:
        for worker in workers:
            if worker.exit_code is not None and worker.number not in self.told_ended:
                self.told_ended.add(worker.number)
                view.said(f"worker {worker.number} ended with {worker.exit_code}")
                for line in worker.last_words:
                    view.said(f"worker {worker.number}: {line}")

    def _is_over(self, workers: Sequence[WorkerProcess], *, is_endless: bool) -> bool:
        if self.has_quit or self.signals.event.is_set() or len(self.told_ended) == len(workers):
            return True
        return not is_endless and (self.board.is_settled or time.monotonic() > self._deadline)

    @property
    def _deadline(self) -> float:
        if self.first_job_at is None:  # on a busy machine a worker takes a while to be there
            return self.started_at + max(FIRST_JOB_SECONDS, self.settings.timeout_seconds)
        return self.first_job_at + self.settings.timeout_seconds


async def run_demo(settings: DemoSettings) -> int:
    """Run the demo; the exit code of the command."""
    expectations = expectations_in(settings.manifests, within_seconds=settings.timeout_seconds)
    signals = StopSignals(second_ends_at_once=False)
    signals.install()
    async with AsyncExitStack() as stack:
        progress("starting PostgreSQL")
        server = await stack.enter_async_context(embedded(EmbeddedPostgres(durable=False)))
        control = await stack.enter_async_context(Control(server.dsn))
        await control.migrate()
        demo = Demo(settings=settings, control=control, board=Board(expectations), signals=signals)
        progress(f"PostgreSQL is up; applying {settings.manifests} (workers: {settings.workers})")
        await demo.run(server.dsn)
    for line in demo.summary:
        sys.stdout.write(f"{line}\n")
    if signals.event.is_set():
        return EXIT_INTERRUPTED
    return EXIT_MISSING if demo.board.missing and not demo.has_quit else 0


@asynccontextmanager
async def embedded(server: EmbeddedPostgres) -> AsyncIterator[EmbeddedPostgres]:
    """The server, started and stopped in threads: both take a while."""
    try:
        await asyncio.to_thread(server.start)
        yield server
    finally:
        await asyncio.to_thread(server.stop)
