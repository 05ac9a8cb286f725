"""Single keys from a terminal.

Invariant: inside the block the terminal gives each key at once and does not echo it; after the block it is as it was.
"""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self


class Keys:
    """Calls what stands for a key when it is pressed, or ``gone`` when the terminal is; Ctrl-C stays a signal."""

    def __init__(self, actions: Mapping[str, Callable[[], None]], *, gone: Callable[[], None]) -> None:
        self._actions = actions
        self._gone = gone
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(descriptor)
        tty.setcbreak(descriptor)
        asyncio.get_running_loop().add_reader(descriptor, self._pressed, descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        descriptor = sys.stdin.fileno()
        asyncio.get_running_loop().remove_reader(descriptor)
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, self._before)

    def _pressed(self, descriptor: int) -> None:
        try:
            pressed = os.read(descriptor, 64)
        except OSError:
            pressed = b""
        if not pressed:
            asyncio.get_running_loop().remove_reader(descriptor)
            self._gone()
        for key in pressed.decode(errors="replace"):
            action = self._actions.get(key)
            if action is not None:
                action()
