"""Return jobs of dead workers to the queue.

Invariant: a job is requeued only when no living worker holds it by the database's clock. Two rescuers may run at
once: the second finds the rows already pending.
"""

import asyncio
import logging
import random
from dataclasses import dataclass

from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.service import keep_running
from pg_scheduler._store.jobs import ORPHANS_MAX, JobStore
from pg_scheduler._store.workers import WorkerStore
from pg_scheduler.job_status import JobStatus

logger = logging.getLogger("pg_scheduler.engine")


@dataclass(frozen=True, slots=True)
class Rescued:
    """What one sweep did."""

    dead_workers: int = 0
    requeued: int = 0
    failed: int = 0


class Rescuer:
    """The sweep."""

    def __init__(self, workers: WorkerStore, jobs: JobStore, *, own_lease: Lease, config: EngineConfig) -> None:
        self._workers = workers
        self._jobs = jobs
        self._own_lease = own_lease
        self._config = config
        self._wake = asyncio.Event()

    async def run_once(self) -> Rescued:
        """Mark the dead, then take their jobs: two statements, since the second needs a snapshot after the first."""
        # After an outage everyone looks dead; let the living beat first.
        if not self._own_lease.held_for_one_full_lease:
            return Rescued()
        dead = await self._workers.mark_dead()
        taken = await self._take_all()
        await self._jobs.forget_stopping()
        await self._jobs.promote_waiting()
        await self._workers.forget_dead()
        if taken:
            await self._jobs.wake_workers()
            logger.warning("rescued %d jobs of dead workers (newly dead: %d)", len(taken), len(dead))
        failed = taken.count(JobStatus.FAILED)
        return Rescued(dead_workers=len(dead), requeued=len(taken) - failed, failed=failed)

    async def run(self, stopping: asyncio.Event) -> None:
        """Sweep four times a lease, with jitter, until ``stopping``."""
        await keep_running("rescuer", self._pass, wake=self._wake, stopping=stopping)

    def wake(self) -> None:
        """End the present sleep."""
        self._wake.set()

    async def _take_all(self) -> list[JobStatus]:
        taken: list[JobStatus] = []
        while True:
            batch = await self._jobs.requeue_orphans(self._config.max_interruptions)
            taken += batch
            if len(batch) < ORPHANS_MAX:
                return taken

    async def _pass(self) -> float:
        await self.run_once()
        return self._config.sweep_seconds * random.uniform(0.8, 1.0)  # noqa: S311  jitter, not a secret
