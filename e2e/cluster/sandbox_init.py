"""The first process of a sandbox: lays out its mounts and network, then runs one command to its end.

Invariant: when this process ends, the kernel ends everything else in the sandbox. It adopts every orphan, so it reaps.
Temporary files are in memory too, because whoever would remove them may be killed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from cluster import mounts
from cluster.processes import output_of

# Written to by the kubelet, CNI plugins, containerd and iptables whatever their settings say.
_KEPT_IN_MEMORY = ("/etc", "/opt", "/var/lib", "/var/log")
_TEMPORARY = Path("/run/pgscheduler-e2e/tmp")


def _lay_out() -> None:
    mounts.memory(Path("/run"))
    # A killed PostgreSQL leaves its shared memory behind.
    mounts.memory(Path("/dev/shm"), mode="1777")  # noqa: S108 - nothing is opened in it: it is mounted over
    for name in ("lock", "containerd", "netns"):
        (Path("/run") / name).mkdir()
    for folder in _KEPT_IN_MEMORY:
        mounts.overlay(Path(folder))
    mounts.stand_in_sysctls()
    mounts.memory(_TEMPORARY, mode="1777")
    output_of(["ip", "link", "set", "lo", "up"])


def _environment() -> dict[str, str]:
    # There is nothing to reach through a proxy, and a proxy would be asked for the API server.
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "TMPDIR": str(_TEMPORARY)}


def _run(command: list[str]) -> int:
    child = os.posix_spawnp(command[0], command, _environment())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status)


def main() -> int:
    _lay_out()
    working_directory, *command = sys.argv[1:]
    os.chdir(working_directory)
    code = _run(command)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
