"""Many keys at once, as at the start: their objects are read by the page, not one by one.

Invariants: a key is taken before the pages are read, so that whatever happens to its object later puts it again; one
that no page has served, be it that the object is gone or that reading fails, goes back to the queue. Until the crowd is
worked off, statuses wait but for those of ends: to tell one costs the API server more than all that makes its row.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler_operator.pacing import Rank
from pg_scheduler_operator.resources import Key, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from pg_scheduler_operator.gateway import Resources
    from pg_scheduler_operator.pacing import Pacer
    from pg_scheduler_operator.reconciler.queue import KeyQueue

CROWD: Final = 500
"""A page: what is not more is read faster one by one."""

FEW: Final = 20
"""What is left of a crowd when it is no crowd any more."""

AT_ONCE: Final = 250
"""So many share a statement."""

ROUND_SECONDS: Final = 60.0
"""After so long no further page is begun: a round that crawls shows as one that ends late, and statuses have a turn."""


class Crowds:
    """Works off what waits when it is more than a page."""

    def __init__(
        self,
        queue: KeyQueue,
        resources: Resources,
        pacer: Pacer[Key],
        work_on: Callable[[Key, Mapping[str, Any] | None], Awaitable[None]],
    ) -> None:
        self._queue = queue
        self._resources = resources
        self._pacer = pacer
        self._work_on = work_on

    async def run_once(self) -> int:
        """Work off all that waits if it is many, and what has come by then; how many were taken.

        Raises:
            KubernetesError: the pages cannot be read; meanwhile the objects are read one by one.
        """
        count = 0
        until = monotonic() + ROUND_SECONDS
        with self._pacer.only(Rank.FINISHED):
            while taken := self._queue.take_all(if_more_than=FEW if count else CROWD):
                count += len(taken)
                if len(taken) > CROWD:
                    await self._work_off(taken, until)
                else:
                    await self._each(dict.fromkeys(taken))
                if monotonic() > until:
                    break
        return count

    async def _work_off(self, taken: Collection[Key], until: float) -> None:
        left = set(taken)
        try:
            for kind in {key.kind for key in taken}:
                await self._work_off_pages(kind, left, until)
        finally:
            for key in left:
                self._queue.done(key, again_in_seconds=0)

    async def _work_off_pages(self, kind: Kind, left: set[Key], until: float) -> None:
        async for bodies in self._resources.pages(kind):
            page = {_key_of(kind, body): body for body in bodies}
            await self._each({key: page[key] for key in page.keys() & left})
            left.difference_update(page)
            if monotonic() > until or not any(key.kind is kind for key in left):
                return

    async def _each(self, bodies: Mapping[Key, Mapping[str, Any] | None]) -> None:
        rest = iter(bodies.items())

        async def work() -> None:
            for key, body in rest:
                await self._work_on(key, body)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(bodies))):
                group.create_task(work())


def _key_of(kind: Kind, body: Mapping[str, Any]) -> Key:
    metadata = body["metadata"]
    return Key(kind=kind, namespace=metadata["namespace"], name=metadata["name"])
