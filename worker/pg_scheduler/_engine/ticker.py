"""Turn due ticks of schedules into jobs.

Invariant: the jobs of a tick, what is told of the ticks that have none, and the schedule's high-water mark are one
transaction, so that a tick yields at most one job and none is lost between. The next tick is computed from the rule,
never from when this pass happens to run.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from time import monotonic

from pg_scheduler._domain import zones
from pg_scheduler._domain.schedules import StoredSchedule
from pg_scheduler._domain.ticking import Plan, plan_ticks
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.periodic_jobs import PeriodicJobs
from pg_scheduler._engine.service import keep_running
from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Connection
from pg_scheduler._store.schedules import Due, Halted, Replanned, ScheduleStore, Unreadable
from pg_scheduler.errors import DatabaseUnreachable

LOOK_SECONDS = 60.0
"""How often it looks without being told of anything; each poll where schedules are declared, for their snapshot."""
LATE_SECONDS = 0.1
"""What two readings of one tick may differ by."""
BATCH = 500
"""Schedules that one transaction ticks."""

logger = logging.getLogger("pg_scheduler.engine")


class Ticker:
    """Ticks the schedules of one tenant.

    Attributes:
        made: how many jobs it has made of ticks.
    """

    def __init__(
        self,
        database: Database,
        schedules: ScheduleStore,
        periodic: PeriodicJobs,
        *,
        lease: Lease,
        config: EngineConfig,
        wake: asyncio.Event,
        on_ticked: Callable[[], None],
    ) -> None:
        self._db = database
        self._schedules = schedules
        self._periodic = periodic
        self._lease = lease
        self._config = config
        self._wake = wake
        self._on_ticked = on_ticked
        self._run_at = 0.0
        self._has_replanned = False
        self._run_has_failed = False
        self._unreadable: set[int] = set()
        self.made = 0

    async def run_once(self) -> int:
        """Make the ticks that are due within one poll; how many jobs are new."""
        if not self._lease.is_valid:
            return 0
        everywhere, self._run_has_failed = self._run_has_failed, False
        async with self._db.transaction() as connection:
            due = await self._schedules.lock_due(connection, self._config.tenant, self._config.poll_seconds, BATCH)
            halted = await self._halt_failing(connection, due, everywhere=everywhere)
            planned = self._plan(due, {schedule.id for schedule in halted})
            made = await self._schedules.record_ticks(connection, planned) if planned else 0
            await self._periodic.look(connection, self._schedules)
        self.made += made
        self._tell_of(due.unreadable)
        for schedule in halted:
            logger.warning("schedule %s is suspended: %s", schedule.name, schedule.reason)
        await self._periodic.revive(self._schedules)
        if made:
            self._on_ticked()
        return made

    async def run(self, stopping: asyncio.Event) -> None:
        """Tick up to one poll ahead, so that a tick starts on the instant, until ``stopping``."""
        self._periodic.ticked_by(self._wake)
        await keep_running("ticker", self._pass, wake=self._wake, stopping=stopping)
        self._periodic.ticked_by(None)
        await self._write_last_wishes()

    async def _write_last_wishes(self) -> None:
        try:
            await self._periodic.write_wishes(self._schedules)
        except DatabaseUnreachable as error:
            logger.warning("what was enabled or disabled last waits for the next start: %s", error)

    def _tell_of(self, unreadable: Sequence[Unreadable]) -> None:
        for schedule in unreadable:
            if schedule.id not in self._unreadable:
                told = "schedule %s cannot be read by this release and is left to newer workers: %s"
                logger.warning(told, schedule.name, schedule.error)
        self._unreadable = {schedule.id for schedule in unreadable}

    async def replan(self) -> None:
        """Plan anew what other workers have planned by older zone data, and say which schedules that moves."""
        while True:
            schedules, moved = await self._schedules.replan(self._config.tenant, BATCH)
            for schedule in moved:
                _tell_of_move(schedule)
            if schedules < BATCH:
                return

    @property
    def must_judge(self) -> bool:
        """Whether a run has failed since the last pass, which may have been one too many."""
        return self._run_has_failed

    def run_failed(self) -> None:
        """A run of some schedule has failed for good: look at once."""
        self._run_has_failed = True
        self._wake.set()

    async def _halt_failing(self, connection: Connection, due: Due, *, everywhere: bool) -> list[Halted]:
        failing = [each.id for each in due.schedules if each.definition.policy.suspend_after_failures is not None]
        if not failing and not everywhere:
            return []
        return await self._schedules.halt_failing(connection, self._config.tenant, None if everywhere else failing)

    def _plan(self, due: Due, halted: Collection[int]) -> list[tuple[StoredSchedule, Plan]]:
        horizon = timedelta(seconds=self._config.poll_seconds)
        return [
            (schedule, plan_ticks(schedule, due.now, horizon))
            for schedule in due.schedules
            if schedule.id not in halted
        ]

    def expect(self, seconds: float | None) -> None:
        """Somebody who has looked says when the first tick is planned: it may be sooner than this service knows."""
        if seconds is not None and monotonic() + seconds - self._config.poll_seconds < self._run_at - LATE_SECONDS:
            self._wake.set()

    async def _pass(self) -> float:
        if not self._has_replanned:
            await self.replan()
            self._has_replanned = True
        await self._periodic.write_wishes(self._schedules)
        if await self.run_once():
            return 0.0
        seconds = await self._schedules.next_tick(self._config.tenant)
        longest = self._config.poll_seconds if self._periodic.has_declared else LOOK_SECONDS
        ahead = longest if seconds is None else seconds - self._config.poll_seconds
        # What cannot be read stays the first that is due: it must not set the pace.
        soonest = self._config.poll_seconds / 2 if self._unreadable else self._config.polling.min_interval
        pause = min(longest, max(soonest, ahead))
        self._run_at = monotonic() + pause
        return pause


def _tell_of_move(schedule: Replanned) -> None:
    logger.warning(
        "time zone data %s moves the next tick of schedule %s from %s to %s",
        zones.version(),
        schedule.name,
        schedule.before,
        schedule.after,
    )
