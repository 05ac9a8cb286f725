"""A timer that is exact to a fraction of a millisecond and never early.

asyncio rounds what it waits for to whole milliseconds, and uvloop's timers fire up to 0.4 ms before their time (design
page 2 §2.3). Linux has timers that are files, and an event loop watches files exactly.
"""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Self

_TFD_NONBLOCK = os.O_NONBLOCK if sys.platform == "linux" else 0
_TFD_CLOEXEC = os.O_CLOEXEC if sys.platform == "linux" else 0
_ABSOLUTE = 1


class Alarm:
    """Calls ``ring`` at the moment it is set to; a context manager, to be used in a running loop."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._file = _timer_file()
        self._handle: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        if self._file is not None:
            self._loop.add_reader(self._file, self._rung)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)

    def set(self, at: float) -> None:
        """Ring at this moment of the monotonic clock instead of an earlier wish; a past one rings at once."""
        if self._file is not None:
            _arm(self._file, max(at, 1e-9))
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(max(0.0, at - monotonic()), self._ring)

    def _rung(self) -> None:
        if self._file is not None:
            os.read(self._file, 8)
        self._ring()


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSetting(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def _timer_file() -> int | None:
    """A descriptor of ``timerfd_create(2)`` on the monotonic clock; None where there is no such thing."""
    if sys.platform != "linux":
        return None
    descriptor = _libc().timerfd_create(1, _TFD_NONBLOCK | _TFD_CLOEXEC)
    return None if descriptor < 0 else int(descriptor)


def _arm(descriptor: int, at: float) -> None:
    seconds, fraction = divmod(at, 1.0)
    setting = _TimerSetting(_Timespec(0, 0), _Timespec(int(seconds), int(fraction * 1e9) + 1))
    _libc().timerfd_settime(descriptor, _ABSOLUTE, ctypes.byref(setting), None)


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
