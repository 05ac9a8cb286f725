"""What the machine must have, checked before anything is started.

Invariant: a run either has all of it or ends with one list of everything that is missing and the command that brings
it. Nothing is skipped for want of a program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import build, cgroups
from cluster.processes import CommandError, in_own_namespaces, output_of, run_logged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.progress import Progress

# Program -> Debian package, for the API server alone and for nodes with pods.
_FOR_SERVERS = {
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "openssl": "openssl",
}
_FOR_PODS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "busybox": "busybox-static",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
_CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
_CNI_PLUGINS = ("bridge", "host-local", "loopback")
_DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")  # a Debian has them, an Ubuntu not
_TRIAL = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/upper /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
ip link set lo up
ip link add trial type bridge
"""


class UnpreparedError(Exception):
    """The machine lacks something; the message says what, and how to get it."""


def cni_folder() -> Path | None:
    return next((folder for folder in _CNI_FOLDERS if all((folder / name).exists() for name in _CNI_PLUGINS)), None)


def ensure(progress: Progress, log: Path, *, pods: bool, install: bool) -> None:
    """Check, install Debian packages if that is wanted and possible, check again."""
    packages = _missing_packages(pods=pods)
    if packages and install and _may_install():
        with progress.phase(f"install {' '.join(packages)}", slow=True):
            _install(packages, log)
        packages = _missing_packages(pods=pods)
    complaints = [*_complaints(pods=pods)]
    if packages:
        complaints.append(f"programs are missing: apt-get install -y --no-install-recommends {' '.join(packages)}")
    if complaints:
        raise UnpreparedError("\n".join(f"- {complaint}" for complaint in complaints))


def _missing_packages(*, pods: bool) -> list[str]:
    wanted = _FOR_SERVERS | (_FOR_PODS if pods else {})
    packages = {package for program, package in wanted.items() if shutil.which(program) is None}
    if pods and cni_folder() is None:
        packages.add("containernetworking-plugins")
    if pods and not _DEBIAN_KEYS.exists():
        packages.add("debian-archive-keyring")
    if pods and "busybox-static" not in packages and not _is_static(shutil.which("busybox")):
        packages.add("busybox-static")
    return sorted(packages)


def _is_static(program: str | None) -> bool:
    # Debian's plain busybox needs a libc, which the pause image does not have. ldd fails on what has no interpreter.
    return program is not None and subprocess.run(["ldd", program], check=False, capture_output=True).returncode != 0


def _may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _install(packages: list[str], log: Path) -> None:
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run_logged(["apt-get", "update"], log, env=env)
    except CommandError as error:
        # One unreachable source of many fails the update; whether it mattered is for the installation to say.
        log.write_text(f"{log.read_text(errors='replace')}\nwent on after: {error}\n")
    run_logged(["apt-get", "install", "-y", "--no-install-recommends", *packages], log, env=env)


def _complaints(*, pods: bool) -> Iterator[str]:
    if sys.platform != "linux":
        yield "Linux is needed: the cluster lives in namespaces"
        return
    if not build.are_current() and (complaint := _go_complaint()):
        yield complaint
    if os.geteuid() != 0:
        yield "root is needed: namespaces with mounts and a bridge, and real containers"
        return
    if shutil.which("unshare") and shutil.which("setpriv") and shutil.which("ip"):
        yield from _namespace_complaint()
    if pods:
        yield from cgroups.complaints()


def _go_complaint() -> str | None:
    needed = ".".join(map(str, build.go_version()))
    if shutil.which("go") is None:
        return f"Go {needed} or newer is missing; it builds Kubernetes, and Debian's packages are often too old for it"
    found = output_of(["go", "env", "GOVERSION"], env=os.environ | {"GOTOOLCHAIN": "local"}).strip()
    is_enough = tuple(map(int, re.findall(r"\d+", found)[:3])) >= build.go_version()
    return None if is_enough else f"Go {needed} or newer is needed to build Kubernetes, found {found}"


def _namespace_complaint() -> Iterator[str]:
    trial = subprocess.run(
        in_own_namespaces(["sh", "-c", _TRIAL], "net", "ipc", "uts"), check=False, capture_output=True, text=True
    )
    if trial.returncode:
        yield f"namespaces with tmpfs, overlay and a bridge do not work here: {trial.stderr.strip()}"
