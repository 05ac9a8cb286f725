"""Processes that cannot outlive the one that started them.

Invariant: a process in namespaces of its own ends with its caller, also when that is killed with -9: its first process
dies by the parent-death signal, and the kernel then ends its children and its mounts.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_TAIL_LINES = 20


class CommandError(Exception):
    """A command ended badly; the message has the end of its log."""


class ComponentDiedError(Exception):
    """A server of the cluster is gone; the message has the end of its log."""


def in_own_namespaces(command: Sequence[str], *more: str) -> list[str]:
    """The command in fresh process and mount namespaces, and in those named in `more` ("net", "ipc", "uts")."""
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--pid", "--fork", "--kill-child=SIGKILL"),
        *("--mount", "--mount-proc", "--propagation", "private"),
        *(f"--{kind}" for kind in more),
        *command,
    ]


def run_logged(
    command: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    isolated: bool = False,
) -> None:
    """Run to the end, output appended to the log. Isolated: neither it nor its mounts outlive the caller."""
    started = in_own_namespaces(command) if isolated else command
    with log.open("ab") as output:
        ended = subprocess.run(
            started, env=env, cwd=cwd, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    if ended.returncode:
        raise CommandError(f"{command[0]} ended with {ended.returncode}; {tail(log)}")


def output_of(
    command: Sequence[str], *, given: str = "", env: Mapping[str, str] | None = None, timeout_seconds: float = 60
) -> str:
    """What the command prints; what it complains about is the error's message."""
    __tracebackhide__ = True
    ended = subprocess.run(
        command, input=given, env=env, check=False, capture_output=True, text=True, timeout=timeout_seconds
    )
    if ended.returncode:
        raise CommandError(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr.strip()}")
    return ended.stdout


def tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n  ".join([f"the end of {log}:", *lines[-_TAIL_LINES:]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A server that runs until it is stopped, with a log of its own."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Self:
        with log.open("ab") as output:
            # A session of its own: Ctrl-C is for the tests, whose teardown still needs the servers.
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(name=name, log=log, process=process)

    def check(self) -> None:
        if self.process.poll() is not None:
            raise ComponentDiedError(f"{self.name} ended with {self.process.returncode}; {tail(self.log)}")

    def kill(self) -> None:
        """End it as a crash does. Returns when it is gone, also when it was gone before."""
        self.process.kill()
        self.process.wait()
