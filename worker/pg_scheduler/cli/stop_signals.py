"""SIGTERM and SIGINT, for commands that run until they are told to end.

Invariant: the first signal asks for an orderly end, the second ends the process at once (unless it has children to end
first). What the process then holds in the database is found by the other workers when its lease runs out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from pg_scheduler.cli.exit_codes import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class StopSignals:
    """An event that the first signal sets, and the exit code that the signal asks for.

    Attributes:
        second_ends_at_once: whether a second signal ends the process without cleaning up.
    """

    second_ends_at_once: bool = True
    event: asyncio.Event = field(default_factory=asyncio.Event)
    exit_code: int = 0

    def install(self) -> None:
        """Take over both signals of this process; call it inside the running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received, number)

    async def unless_asked_to_end(self, coroutine: Coroutine[None, None, T]) -> T | None:
        """What the coroutine returns or raises; None, and the coroutine cancelled, if a signal comes first."""
        work = asyncio.ensure_future(coroutine)
        asked = asyncio.ensure_future(self.event.wait())
        try:
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else None
        finally:
            for task in (work, asked):
                task.cancel()
            await asyncio.wait({work, asked})

    def stop_when_stdin_closes(self) -> None:
        """Treat the end of standard input as SIGTERM: the parent that held the other end is gone."""
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._stdin_readable)

    def _stdin_readable(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            if not self.event.is_set():
                self._received(signal.SIGTERM)

    def _received(self, number: signal.Signals) -> None:
        if self.event.is_set():
            self._received_again(number)
            return
        logger.info("%s: shutting down", number.name)
        self.exit_code = EXIT_INTERRUPTED if number == signal.SIGINT else 0
        self.event.set()

    def _received_again(self, number: signal.Signals) -> None:
        if self.second_ends_at_once:
            logger.warning("%s again: ending at once", number.name)
            os._exit(EXIT_INTERRUPTED)
