"""Wait for a signal, never for a time.

Invariant: a wait ends by what it waits for, by its deadline, or by the death of what would have brought it about.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE_SECONDS = 0.05

T = TypeVar("T")


def nothing_to_check() -> None:
    """For waits on something that cannot die by itself."""


def wait_for(
    what: str, probe: Callable[[], T], *, timeout_seconds: float, check: Callable[[], None] = nothing_to_check
) -> T:
    """The first true answer of the probe.

    An AssertionError of the probe counts as "not yet": a test may wait for its own assertions. `check` raises when
    waiting on is pointless.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + timeout_seconds
    last: object = None
    while True:
        try:
            if answer := probe():
                return answer
            last = answer
        except AssertionError as error:
            last = error
        check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_seconds} s; last answer: {last!r}")
        time.sleep(_PAUSE_SECONDS)
