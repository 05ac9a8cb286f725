"""Programs of ours as local processes of one test.

Invariant: each has its own log, each is ended by the test or with it, and an end that nobody asked for fails the next
wait. A program that is asked to end by SIGTERM must exit with 0, having told neither a traceback nor the password.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from cluster.processes import Component
from cluster.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPResponse

_SCRIPT = Path(sys.executable).with_name("pgscheduler")
_ENDS_IN_SECONDS = 10
_SHOWN_LINES = 80
_ADDRESS = re.compile(r"probes and metrics at (\S+)")


@dataclass(slots=True, kw_only=True)
class Program:
    """One process of ours. `is_expected`: it is to run; nobody has ended it. `secret`: never to be told."""

    component: Component
    secret: str
    is_expected: bool = True

    @property
    def pid(self) -> int:
        return self.component.process.pid

    @property
    def log(self) -> str:
        return self.component.log.read_text()

    @property
    def peak_memory_mb(self) -> float:
        """The most that it has ever had in memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    @property
    def cpu_seconds(self) -> float:
        """What it has used up to now."""
        ticks = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")

    def check(self) -> None:
        if self.is_expected:
            self.component.check()

    def says(self, text: str, *, timeout_seconds: float = 20) -> None:
        """Wait until its log holds the text."""
        __tracebackhide__ = True
        what = f"{self.component.name} says {text!r}"
        wait_for(what, lambda: text in self.log, timeout_seconds=timeout_seconds, check=self.check)

    def answers(self, page: str) -> int:
        """With what status its server answers; it was started with PGSCHEDULER_HTTP."""
        try:
            with self._open(page) as response:
                status: int = response.status
                return status
        except HTTPError as refusal:
            return refusal.code

    def tells(self, page: str) -> str:
        """What its server answers with."""
        with self._open(page) as response:
            return str(response.read(), "utf-8")

    def terminate(self) -> None:
        """Ask it to end, as Kubernetes does."""
        self.check()
        self.is_expected = False
        self.component.process.send_signal(signal.SIGTERM)
        exit_code = self.component.process.wait(_ENDS_IN_SECONDS)
        assert exit_code == 0, f"{self.component.name} exited with {exit_code} after SIGTERM"
        assert "Traceback" not in self.log
        assert self.secret not in self.log

    def kill(self) -> None:
        """End it without a word."""
        self.check()
        self.is_expected = False
        self.component.kill()

    def _open(self, page: str) -> HTTPResponse:
        (address,) = _ADDRESS.findall(self.log)
        opened: HTTPResponse = urlopen(f"{address}/{page}", timeout=_ENDS_IN_SECONDS)  # noqa: S310 - our own process
        return opened


class Programs:
    """What one test has started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)
        self._started: list[Program] = []

    def start(self, name: str, *arguments: str, env: Mapping[str, str]) -> Program:
        """`pgscheduler` with these arguments, and of our variables only those of `env`."""
        log = self._folder / f"{next(self._numbers)}-{name}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PGSCHEDULER_", "PG"))}
        component = Component.start(name, [str(_SCRIPT), *arguments], log, env={**inherited, **env})
        program = Program(component=component, secret=urlsplit(env["PGSCHEDULER_DSN"]).password or "no password")
        self._started.append(program)
        return program

    def runs(self, name: str) -> bool:
        return any(program.is_expected and program.component.name == name for program in self._started)

    def check(self) -> None:
        """Raise if one has ended that nobody has ended."""
        for program in self._started:
            program.check()

    def end(self) -> None:
        """Ask all that run to end; the last one started first."""
        with ExitStack() as stack:
            for program in filter(lambda one: one.is_expected, self._started):
                stack.callback(program.component.kill)
                stack.callback(program.terminate)

    def report(self) -> str:
        """The ends of all logs."""
        return "\n\n".join(_end_of(program.component) for program in self._started)


def _end_of(component: Component) -> str:
    lines = component.log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
    return "\n".join([f"--- {component.name} ({component.log}), exit code {component.process.poll()}", *lines])


StartProgram = Callable[..., Program]
