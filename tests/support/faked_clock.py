"""A wall clock that lies to the processes that are started with it, and goes on lying differently when told so.

Invariant: clocks that only measure time, such as CLOCK_MONOTONIC, are the machine's own. Nothing of libfaketime, which
never cleans up behind a process that was killed, is left behind.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta


SHARED = Path("/dev/shm")  # noqa: S108  where libfaketime keeps its own
ALL, OURS = "/usr/lib/*/faketime/libfaketimeMT.so.1", "*faketime_*"


@dataclass(frozen=True, slots=True)
class FakedClock:
    """``file`` says how far it is off."""

    file: Path

    def put(self, ahead: timedelta) -> None:
        """So far ahead of the machine's clock, or behind it, in one step that a process sees within a second."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{ahead.total_seconds():+.3f}\n")
        new.replace(self.file)

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that shall believe it."""
        return {
            "LD_PRELOAD": str(next(Path("/").glob(ALL[1:]))),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@contextmanager
def faked_clock(file: Path, ahead: timedelta) -> Iterator[FakedClock]:
    before = set(SHARED.glob(OURS))
    clock = FakedClock(file)
    clock.put(ahead)
    try:
        yield clock
    finally:
        for left in set(SHARED.glob(OURS)) - before:
            left.unlink(missing_ok=True)
