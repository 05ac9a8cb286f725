"""The cgroups that pods run in, and their removal.

Invariant: when the process that opened `group` is gone, however it ended, its cgroups go. The kernel ends containers
with their namespaces but keeps empty cgroups for ever; so a janitor in a session of its own holds the reading end of a
pipe, and removes them when the writing end closes. They are removed in no other way: the usual end and kill -9 take
the same path.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOUNT = Path("/sys/fs/cgroup")
_PATIENCE_SECONDS = 20


@contextmanager
def group() -> Iterator[str]:
    """The name of a cgroup for this process's containers; `create` makes it where and when it is needed."""
    name = f"pgscheduler-e2e-{os.getpid()}"
    # A session of its own: Ctrl-C and a kill of the whole process group must not reach the janitor.
    janitor = subprocess.Popen(
        [sys.executable, "-m", "cluster.cgroups", name],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    with janitor:
        yield name


def create(name: str) -> None:
    """Make the cgroup `name` ("a/b" also makes "a") for every controller."""
    ancestors = [str(path) for path in reversed(Path(name).parents)][1:]
    for part in (*ancestors, name):
        if _is_unified():
            _enable_controllers((_MOUNT / part).parent)
        for root in _roots():
            (root / part).mkdir(exist_ok=True)
        if not _is_unified():
            _fill_cpuset(_MOUNT / "cpuset" / part)


def complaints() -> Iterator[str]:
    """Why containers could not be given cgroups here."""
    trial = f"pgscheduler-e2e-trial-{os.getpid()}"
    if not _roots():
        yield f"no cgroup hierarchy at {_MOUNT}"
    try:
        create(trial)
    except OSError as error:
        yield f"cgroups cannot be made: {error}"
    _remove(trial)


def _is_unified() -> bool:
    return (_MOUNT / "cgroup.controllers").exists()


def _roots() -> list[Path]:
    if _is_unified():
        return [_MOUNT]
    # Version 1 has a hierarchy for each controller; a name linked to another one's is the same hierarchy.
    return [path for path in _MOUNT.iterdir() if path.is_dir() and not path.is_symlink()]


def _fill_cpuset(cpuset: Path) -> None:
    # In version 1 a fresh cpuset is empty, and no process can enter it.
    for name in ("cpuset.cpus", "cpuset.mems"):
        (cpuset / name).write_text((cpuset.parent / name).read_text())


def _enable_controllers(parent: Path) -> None:
    for controller in (parent / "cgroup.controllers").read_text().split():
        (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def _remove(name: str) -> bool:
    """Whether nothing is left. False while processes are still dying in it."""
    for root in _roots():
        for folder, _, _ in os.walk(root / name, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                return False
    return True


def _janitor(name: str) -> None:
    sys.stdin.buffer.read()
    wait_for(f"the end of the cgroups {name}", lambda: _remove(name), timeout_seconds=_PATIENCE_SECONDS)


if __name__ == "__main__":
    _janitor(sys.argv[1])
