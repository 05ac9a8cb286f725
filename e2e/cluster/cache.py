"""The user's cache folder: what is slow to make, made once.

Invariant: a path that exists is complete. Everything is made under a temporary name beside its place and renamed, so a
build that was killed leaves nothing that a later run takes for whole. Names carry a hash of what went in: nothing in
the cache is ever out of date, only unused.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pgscheduler-e2e"


@contextmanager
def locked() -> Iterator[None]:
    """Let one run prepare at a time; the second waits and then finds everything made."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def making(target: Path) -> Iterator[Path]:
    """Give a folder to work in; the entry called like the target becomes the target if the body succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    try:
        yield work
        (work / target.name).rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sweep() -> None:
    """Remove what killed builds left. Only under the lock: then nobody else is making anything."""
    for place in ("", "*/"):
        for leftover in folder().glob(f"{place}.making-*"):
            shutil.rmtree(leftover, ignore_errors=True)


def keep_newest(entries: Iterable[Path], *, keep: int) -> None:
    for entry in sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]:
        entry.unlink()


def digest(*parts: str | bytes) -> str:
    """Twelve hex digits over the parts and their borders."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(f"{len(content)}:".encode())
        total.update(content)
    return total.hexdigest()[:12]
