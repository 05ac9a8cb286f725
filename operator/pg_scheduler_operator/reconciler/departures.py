"""Objects that the watch has seen go: what is left of their rows is withdrawn.

The row of a PeriodicJob is made before its object is held by our finalizer, so that thousands of them need not wait for
a request each. Until it is held, an object goes without asking; the watch tells, and where nobody listens, the sweep.

Invariants: rows are withdrawn by the uid that has gone, whoever has the name by now; what was told is forgotten only
when its row is, and a body that was read before is not acted upon.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pg_scheduler.control import Source

if TYPE_CHECKING:
    from pg_scheduler_operator.gateway.scheduler import Rows
    from pg_scheduler_operator.resources import Key


class Departures:
    """Uids that have gone, by key."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._gone: defaultdict[Key, set[str]] = defaultdict(set)

    def tell(self, key: Key, uid: str) -> None:
        """The object of this uid is no more."""
        self._gone[key].add(uid)

    async def withdraw(self, key: Key) -> bool:
        """Forget the rows of those that have gone from a key; whether there was such an object.

        A turn begins with it: whatever an earlier turn has written of one that had gone meanwhile, goes too.
        """
        if key not in self._gone:
            return False
        for uid in tuple(self._gone[key]):
            await self._forget(self._source(key, uid))
            self._gone[key].discard(uid)
        if not self._gone[key]:
            del self._gone[key]
        return True

    async def _forget(self, source: Source) -> None:
        """Most have no row any more, since their deletion has waited for us: those are asked for together."""
        if await self._rows.schedule(source) is not None:
            await self._rows.delete_schedule(source)

    def _source(self, key: Key, uid: str) -> Source:
        return Source(
            cluster=self._rows.cluster, kind=key.kind, tenant=key.namespace, name=key.name, uid=uid, generation=0
        )
