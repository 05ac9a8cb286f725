"""Two ways to stop every thread of a process without its knowing: a signal, and the kernel's cgroup freezer.

Invariant: a process runs again when the block ends, and no cgroup is left behind.
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
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """As a container runtime pauses a pod."""
    is_unified = (MOUNT / "cgroup.controllers").exists()
    root = MOUNT if is_unified else MOUNT / "freezer"
    switch, on, off = ("cgroup.freeze", "1", "0") if is_unified else ("freezer.state", "FROZEN", "THAWED")
    home = root / f"pgscheduler-test-{pid}"
    home.mkdir()
    try:
        (home / "cgroup.procs").write_text(str(pid))
        (home / switch).write_text(on)
        yield
    finally:
        (home / switch).write_text(off)
        (root / "cgroup.procs").write_text(str(pid))
        home.rmdir()
