"""Which event loop a process of ours runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop where it is installed, else the standard one."""
    try:
        import uvloop  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop
