"""The sweep: rows of objects that are gone are withdrawn.

Invariants: it acts on rows of its own cluster and of namespaces that are served now, after a complete list; when that
would withdraw suspiciously many, it does nothing until people have agreed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.errors import SweepHeld
from pg_scheduler_operator.metrics import SWEEP_AGE, SWEEP_HELD_ROWS
from pg_scheduler_operator.resources import Key, Kind
from pg_scheduler_operator.status import Reason

if TYPE_CHECKING:
    from pg_scheduler.control import Source
    from pg_scheduler_operator.gateway import Resources
    from pg_scheduler_operator.gateway.scheduler import Rows
    from pg_scheduler_operator.metrics import Metrics

FEW: Final = 10
SHARE: Final = 0.2

logger = logging.getLogger(__name__)


def is_suspicious(gone: int, of: int) -> bool:
    """Whether so many objects are gone of so many that a lost list is likelier than a deletion."""
    return gone > max(FEW, SHARE * of)


class Sweeper:
    """Compares rows with objects; ``may_hold`` is False where nobody else could have lost the objects."""

    def __init__(self, resources: Resources, rows: Rows, metrics: Metrics, *, may_hold: bool = True) -> None:
        self._resources = resources
        self._rows = rows
        self._metrics = metrics
        self._may_hold = may_hold
        self._let_go: set[str] = set()

    def let_go(self, uid: str) -> None:
        """The object goes before its rows, with our knowledge: that it is gone is no sign of a lost list."""
        self._let_go.add(uid)

    async def run_once(self) -> int:
        """Withdraw the rows of objects that are gone; of how many objects.

        The rows are read first: an object made in between is in the list of objects, and its row not among those rows.

        Raises:
            SweepHeld: they are suspiciously many, and nobody has agreed.
        """
        known = set(self._let_go)
        sources = [source for source in await self._rows.open_sources() if self._resources.serves(source.tenant)]
        uids = await self._resources.uids() if sources else ()
        gone = [source for source in sources if source.uid not in uids]
        await self._brake(len([source for source in gone if source.uid not in known]), len(sources))
        for source in gone:
            key = Key(kind=Kind(source.kind), namespace=source.tenant, name=source.name)
            logger.info("%s is gone: its rows are withdrawn", key, extra={"object": str(key)})
            await self._withdraw(source)
        await self._rows.release_jobs([source.uid for source in gone if source.kind == Kind.SCHEDULED_JOB])
        self._let_go -= known
        self._metrics.mark(SWEEP_AGE)
        return len(gone)

    async def _brake(self, gone: int, of: int) -> None:
        is_held = self._may_hold and is_suspicious(gone, of) and not await self._rows.hold_sweep(gone, of)
        self._metrics.set(SWEEP_HELD_ROWS, gone if is_held else 0)
        if not is_held:
            await self._rows.release_sweep()
            return
        held = SweepHeld(
            f"the sweep is held: {gone} of {of} objects with rows are gone",
            why="so many at once are likelier lost than deleted",
            fix="look whether they are meant to be gone; then `pgscheduler sweep --confirm`",
        )
        await self._resources.warn(Reason.SWEEP_HELD, str(held))
        raise held

    async def _withdraw(self, source: Source) -> None:
        """What a schedule or a pool leaves behind; jobs are released together."""
        match Kind(source.kind):
            case Kind.PERIODIC_JOB:
                await self._rows.delete_schedule(source)
            case Kind.SCHEDULED_JOB:
                pass
            case Kind.WORKER_POOL:
                await self._rows.forget_pool(source.tenant, source.name, source.uid)
