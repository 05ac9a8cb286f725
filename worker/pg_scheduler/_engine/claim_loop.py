"""Take due jobs for the free slots of this worker, and sleep until there are any.

Invariant: never more jobs than free slots, none without a valid lease, and no task that this process has not
registered.

The next claim is on its way before the jobs of the last one run: the server works while they do. Jobs with a
concurrency key have a claim of their own (``Turns``).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from math import inf
from time import monotonic

from pg_scheduler._domain.jobs import ClaimedJob, start_order
from pg_scheduler._engine.clock import DatabaseClock
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.floor import Floor
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.lease import Lease, boot_seconds
from pg_scheduler._engine.quarantine import Quarantine
from pg_scheduler._engine.service import keep_running
from pg_scheduler._engine.slots import Slots
from pg_scheduler._engine.starts import PREFETCH_SECONDS, Starts
from pg_scheduler._engine.turns import Turns
from pg_scheduler._store.jobs import Ahead, JobStore
from pg_scheduler._store.wakeups import Wakeups
from pg_scheduler.tasks import Registry

logger = logging.getLogger("pg_scheduler.engine")

LEASE_CHECK_SECONDS = 0.5
"""How soon a worker claims again once its beats are answered again."""
TICK_SECONDS = 0.05
"""The least time between two looks while jobs become due one after the other: each finds those of three ticks ahead."""
LOOK_SECONDS = 0.1
"""How soon a worker that claims without a pause sees that a job with a concurrency key has fallen due."""


class ClaimLoop:
    """The way of a job from the table to its start."""

    def __init__(
        self,
        jobs: JobStore,
        starts: Starts,
        slots: Slots,
        registry: Registry,
        *,
        lease: Lease,
        ghosts: Ghosts,
        clock: DatabaseClock,
        quarantine: Quarantine,
        config: EngineConfig,
        wakeups: Wakeups,
        wake: asyncio.Event,
        overdue: asyncio.Event,
        on_look: Callable[[Ahead], None],
        on_idle: Callable[[], None],
    ) -> None:
        self._jobs = jobs
        self._starts = starts
        self._slots = slots
        self._registry = registry
        self._lease = lease
        self._ghosts = ghosts
        self._clock = clock
        self._quarantine = quarantine
        self._config = config
        self._wakeups = wakeups
        self._wake = wake
        self._overdue = overdue
        self._floor = Floor()
        self._on_look = on_look
        self._on_idle = on_idle
        self._queues = deque(config.queues)
        self._turns = Turns()
        self._behind = False
        self._waits_for_slots = self._one_waits_alone = False
        self._look_at = 0.0
        self._empty_looks = 0

    async def run_once(self) -> int:
        """Claim once and see that what came is started, by priority and time; how many."""
        limit = min(self._slots.free, self._config.claim_limit)
        tasks = self._registry.claimable()
        if limit <= 0 or not tasks or not self._lease.is_valid:
            return 0
        if alone := await self._quarantine.run_once():
            self._starts.start([alone])
            return 1
        if self._quarantine.is_closed:
            return 0
        taken = 0
        for keyed in self._turns.take():
            claimed = sorted(await self._claim(tasks, limit - taken, keyed=keyed), key=start_order)
            taken += len(claimed)
            self._behind = taken >= limit and self._clock.has_passed(claimed[-1].execution_time)
            self._start(claimed)
            if taken >= limit:
                break
        return taken

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim whenever something is due and a slot is free, until ``stopping``."""
        await keep_running("claim loop", self._pass, wake=self._wake, stopping=stopping)

    def slot_released(self) -> None:
        """There is a slot again. Far from it that each is worth a claim: nothing may be due, or nothing due yet."""
        if self._waits_for_slots and (self._behind or self._slots.free >= self._config.claim_limit):
            self._wake.set()
        if self._one_waits_alone and self._slots.is_idle:
            self._wake.set()

    def _start(self, claimed: list[ClaimedJob]) -> None:
        runnable = [job for job in claimed if job.attempt]
        self._starts.start(runnable)
        if len(runnable) < len(claimed):
            logger.warning("%d jobs expired: no worker could start them in time", len(claimed) - len(runnable))

    async def _claim(self, tasks: list[str], limit: int, *, keyed: bool) -> list[ClaimedJob]:
        self._queues.rotate()  # each queue is first in its turn, so that a full one starves none
        me = (self._lease.worker_id, self._config.tenant, list(self._queues), tasks, limit)
        # Behind, a slot is too dear to let it wait for its job's instant.
        within_seconds = 0.0 if self._behind else PREFETCH_SECONDS
        with self._ghosts.claim(boot_seconds()):
            if keyed:
                claimed = await self._jobs.claim_keyed(*me)
            else:
                claimed = await self._claim_unkeyed(*me, within_seconds=within_seconds)
        return [job for job in claimed if not self._ghosts.is_disowned(job.token)]

    async def _claim_unkeyed(
        self, worker_id: str, tenant: str, queues: list[str], tasks: list[str], limit: int, *, within_seconds: float
    ) -> list[ClaimedJob]:
        seen_at, floor = self._clock.last_seen, self._floor_in_use
        claimed = await self._jobs.claim(
            worker_id, tenant, queues, tasks, limit, within_seconds=within_seconds, floor=floor
        )
        if len(claimed) < limit and seen_at is not None:
            self._floor.rise(seen_at)
        return claimed

    @property
    def _floor_in_use(self) -> datetime | None:
        """None where nobody would tell of what falls due below it."""
        return self._floor.at if self._wakeups.hears else None

    async def _pass(self) -> float:
        """Look when nothing has been heard of; else claim, and look once a claim brings less than was asked for."""
        self._waits_for_slots = False
        self._heed()
        if not self._lease.is_valid:
            return LEASE_CHECK_SECONDS
        if monotonic() >= self._look_at:
            pause = await self._look()
            if pause > 0:
                return pause
        limit = min(self._slots.free, self._config.claim_limit)
        if limit <= 0 or self._quarantine.is_closed:
            return self._wait_for_slots()
        claimed = await self.run_once()
        if claimed:
            self._empty_looks = 0
        if claimed >= limit:
            self._look_at = monotonic() + LOOK_SECONDS
            return 0.0
        return await self._look_on()

    async def _look_on(self) -> float:
        """A claim has taken all there was: its jobs begin before the look is sent, which sees what was heard of."""
        await asyncio.sleep(0)
        if self._slots.is_idle:
            self._on_idle()
        heard = self._wake.is_set()
        pause = await self._look()
        return 0.0 if heard and pause <= 0 else self._turns.within(max(pause, TICK_SECONDS))

    def _wait_for_slots(self) -> float:
        self._waits_for_slots, self._look_at = True, monotonic() + LOOK_SECONDS
        if not self._starts.has_waiting:  # every slot runs a job: the first that is free may be worth a claim
            self._behind = True
        return self._wakeups.pause_when_full() if self._behind else TICK_SECONDS

    def _heed(self) -> None:
        """What has been heard so far is answered by the statement that is sent next."""
        self._wake.clear()
        if self._overdue.is_set():
            self._overdue.clear()
            self._floor.drop()

    async def _look(self) -> float:
        """How long to sleep; 0 when something is due within the prefetch. It sees whatever was heard of before it."""
        self._heed()
        ahead = await self._jobs.look_ahead(
            self._config.tenant,
            self._config.queues,
            self._registry.claimable(),
            floor=self._floor_in_use,
            worker_id=self._lease.worker_id,
            server_started_at=self._lease.server_started_at,
        )
        self._clock.observe(ahead.now, took_seconds=ahead.took_seconds)
        self._on_look(ahead)
        self._turns.observe(ahead.keyed_in)
        self._one_waits_alone = ahead.alone
        if ahead.alone and self._slots.is_idle:
            self._quarantine.expect()
            return 0.0
        due_in = _first(ahead)
        if due_in is not None and due_in <= 0:
            self._look_at = inf
            return 0.0
        self._empty_looks += 1
        pause = self._wakeups.pause(due_in, self._empty_looks)
        self._look_at = inf if due_in is not None and due_in <= pause else monotonic() + pause
        return pause


def _first(ahead: Ahead) -> float | None:
    """When to claim next. A job with a concurrency key is not claimed ahead: its slot would be kept from others."""
    due_in = None if ahead.due_in is None else ahead.due_in - PREFETCH_SECONDS
    return min((seconds for seconds in (due_in, ahead.keyed_in) if seconds is not None), default=None)
