"""Worker processes of the demo and of ``dev``.

Invariant: no process outlives the block that started it, nor this process: a worker ends when its standard input
closes, which it does with us, however we end. Each has a process group of its own, so that Ctrl-C reaches them through
us only.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

SHUTDOWN_SECONDS = "2"  # a person waits: long jobs are handed back and run again
STOP_SECONDS = 10.0
LAST_WORDS = 12
TENANT = "default"

Stream = Literal["stdout", "stderr"]


class WorkerProcess:
    """``pgscheduler worker APP`` in a process; its lines are handed to ``said`` as they come.

    ``uid`` is what a pod's would be: by it a pool knows whose jobs it runs, and a successor whom it succeeds.
    """

    def __init__(
        self,
        number: int,
        app: str | Path,
        *,
        dsn: str,
        said: Callable[[int, Stream, str], None],
        uid: str | None = None,
    ) -> None:
        self.number = number
        self._uid = uid
        self._app = app
        self._dsn = dsn
        self._said = said
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pg_scheduler", "worker", "--until-stdin-closes", str(self._app),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=os.environ | self._settings(),
            process_group=0,
        )  # fmt: skip
        streams: tuple[tuple[Stream, asyncio.StreamReader | None], ...] = (
            ("stdout", self._process.stdout),
            ("stderr", self._process.stderr),
        )
        self._readers = [asyncio.create_task(self._read(name, reader)) for name, reader in streams if reader]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        with suppress(ProcessLookupError):  # what its jobs have started and left behind holds our pipes open
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.gather(*self._readers)

    def _settings(self) -> dict[str, str]:
        uid = {} if self._uid is None else {"PGSCHEDULER_POD_UID": self._uid}
        return uid | {
            "PGSCHEDULER_DSN": self._dsn,
            "PGSCHEDULER_TENANT": TENANT,
            "PGSCHEDULER_SHUTDOWN_TIMEOUT": SHUTDOWN_SECONDS,
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def exit_code(self) -> int | None:
        """What the process ended with, None while it lives."""
        return None if self._process is None else self._process.returncode

    @property
    def last_words(self) -> list[str]:
        """The newest lines of its standard error."""
        return list(self._last_words)

    async def _read(self, name: Stream, reader: asyncio.StreamReader) -> None:
        async for line in _lines(reader):
            if name == "stderr":
                self._last_words.append(line)
            self._said(self.number, name, line)


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of any length: what exceeds the reader's buffer comes in pieces."""
    while True:
        try:
            raw = await reader.readuntil()
        except asyncio.IncompleteReadError as end:
            if end.partial:
                yield end.partial.decode(errors="replace")
            return
        except asyncio.LimitOverrunError as long:
            raw = await reader.read(long.consumed)
        yield raw.decode(errors="replace").rstrip("\n")
