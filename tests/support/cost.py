"""What a call costs in lines of Python run: the same on every machine, however busy it is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

T = TypeVar("T")


def lines_run(call: Callable[[], T]) -> tuple[T, int]:
    """What ``call`` answers, and how many lines ran meanwhile."""
    lines = 0

    def count(_: FrameType, event: str, __: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        answer = call()
    finally:
        sys.settrace(before)
    return answer, lines
