"""One claim: due jobs for free slots of this worker.

Invariant: never more jobs than free slots, of which a claim under way keeps what it may bring; none without a valid
lease, none that was disowned, and no task that this process has not registered.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

from pg_scheduler._domain.jobs import ClaimedJob, start_order
from pg_scheduler._domain.shares import Shares, WorkerSettings
from pg_scheduler._engine.clock import DatabaseClock
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.lease import Lease, boot_seconds
from pg_scheduler._engine.slots import Slots
from pg_scheduler._engine.starts import Starts
from pg_scheduler._engine.turns import Turn
from pg_scheduler._store.jobs import JobStore
from pg_scheduler.tasks import Registry

logger = logging.getLogger("pg_scheduler.engine")


class Claiming:
    """Claims on any connection.

    Attributes:
        is_full: whether the last claim brought all that it asked for.
        is_behind: whether what it brought last was due already, too: there is a backlog.
    """

    def __init__(
        self,
        starts: Starts,
        slots: Slots,
        registry: Registry,
        *,
        lease: Lease,
        ghosts: Ghosts,
        clock: DatabaseClock,
        config: EngineConfig,
    ) -> None:
        self._starts = starts
        self._slots = slots
        self._registry = registry
        self._lease = lease
        self._ghosts = ghosts
        self._clock = clock
        self._config = config
        self._shares = Shares(config.queues)
        self._limited: frozenset[str] = frozenset()
        self.is_full = self.is_behind = False

    @property
    def most(self) -> int:
        """How many jobs a claim may ask for now."""
        if not self._lease.is_valid or not self._registry.claimable():
            return 0
        return min(self._slots.free, self._config.claim_limit)

    @property
    def limited_first(self) -> bool:
        """Whether it is the turn of a limited queue."""
        return bool(self._limited) and self._shares.order()[0] in self._limited

    def heed(self, settings: WorkerSettings) -> None:
        """What pools say of this worker's queues, as it stands in the database now."""
        self._shares.weigh(settings.weights)
        self._limited = settings.limited

    def any_limited(self, jobs: Iterable[ClaimedJob]) -> bool:
        """Whether others may wait for the end of one of these."""
        return bool(self._limited) and any(job.queue in self._limited for job in jobs)

    def serves(self, queue: str, task: str) -> bool:
        """Whether a claim could bring such a job, and has nothing else to look at for that."""
        is_ours = queue in self._config.queues and queue not in self._limited
        return self._lease.is_valid and is_ours and task in self._registry.claimable()

    async def take(self, jobs: JobStore, limit: int, *, turn: Turn = Turn.PLAIN, floor: datetime | None = None) -> int:
        """Claim once, and see that what came is started, by priority and time; how many came."""
        with self._ghosts.claim(boot_seconds()), self._slots.reserved(limit):
            claimed = await self._claimed(jobs, limit, turn=turn, floor=floor)
        mine = sorted(self._ghosts.without_disowned(claimed), key=start_order)
        self.is_full = len(mine) >= limit
        self.is_behind = self.is_full and self._clock.has_passed(mine[-1].execution_time)
        self._start(mine)
        return len(mine)

    async def _claimed(self, jobs: JobStore, limit: int, *, turn: Turn, floor: datetime | None) -> list[ClaimedJob]:
        queues = [queue for queue in self._shares.order() if (queue in self._limited) == (turn is Turn.LIMITED)]
        if not queues:
            return []
        me = (self._lease.worker_id, self._config.tenant, queues, self._registry.claimable(), limit)
        # Behind, a slot is too dear to let it wait for its job's instant.
        within_seconds = 0.0 if self.is_behind else self._config.prefetch_seconds
        match turn:
            case Turn.PLAIN:
                claimed = await jobs.claim(*me, within_seconds=within_seconds, floor=floor)
            case Turn.KEYED:
                claimed = await jobs.claim_keyed(*me, within_seconds=within_seconds)
            case Turn.LIMITED:
                claimed = await jobs.claim_limited(*me)
            case _:
                assert_never(turn)
        self._shares.charge({queues[0]: len(claimed)} if len(queues) == 1 else Counter(job.queue for job in claimed))
        return claimed

    def _start(self, claimed: list[ClaimedJob]) -> None:
        runnable = [job for job in claimed if job.attempt]
        self._starts.start(runnable)
        if len(runnable) < len(claimed):
            logger.warning("%d jobs expired: no worker could start them in time", len(claimed) - len(runnable))
