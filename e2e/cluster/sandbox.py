"""Namespaces that hold a whole cluster and vanish with the command that runs in them.

Invariant: nothing of a run survives it, whichever way it ends. The kernel kills every process when the sandbox's first
one dies, that one dies with the caller (also by kill -9), and mounts, bridge, addresses and firewall rules go with the
namespaces; the cgroups, which belong to no namespace, are the janitor's (`cgroups.group`). Nothing else is shared with
the machine but the disk. Inside there is no network but loopback and the pods' bridge, so ports never collide and two
sandboxes run side by side.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import cgroups
from cluster.processes import in_own_namespaces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CGROUP_VARIABLE = "PGSCHEDULER_E2E_CGROUP"


class NotInSandboxError(Exception):
    """Cluster code was called outside: it would start servers on the machine itself."""


def enter(command: Sequence[str], *, working_directory: Path, env: Mapping[str, str]) -> int:
    """Run the command inside, return its exit code."""
    first_process = [sys.executable, "-m", "cluster.sandbox_init", str(working_directory), *command]
    with cgroups.group() as group:
        inside = subprocess.Popen(
            in_own_namespaces(first_process, "net", "ipc", "uts"),
            cwd=Path(__file__).parents[1],
            env={**os.environ, **env, _CGROUP_VARIABLE: group},
        )
        # Ctrl-C reaches the command by the terminal, and it is the command that decides what then happens.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return inside.wait()


def cgroup() -> str:
    """The cgroup of the sandbox that this process is in."""
    try:
        return os.environ[_CGROUP_VARIABLE]
    except KeyError:
        raise NotInSandboxError("this runs only inside the sandbox: python e2e/run.py") from None
