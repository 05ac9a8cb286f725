"""What a container's runtime and the kernel do to the processes of a pod: they are frozen, and killed for their memory.

Invariant: no cgroup is left behind, and a process that outlives its block runs as before.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNT = Path("/sys/fs/cgroup")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """By a signal: the way without a cgroup."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """By the freezer, as a runtime pauses a pod."""
    switch, on, off = ("cgroup.freeze", "1", "0") if _is_unified() else ("freezer.state", "FROZEN", "THAWED")
    with _moved(pid, "freezer") as group:
        (group / switch).write_text(on)
        try:
            yield
        finally:
            (group / switch).write_text(off)


@contextmanager
def short_of_memory(pid: int, *, megabytes: int) -> Iterator[None]:
    """The kernel kills it if it takes so much more than it has."""
    with _moved(pid, "memory") as group:
        limit = "memory.max" if _is_unified() else "memory.limit_in_bytes"
        (group / limit).write_text(str(megabytes * 2**20))
        yield


@contextmanager
def _moved(pid: int, controller: str) -> Iterator[Path]:
    root = MOUNT if _is_unified() else MOUNT / controller
    if _is_unified() and controller == "memory":
        (root / "cgroup.subtree_control").write_text("+memory")
    group = root / f"pgscheduler-test-{pid}"
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(pid))
        yield group
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            (root / "cgroup.procs").write_text(left)
        group.rmdir()


def _is_unified() -> bool:
    return (MOUNT / "cgroup.controllers").exists()
