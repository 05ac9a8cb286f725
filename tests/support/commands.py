"""The command line as a person runs it: a process, its two streams, its exit code."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    import subprocess


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of a command."""

    exit_code: int
    out: str
    err: str

    def require_block(self, code: str, *, exit_code: int) -> str:
        """The one error block on standard error; nothing else may look like an error."""
        assert self.exit_code == exit_code, self
        assert "Traceback" not in self.out + self.err
        assert self.err.count("error PGS-") == 1, self.err
        assert f"error {code}: " in self.err
        return self.err[self.err.index("error PGS-") :]


class Running:
    """A command that runs, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.out_lines: list[str] = []
        self.err_lines: list[str] = []
        self._readers = [
            threading.Thread(target=lines.extend, args=(iter(stream.readline, ""),), daemon=True)
            for lines, stream in ((self.out_lines, process.stdout), (self.err_lines, process.stderr))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    @property
    def out(self) -> str:
        return "".join(self.out_lines)

    @property
    def err(self) -> str:
        return "".join(self.err_lines)

    async def says(self, text: str, *, timeout: float = PATIENCE) -> None:  # noqa: ASYNC109 - a test's deadline
        """Wait until it has said ``text`` on standard error."""
        await until(lambda: text in self.err or self.process.poll() is not None, timeout=timeout, what=f"says {text!r}")
        assert text in self.err, self.err

    def wait(self, timeout: float = PATIENCE) -> int:
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(5)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code


RunCommand = Callable[..., Ended]
StartCommand = Callable[..., Running]
