"""Return jobs of dead workers to the queue.

Invariant: a job is requeued only when no living worker holds it by the database's clock. Two rescuers may run at
once: the second finds the rows already pending. After an outage everyone looks dead, so a sweep marks nobody before its
own lease has held unbroken for one lease, over the same start of the server.
"""

import asyncio
import logging
import random
from dataclasses import dataclass

from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.lease import Lease, boot_seconds
from pg_scheduler._engine.service import keep_running
from pg_scheduler._store.jobs import ORPHANS_MAX, JobStore
from pg_scheduler._store.workers import RETIRED_REASON, WorkerStore
from pg_scheduler.job_status import JobStatus

SWEEPS_TO_RETIRE = 40
"""Every how many sweeps schedules are retired, ten minutes with the default lease: it is a matter of a day."""
SWEEP_MARGIN_SECONDS = 0.05
"""A planned sweep comes so much after the lease for whose end it is planned."""

logger = logging.getLogger("pg_scheduler.engine")


@dataclass(frozen=True, slots=True)
class Rescued:
    """What one sweep did."""

    dead_workers: int = 0
    requeued: int = 0
    failed: int = 0


class Rescuer:
    """The sweep.

    Attributes:
        rescued: how many jobs of dead workers, of whatever tenant, it has given each status.
    """

    def __init__(self, workers: WorkerStore, jobs: JobStore, *, own_lease: Lease, config: EngineConfig) -> None:
        self._workers = workers
        self._jobs = jobs
        self._own_lease = own_lease
        self._config = config
        self._wake = asyncio.Event()
        self._sweeps = 0
        self._planned_at: float | None = None
        self.rescued = {JobStatus.PENDING: 0, JobStatus.FAILED: 0}

    async def run_once(self) -> Rescued:
        """Mark the dead, then take their jobs: two statements, since the second needs a snapshot after the first."""
        if not self._own_lease.held_for_one_full_lease:
            return Rescued()
        needs = await self._workers.sweep_needs()
        dead = await self._workers.mark_dead(self._own_lease.server_started_at) if needs.late else []
        rescued = await self._take_from(dead) if dead or needs.orphans else Rescued()
        if needs.stopping:
            await self._jobs.forget_stopping()
        if needs.waiting:
            await self._jobs.promote_waiting()
        if needs.buried:
            await self._workers.forget_dead()
        if self._sweeps % SWEEPS_TO_RETIRE == 0:
            await self._retire_schedules()
        self._sweeps += 1
        return rescued

    async def take_from_the_dead(self, *, pod_uid: str | None = None, tenant: str = "") -> Rescued:
        """Take the jobs of workers that are marked already, and of earlier processes of this pod; needs no lease."""
        dead = await self._workers.bury_predecessors(pod_uid, tenant) if pod_uid else []
        return await self._take_from(dead)

    def sweep_in(self, seconds: float) -> None:
        """Sweep in so many seconds, besides the usual times."""
        at = boot_seconds() + seconds + SWEEP_MARGIN_SECONDS
        if self._planned_at is None or at < self._planned_at:
            self._planned_at = at
            self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Sweep four times a lease, with jitter, until ``stopping``."""
        await keep_running("rescuer", self._pass, wake=self._wake, stopping=stopping)

    def wake(self) -> None:
        """End the present sleep."""
        self._wake.set()

    async def _take_from(self, dead: list[str]) -> Rescued:
        taken = await self._take_all()
        if taken:
            await self._jobs.wake_workers()
            logger.warning("rescued %d jobs of dead workers (newly dead: %d)", len(taken), len(dead))
        failed = taken.count(JobStatus.FAILED)
        return Rescued(dead_workers=len(dead), requeued=len(taken) - failed, failed=failed)

    async def _take_all(self) -> list[JobStatus]:
        taken: list[JobStatus] = []
        while True:
            batch = await self._jobs.requeue_orphans(self._config.max_interruptions)
            taken += batch
            for status in batch:
                self.rescued[status] += 1
            if len(batch) < ORPHANS_MAX:
                return taken

    async def _retire_schedules(self) -> None:
        for uid in await self._workers.retire_schedules():
            logger.warning("schedule %s is retired: %s", uid, RETIRED_REASON)

    async def _pass(self) -> float:
        if self._planned_at is not None and self._planned_at <= boot_seconds():
            self._planned_at = None
        await self.run_once()
        pause = self._config.sweep_seconds * random.uniform(0.8, 1.0)  # noqa: S311  jitter, not a secret
        return pause if self._planned_at is None else min(pause, max(0.0, self._planned_at - boot_seconds()))
