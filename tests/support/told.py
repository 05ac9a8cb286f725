"""What a store is asked for, in the order in which it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pg_scheduler._store.jobs import JobStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest


def tell_of_calls(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """The calls of these methods of the job store, as they begin; a test may add what else it sees."""
    told: list[str] = []

    def tell_of(name: str) -> None:
        real: Callable[..., Awaitable[Any]] = getattr(JobStore, name)

        async def told_of(*args: Any, **named: Any) -> Any:
            told.append(name)
            return await real(*args, **named)

        monkeypatch.setattr(JobStore, name, told_of)

    for name in names:
        tell_of(name)
    return told
