"""Tell what is being waited for and how long it took.

Invariant: every phase that can take seconds writes a line when it is over, a slow one also when it begins, so the phase
that hangs is the one without its line.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def to_standard_error(line: str) -> None:
    sys.stderr.write(f"e2e: {line}\n")
    sys.stderr.flush()


class Progress:
    def __init__(self, write: Callable[[str], None] = to_standard_error) -> None:
        self.say = write

    @contextmanager
    def phase(self, name: str, *, slow: bool = False) -> Iterator[None]:
        if slow:
            self.say(f"{name} ...")
        started = time.monotonic()
        yield
        self.say(f"{name}: {time.monotonic() - started:.1f} s")
