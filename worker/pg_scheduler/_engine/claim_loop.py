"""Take due jobs for the free slots of this worker, and sleep until there are any.

Invariant: never more jobs than free slots, none without a valid lease, and no task that this process has not
registered.

Jobs with a concurrency key are asked for by a statement of their own, only while some are due: then the two statements
take turns, so that neither kind keeps the other from the slots.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from operator import attrgetter

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.executor import Executor
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.lease import Lease, boot_seconds
from pg_scheduler._engine.service import keep_running
from pg_scheduler._engine.slots import Slots
from pg_scheduler._store.jobs import JobStore, NextDue
from pg_scheduler.tasks import Registry

LEASE_CHECK_SECONDS = 0.5
"""How soon a worker claims again once its beats are answered again."""
PROBE_SECONDS = 0.1
"""How soon a worker that claims without a pause sees that a job with a concurrency key has fallen due."""

Claim = Callable[[str, str, list[str], list[str], int], Awaitable[list[ClaimedJob]]]


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
        wake: asyncio.Event,
    ) -> None:
        self._jobs = jobs
        self._executor = executor
        self._slots = slots
        self._registry = registry
        self._lease = lease
        self._ghosts = ghosts
        self._config = config
        self._wake = wake
        self._queues = deque(config.queues)
        self._keyed_are_due = False
        self._keyed_first = False
        self._probe_at = 0.0

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
        claimed: list[ClaimedJob] = []
        with self._ghosts.claim(boot_seconds()):
            for claim in self._claims():
                claimed = await claim(self._lease.worker_id, self._config.tenant, list(self._queues), tasks, limit)
                if claimed:
                    break
        return [job for job in claimed if not self._ghosts.is_disowned(job.token)]

    def _claims(self) -> list[Claim]:
        if not self._keyed_are_due:
            return [self._jobs.claim]
        self._keyed_first = not self._keyed_first
        claims: list[Claim] = [self._jobs.claim_keyed, self._jobs.claim]
        return claims if self._keyed_first else claims[::-1]

    async def _probe(self) -> NextDue:
        self._probe_at = boot_seconds() + PROBE_SECONDS
        due = await self._jobs.next_due(self._config.tenant, self._config.queues, self._registry.keys())
        self._keyed_are_due = due.keyed is not None and due.keyed <= 0
        return due

    async def _pass(self) -> float:
        if not self._lease.is_valid:
            return LEASE_CHECK_SECONDS
        if self._slots.free <= 0:
            return self._config.poll_seconds  # a released slot wakes this loop
        asked_for_keyed = self._keyed_are_due
        if await self.run_once():
            if boot_seconds() >= self._probe_at:
                await self._probe()
            return 0.0
        due_in = (await self._probe()).first
        if self._keyed_are_due and not asked_for_keyed:
            return 0.0
        return self._pause(due_in)

    def _pause(self, due_in: float | None) -> float:
        if due_in is None:
            return self._config.poll_seconds
        if due_in <= 0:  # due, but not ours to have: another worker holds the row's lock, or the key's
            return self._config.polling.min_interval
        return min(self._config.poll_seconds, due_in)
