"""When to claim, and how long to sleep.

Invariant: whatever is due and not claimed by others is asked for once a slot is free.

Behind, a second claim is under way beside the first: the server works on one while the jobs of the other run. Jobs with
a concurrency key, and those of limited queues, have claims of their own (``Turns``).
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from math import inf
from time import monotonic

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._engine.claiming import Claiming
from pg_scheduler._engine.clock import DatabaseClock
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.floor import Floor
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.quarantine import Quarantine
from pg_scheduler._engine.service import keep_running
from pg_scheduler._engine.slots import Slots
from pg_scheduler._engine.starts import Starts
from pg_scheduler._engine.turns import Turns
from pg_scheduler._store.jobs import Ahead, JobStore
from pg_scheduler._store.wakeups import Wakeups
from pg_scheduler.tasks import Registry

LEASE_CHECK_SECONDS = 0.5
"""How soon a worker claims again once its beats are answered again."""
TICK_SECONDS = 0.05
"""The least time between two looks while jobs become due one after the other: each finds those of three ticks ahead."""
BESIDE_SECONDS = 60.0
"""How long the second claim sleeps at most; the first wakes it."""
LOOK_SECONDS = 0.1
"""How soon a worker that claims without a pause sees that a job with a concurrency key has fallen due."""


class ClaimLoop:
    """The first claim, which also looks and sleeps, and the second, which helps it while there is a backlog."""

    def __init__(
        self,
        claiming: Claiming,
        jobs: JobStore,
        starts: Starts,
        slots: Slots,
        registry: Registry,
        *,
        beside: JobStore,
        lease: Lease,
        clock: DatabaseClock,
        floor: Floor,
        quarantine: Quarantine,
        config: EngineConfig,
        wakeups: Wakeups,
        wake: asyncio.Event,
        overdue: asyncio.Event,
        on_look: Callable[[Ahead], None],
        on_idle: Callable[[], None],
    ) -> None:
        self._claiming = claiming
        self._jobs = jobs
        self._beside = beside
        self._starts = starts
        self._slots = slots
        self._registry = registry
        self._lease = lease
        self._clock = clock
        self._quarantine = quarantine
        self._config = config
        self._wakeups = wakeups
        self._wake = wake
        self._overdue = overdue
        self._floor = floor
        self._on_look = on_look
        self._on_idle = on_idle
        self._turns = Turns(config.prefetch_seconds)
        self._backlog = asyncio.Event()
        self._waits_for_slots = self._one_waits_alone = False
        self._look_at = 0.0
        self._empty_looks = 0

    async def run_once(self) -> int:
        """Claim once and see that what came is started; how many."""
        if self._claiming.most <= 0:
            return 0
        if alone := await self._quarantine.run_once():
            self._starts.start([alone])
            return 1
        if self._quarantine.is_closed:
            return 0
        taken = 0
        for turn in self._turns.take(limited_first=self._claiming.limited_first):
            limit = min(self._claiming.most, self._config.claim_limit - taken)
            if limit <= 0:
                break
            more = await self._claiming.take(self._jobs, limit, turn=turn, floor=self._floor_in_use)
            taken += more
            if self._claiming.is_full:
                break
            self._turns.came_short(turn, more)
        return taken

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim whenever something is due and a slot is free, until ``stopping``."""
        await keep_running("claim loop", self._pass, wake=self._wake, stopping=stopping)

    async def run_beside(self, stopping: asyncio.Event) -> None:
        """Keep a second claim under way for as long as this worker is behind, until ``stopping``."""
        await keep_running("second claim", self._pass_beside, wake=self._backlog, stopping=stopping)

    def wake_beside(self) -> None:
        """End its sleep."""
        self._backlog.set()

    def slot_released(self) -> None:
        """There is a slot again. Far from it that each is worth a claim: nothing may be due, or nothing due yet."""
        if self._waits_for_slots and (self._claiming.is_behind or self._slots.free >= self._config.claim_limit):
            self._wake.set()
        if self._one_waits_alone and self._slots.is_idle:
            self._wake.set()

    def ended(self, jobs: Iterable[ClaimedJob]) -> None:
        """The database knows that these have ended: a limited queue may have room again."""
        if self._claiming.any_limited(jobs) and self._turns.ask_limited():
            self._wake.set()

    @property
    def _floor_in_use(self) -> datetime | None:
        """None where nobody would tell of what falls due below it."""
        return self._floor.at if self._wakeups.hears else None

    async def _pass_beside(self) -> float:
        limit = self._claiming.most
        has_room = self._slots.has_room_for(2 * self._config.claim_limit)  # the first takes keyed ones, too
        if not self._claiming.is_behind or limit <= 0 or self._quarantine.is_closed or not has_room:
            return BESIDE_SECONDS
        if self._turns.asks_limited and self._claiming.limited_first:
            return BESIDE_SECONDS  # it is not the turn of those that it could bring
        taken = await self._claiming.take(self._beside, limit, floor=self._floor_in_use)
        if taken < limit and self._waits_for_slots:
            self._wake.set()  # the first claim may have those that this one has kept and not filled
        await asyncio.sleep(0)  # its jobs run while the other claim is under way
        return 0.0 if taken >= limit else BESIDE_SECONDS

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
        if self._claiming.most <= 0 or self._quarantine.is_closed:
            return self._wait_for_slots()
        if await self.run_once():
            self._empty_looks = 0
            if self._claiming.is_full:
                return await self._go_on()
        return await self._look_on()

    async def _look_on(self) -> float:
        """A claim has taken all there was: its jobs begin before the look is sent, which sees what was heard of."""
        await asyncio.sleep(0)
        if self._slots.is_idle:
            self._on_idle()
        heard = self._wake.is_set()
        pause = await self._look()
        return 0.0 if heard and pause <= 0 else self._turns.within(max(pause, TICK_SECONDS))

    async def _go_on(self) -> float:
        """There may be more; it is not worth a look whether there is."""
        self._look_at = monotonic() + LOOK_SECONDS
        if self._claiming.is_behind:
            self._backlog.set()
            await asyncio.sleep(0)  # the jobs run while the other claim is under way
        return 0.0

    def _wait_for_slots(self) -> float:
        self._waits_for_slots, self._look_at = True, monotonic() + LOOK_SECONDS
        if not self._starts.has_waiting:  # every slot runs a job: the first that is free may be worth a claim
            self._claiming.is_behind = True
        return self._wakeups.pause_when_full() if self._claiming.is_behind else TICK_SECONDS

    def _heed(self) -> None:
        """What has been heard so far is answered by the statement that is sent next."""
        self._wake.clear()
        if self._overdue.is_set():
            self._overdue.clear()
            self._floor.drop()

    async def look(self) -> Ahead:
        """What is due next, and tell of it whoever has to know. It sees whatever was heard of before it."""
        self._heed()
        floor = self._floor_in_use
        ahead = await self._jobs.look_ahead(
            self._config.tenant,
            self._config.queues,
            self._registry.claimable(),
            floor=floor,
            worker_id=self._lease.worker_id,
            server_started_at=self._lease.server_started_at,
            pool=self._config.pool,
        )
        self._claiming.heed(ahead.settings)
        self._clock.observe(ahead.now, took_seconds=ahead.took_seconds)
        first = ahead.now if ahead.due_in is None else ahead.now + timedelta(seconds=ahead.due_in)
        self._floor.rise(first, now=ahead.now, looked_from=floor)
        self._on_look(ahead)
        self._turns.observe(ahead.keyed_in, ahead.limited_in)
        self._one_waits_alone = ahead.alone
        if ahead.alone and self._slots.is_idle:
            self._quarantine.expect()
        return ahead

    async def _look(self) -> float:
        """How long to sleep; 0 when something is due within the prefetch."""
        ahead = await self.look()
        if ahead.alone and self._slots.is_idle:
            return 0.0
        due_in = _first(ahead, self._config.prefetch_seconds)
        if due_in is not None and due_in <= 0:
            self._look_at = inf
            return 0.0
        self._empty_looks += 1
        pause = self._wakeups.pause(due_in, self._empty_looks)
        self._look_at = inf if due_in is not None and due_in <= pause else monotonic() + pause
        return pause


def _first(ahead: Ahead, prefetch_seconds: float) -> float | None:
    """When to claim next."""
    due_in = [seconds - prefetch_seconds for seconds in (ahead.due_in, ahead.keyed_in) if seconds is not None]
    if ahead.limited_in is not None:
        due_in.append(ahead.limited_in)
    return min(due_in, default=None)
