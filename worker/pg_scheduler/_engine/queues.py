"""Queues as people see them: paused, resumed, listed.

Invariant: what is written of a queue was checked here first.
"""

from pg_scheduler._domain import checks
from pg_scheduler._domain.options import NAME_BYTES_MAX
from pg_scheduler._store.listing import QueueStore
from pg_scheduler.listing import QueueInfo

REASON_BYTES_MAX = 1000


class Queues:
    """Those of one tenant."""

    def __init__(self, store: QueueStore) -> None:
        self._store = store

    async def pause(self, queue: str, *, reason: str | None, by: str | None) -> None:
        """Let no worker start anything more of it."""
        await self._store.pause(
            checks.checked_text("queue", queue, NAME_BYTES_MAX),
            by=None if by is None else checks.checked_text("by", by, NAME_BYTES_MAX),
            reason=None if reason is None else checks.checked_text("reason", reason, REASON_BYTES_MAX),
        )

    async def resume(self, queue: str) -> bool:
        """Let it go on; whether it was paused."""
        return await self._store.resume(checks.checked_text("queue", queue, NAME_BYTES_MAX))

    async def all(self) -> list[QueueInfo]:
        """Those that were ever paused or served, by name."""
        return await self._store.all()
