"""Jobs that have outlived two workers run alone.

Invariants: such a job starts only on a worker that holds nothing, and nothing else is claimed until it has ended, so
that the next death is charged to it and to nobody else. Where no worker is ever idle, one of them makes room, for a
part of its time at most.
"""

from collections.abc import Callable

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.lease import Lease, boot_seconds
from pg_scheduler._engine.slots import Slots
from pg_scheduler._store.jobs import JobStore
from pg_scheduler.tasks import Registry

BUSY_SECONDS = 60.0
"""A worker that has not been idle for so long asks whether it must make room."""
ROOM_SECONDS = 60.0
"""How long it claims nothing so as to become idle; then it works on for four times as long before it asks again."""
REST_SECONDS = 4 * ROOM_SECONDS


class Quarantine:
    """What the claim loop asks before it claims anything else."""

    def __init__(
        self,
        jobs: JobStore,
        slots: Slots,
        registry: Registry,
        *,
        lease: Lease,
        ghosts: Ghosts,
        config: EngineConfig,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        self._jobs = jobs
        self._slots = slots
        self._registry = registry
        self._lease = lease
        self._ghosts = ghosts
        self._config = config
        self._clock = clock
        self._token: int | None = None
        self._is_expected = self._is_asking = False
        self._ask_at = clock() + BUSY_SECONDS
        self._room_until = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether nothing else may be claimed: a job runs alone here, is asked for, or room is being made for one."""
        return self._runs_alone or self._is_asking or (not self._slots.is_idle and self._clock() < self._room_until)

    def expect(self) -> None:
        """Somebody has seen one due."""
        self._is_expected = True

    async def run_once(self) -> ClaimedJob | None:
        """A job to start alone, if this worker holds nothing and one was seen to be due."""
        now = self._clock()
        if self._slots.is_idle:
            return await self._look(now)
        if not self._runs_alone and now >= self._ask_at:
            must = await self._jobs.must_make_room(self._lease.worker_id, *self._mine())
            self._ask_at = now + (ROOM_SECONDS + REST_SECONDS if must else BUSY_SECONDS)
            self._room_until = now + ROOM_SECONDS if must else 0.0
        return None

    @property
    def _runs_alone(self) -> bool:
        return self._token is not None and self._slots.holds(self._token)

    async def _look(self, now: float) -> ClaimedJob | None:
        made_room = now < self._room_until
        self._ask_at, self._room_until = now + BUSY_SECONDS, 0.0
        if not self._is_expected and not made_room:
            return None
        self._is_expected = False
        job = await self._asked()
        if job is None or self._ghosts.is_disowned(job.token):
            return None
        self._token = job.token
        self._is_expected = True  # there may be more, and they come one after the other
        return job

    async def _asked(self) -> ClaimedJob | None:
        self._is_asking = True
        try:
            with self._ghosts.claim(boot_seconds()):
                return await self._jobs.claim_poison(self._lease.worker_id, *self._mine())
        finally:
            self._is_asking = False

    def _mine(self) -> tuple[str, list[str], list[str]]:
        return self._config.tenant, list(self._config.queues), self._registry.claimable()
