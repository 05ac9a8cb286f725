"""Mounts of the sandbox and of its nodes: what is written there stays in memory.

Invariant: called only in a mount namespace of one's own, whose end is the end of every mount made here.
"""

from __future__ import annotations

from pathlib import Path

from cluster.processes import output_of

# The kubelet wants these for the whole machine, and dies if it cannot write them. It is shown plain files instead,
# which hold the values it wants: the machine's own settings are never touched.
_WANTED_SYSCTLS = {"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}
_STAND_INS = Path("/run/pgscheduler-e2e/sysctl")


def memory(folder: Path, *, mode: str = "755") -> None:
    """A tmpfs. Importing an image into containerd takes several times longer on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"mode={mode},size=8g", "tmpfs", str(folder))


def overlay(folder: Path) -> None:
    """Leave the folder readable as it is, and keep what is written below it in memory (/run must be so already)."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = Path("/run/pgscheduler-e2e/overlay") / folder.relative_to("/")
    for name in ("upper", "work"):
        (layers / name).mkdir(parents=True)
    options = f"lowerdir={folder},upperdir={layers / 'upper'},workdir={layers / 'work'}"
    _mount("-t", "overlay", "-o", options, "overlay", str(folder))


def stand_in_sysctls() -> None:
    """Needed in every mount namespace with its own /proc, so once in the sandbox and once in each node."""
    _STAND_INS.mkdir(parents=True, exist_ok=True)
    for name, value in _WANTED_SYSCTLS.items():
        file = _STAND_INS / name.replace("/", ".")
        file.write_text(f"{value}\n")
        _mount("--bind", str(file), f"/proc/sys/{name}")


def _mount(*arguments: str) -> None:
    output_of(["mount", *arguments])
