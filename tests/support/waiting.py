"""Wait for a signal, never for a time.

Invariant: a wait ends by what it waits for or by its deadline, and then says what it last saw. The deadline is for what
never comes: it costs a green run nothing, and may not depend on how fast a machine is.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")

PATIENCE = 100
"""Seconds. A test that waits in vain fails by this before pytest's own timeout ends it."""
SLACK = 4
"""What has a time by design is given so many times as much: a machine may be that slow."""
PAUSE_SECONDS = 0.01


@overload
def until(probe: Callable[[], Awaitable[T]], *, timeout: float = ..., what: str = ...) -> Coroutine[Any, Any, T]: ...


@overload
def until(probe: Callable[[], T], *, timeout: float = ..., what: str = ...) -> Coroutine[Any, Any, T]: ...


async def until(
    probe: Callable[[], T | Awaitable[T]],
    *,
    timeout: float = PATIENCE,  # noqa: ASYNC109 - a test's deadline, with a message of its own
    what: str = "",
) -> T:
    """The first true answer of ``probe``, a plain or an async function.

    An AssertionError of the probe counts as "not yet", so that a test may wait for its own assertions.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = await _answer(probe)
        if seen and not isinstance(seen, AssertionError):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or _source(probe)}; last seen: {seen!r}")
        await asyncio.sleep(PAUSE_SECONDS)


async def _answer(probe: Callable[[], T | Awaitable[T]]) -> T | AssertionError:
    try:
        answer = probe()
        return await answer if inspect.isawaitable(answer) else answer
    except AssertionError as error:
        return error


def _source(probe: Callable[[], object]) -> str:
    try:
        return " ".join(inspect.getsource(probe).split())
    except (OSError, TypeError):
        return repr(probe)
