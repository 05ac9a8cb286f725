"""Notice within seconds that a worker's process has gone, although its lease is long.

Invariant: suspicion takes no job. It shortens the lease of a worker that has no heartbeat backend any more, so that a
living one, which connects anew and beats, loses nothing, and the sweep that follows decides as always.
"""

import asyncio
import logging
from collections.abc import Callable

from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.service import keep_running
from pg_scheduler._store.workers import WorkerStore

LOOK_SECONDS = 60.0
"""How often it looks without being told: the claim loop's look finds the missing at each poll."""
GRACE_SECONDS = 8.0
"""How long a worker without a backend has to connect and beat."""

logger = logging.getLogger("pg_scheduler.engine")


class Suspicion:
    """The look at the others' backends."""

    def __init__(
        self,
        workers: WorkerStore,
        *,
        own_lease: Lease,
        sweep_in: Callable[[float], None],
    ) -> None:
        self._workers = workers
        self._own_lease = own_lease
        self._sweep_in = sweep_in
        self._wake = asyncio.Event()

    async def run_once(self) -> int:
        """Look once; how many workers have no backend. Plans a sweep for the instant when the first lease ends."""
        server_started_at = self._own_lease.server_started_at
        # After an outage nobody has a backend; and who has just lost its own is in no place to judge.
        if server_started_at is None or not self._own_lease.held_for_one_full_lease:
            return 0
        suspects = await self._workers.suspect(self._own_lease.worker_id, GRACE_SECONDS, server_started_at)
        for suspect in suspects:
            if suspect.is_new:
                logger.warning("worker %s has no connection: %g s to come back", suspect.worker_id, GRACE_SECONDS)
        if suspects:
            self._sweep_in(min(suspect.seconds_left for suspect in suspects))
        return len(suspects)

    async def run(self, stopping: asyncio.Event) -> None:
        """Look when the claim loop's look has found somebody missing, and now and then, until ``stopping``."""
        await keep_running("suspicion", self._pass, wake=self._wake, stopping=stopping)

    def wake(self) -> None:
        """End the present sleep."""
        self._wake.set()

    async def _pass(self) -> float:
        await self.run_once()
        return LOOK_SECONDS
