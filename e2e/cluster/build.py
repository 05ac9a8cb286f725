"""Kubernetes and etcd from source, by the go.mod files in tools/.

Invariant: the folder that `binaries` returns holds every program below, built from exactly the sums committed here. Go
checks them against go.sum, and the folder's name is their hash: an update of go.mod is a new folder.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import cache
from cluster.processes import run_logged

if TYPE_CHECKING:
    from cluster.progress import Progress

_TOOLS = Path(__file__).parent / "tools"
_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOWORK": "off",
    "GOTOOLCHAIN": "local",
    "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    name: str
    module: str
    package: str


PROGRAMS = (
    Program(name="etcd", module="etcd", package="go.etcd.io/etcd/server/v3"),
    *(
        Program(name=name, module="k8s", package=f"k8s.io/kubernetes/cmd/{name}")
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet")
    ),
)


def binaries_folder() -> Path:
    sums = [(_TOOLS / module / name).read_bytes() for module in ("etcd", "k8s") for name in ("go.mod", "go.sum")]
    names = " ".join(program.name for program in PROGRAMS)
    return cache.folder() / cache.digest(*sums, names, kubernetes_version(), platform.machine()) / "bin"


def are_current() -> bool:
    return binaries_folder().is_dir()


def binaries(progress: Progress) -> Path:
    """The folder of the programs, built now if it is not there. Six to seven minutes on two cores the first time."""
    target = binaries_folder()
    if not are_current():
        with cache.making(target) as work:
            (work / target.name).mkdir()
            for program in PROGRAMS:
                with progress.phase(f"build {program.name}", slow=True):
                    _build(program, work / target.name, cache.folder() / "build.log")
    return target


def kubernetes_version() -> str:
    """As in go.mod: "1.36.3"."""
    return _directive("k8s", r"k8s\.io/kubernetes v(\d+\.\d+\.\d+)")


def go_version() -> tuple[int, ...]:
    """The lowest Go that builds all of it."""
    needed = (_directive(module, r"go (\d+\.\d+(?:\.\d+)?)") for module in ("etcd", "k8s"))
    return max(tuple(map(int, version.split("."))) for version in needed)


def _directive(module: str, pattern: str) -> str:
    found = re.search(rf"^\s*{pattern}\b", (_TOOLS / module / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"tools/{module}/go.mod has no line {pattern}")
    return found.group(1)


def _build(program: Program, folder: Path, log: Path) -> None:
    flags = "-s -w" + (_stamp() if program.module == "k8s" else "")
    run_logged(
        ["go", "build", "-ldflags", flags, "-o", str(folder / program.name), program.package],
        log,
        env=os.environ | _ENVIRONMENT,
        cwd=_TOOLS / program.module,
        isolated=True,
    )


def _stamp() -> str:
    # Unstamped, the API server calls itself v0.0.0 and kubectl, Helm and charts refuse it as too old.
    major, minor, _ = kubernetes_version().split(".")
    values = {
        "gitVersion": f"v{kubernetes_version()}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    return "".join(f" -X k8s.io/component-base/version.{key}={value}" for key, value in values.items())
