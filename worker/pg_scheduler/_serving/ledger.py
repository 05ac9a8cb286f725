"""The ledger's figures, read by the clock and never by a scrape.

Invariants: two readings are at least ``INTERVAL_SECONDS`` apart, also where one fails; a counter never falls, for
Prometheus takes a fall for a restart and would count all of what is left anew. What a deleted schedule takes out of the
view stays counted.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from time import monotonic

from pg_scheduler._store.ledger import LedgerStore
from pg_scheduler.errors import DatabaseNotReady, DatabaseUnreachable
from pg_scheduler.listing import ScheduleLedger

INTERVAL_SECONDS = 60.0
COUNTED = (
    *("planned", "ran", "failed", "coalesced", "skipped_overlap", "skipped_suspended", "missed", "cancelled"),
    "unrecorded",
)
"""What of the ledger only grows while no schedule is deleted."""

logger = logging.getLogger("pg_scheduler.serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The ledger as it was at ``read_at`` of the monotonic clock; ``ticks`` are the counters, by outcome."""

    ledger: ScheduleLedger
    ticks: Mapping[str, int]
    read_at: float


def reading_after(last: Reading | None, ledger: ScheduleLedger, *, read_at: float) -> Reading:
    """The next reading: counters go on by what the ledger has gained since the last one."""
    now = asdict(ledger)
    if last is None:
        return Reading(ledger=ledger, ticks={name: now[name] for name in COUNTED}, read_at=read_at)
    before = asdict(last.ledger)
    ticks = {name: last.ticks[name] + max(0, now[name] - before[name]) for name in COUNTED}
    return Reading(ledger=ledger, ticks=ticks, read_at=read_at)


class LedgerReader:
    """Reads the ledger of one tenant, again and again.

    Attributes:
        reading: the last one that succeeded.
    """

    def __init__(self, store: LedgerStore, *, tenant: str, clock: Callable[[], float] = monotonic) -> None:
        self._store = store
        self._tenant = tenant
        self._clock = clock
        self._is_failing = False
        self.reading: Reading | None = None

    async def run_once(self) -> None:
        """Read it; where the database does not give it, the last reading stays and grows old."""
        try:
            ledger = await self._store.totals(self._tenant)
        except (DatabaseUnreachable, DatabaseNotReady) as error:
            if not self._is_failing:
                logger.warning("the ledger's metrics grow old: %s", error)
            self._is_failing = True
            return
        self._is_failing = False
        self.reading = reading_after(self.reading, ledger, read_at=self._clock())

    async def run(self) -> None:
        """Read it about once a minute until cancelled; workers that start together spread."""
        while True:
            await self.run_once()
            await asyncio.sleep(INTERVAL_SECONDS * random.uniform(1.0, 1.2))  # noqa: S311  jitter, not a secret

    @property
    def age_seconds(self) -> float | None:
        """How old the reading is; None without one."""
        return None if self.reading is None else self._clock() - self.reading.read_at
