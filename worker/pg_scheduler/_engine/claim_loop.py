"""Take due jobs for the free slots of this worker, and sleep until there are any.

Invariant: never more jobs than free slots, none without a valid lease, and no task that this process has not
registered.
"""

import asyncio
from collections import deque
from operator import attrgetter

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.executor import Executor
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.lease import Lease, boot_seconds
from pg_scheduler._engine.service import keep_running
from pg_scheduler._engine.slots import Slots
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.wakeups import Wakeups
from pg_scheduler.tasks import Registry

LEASE_CHECK_SECONDS = 0.5
"""How soon a worker claims again once its beats are answered again."""


class ClaimLoop:
    """The way of a job from the table to the executor."""

    def __init__(
        self,
        jobs: JobStore,
        executor: Executor,
        slots: Slots,
        registry: Registry,
        *,
        lease: Lease,
        ghosts: Ghosts,
        config: EngineConfig,
        wakeups: Wakeups,
        wake: asyncio.Event,
    ) -> None:
        self._jobs = jobs
        self._executor = executor
        self._slots = slots
        self._registry = registry
        self._lease = lease
        self._ghosts = ghosts
        self._config = config
        self._wakeups = wakeups
        self._wake = wake
        self._empty_looks = 0
        self._queues = deque(config.queues)

    async def run_once(self) -> int:
        """Claim once and start what came, by priority and time; how many."""
        limit = min(self._slots.free, self._config.claim_limit)
        tasks = self._registry.keys()
        if limit <= 0 or not tasks or not self._lease.is_valid:
            return 0
        claimed = await self._claim(tasks, limit)
        self._executor.start(sorted(claimed, key=attrgetter("start_order")))
        return len(claimed)

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim whenever something is due and a slot is free, until ``stopping``."""
        await keep_running("claim loop", self._pass, wake=self._wake, stopping=stopping)

    async def _claim(self, tasks: list[str], limit: int) -> list[ClaimedJob]:
        self._queues.rotate()  # each queue is first in its turn, so that a full one starves none
        with self._ghosts.claim(boot_seconds()):
            claimed = await self._jobs.claim(
                self._lease.worker_id, self._config.tenant, list(self._queues), tasks, limit
            )
        return [job for job in claimed if not self._ghosts.is_disowned(job.token)]

    async def _pass(self) -> float:
        if not self._lease.is_valid:
            return LEASE_CHECK_SECONDS
        if self._slots.free <= 0:
            return self._wakeups.pause_when_full()
        if await self.run_once():
            self._empty_looks = 0
            return 0.0
        self._empty_looks += 1
        due_in = await self._jobs.next_due(self._config.tenant, self._config.queues, self._registry.keys())
        return self._wakeups.pause(due_in, self._empty_looks)
