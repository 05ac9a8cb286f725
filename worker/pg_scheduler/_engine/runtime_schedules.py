"""Schedules that a program makes while it runs, by name.

Invariant: they belong to no process: any worker ticks them, and they stay until somebody deletes them.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pg_scheduler._domain.schedules import RUNTIME, ScheduleDefinition, ScheduleKey
from pg_scheduler._engine.job_ids import new_job_id
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler.listing import ScheduleInfo, ScheduleLedger
from pg_scheduler.periodic import PeriodicJobConfig


class RuntimeSchedules:
    """Those of one tenant."""

    def __init__(self, schedules: ScheduleStore, *, tenant: str, on_triggered: Callable[[], None]) -> None:
        self._schedules = schedules
        self._tenant = tenant
        self._on_triggered = on_triggered

    def key(self, name: str) -> ScheduleKey:
        """Whose row it is."""
        return ScheduleKey(tenant=self._tenant, kind=RUNTIME, cluster="", uid=name)

    async def upsert(self, name: str, task: str, config: PeriodicJobConfig) -> bool:
        """Make the schedule of a task's key, or change it; whether anything was written."""
        definition = ScheduleDefinition(
            key=self.key(name),
            name=name,
            generation=0,
            rule=config.rule,
            template=replace(config.template, task=task),
            bounds=config.bounds,
            policy=config.policy,
            enabled=config.enabled,
        )
        return await self._schedules.upsert(definition)

    async def delete(self, name: str) -> bool:
        """Forget the schedule and what of it has not started; whether there was one."""
        return await self._schedules.delete(self.key(name))

    async def suspend(self, name: str, *, suspended: bool, reason: str = "", by: str | None = None) -> bool:
        """Suspend or resume; whether there is such a schedule."""
        return await self._schedules.suspend(self.key(name), suspended=suspended, reason=reason, by=by)

    async def trigger(self, name: str) -> str | None:
        """Make one extra run, due now; its job id, None where there is no such schedule."""
        job_id = new_job_id()
        if not await self._schedules.run_extra(self.key(name), job_id):
            return None
        self._on_triggered()
        return job_id

    async def read_status(self, name: str) -> dict[str, Any] | None:
        """How the schedule stands, under the keys that a declared one is told with; None where there is none."""
        found = await self._schedules.infos(self._tenant, self.key(name))
        return None if not found else _status(found[0])

    async def infos(self) -> list[ScheduleInfo]:
        """All schedules of the tenant, whatever their source."""
        return await self._schedules.infos(self._tenant)

    async def ledger(self, key: ScheduleKey) -> ScheduleLedger | None:
        """What became of the ticks of a schedule; None where there is no such schedule."""
        return await self._schedules.ledger(key)


def _status(info: ScheduleInfo) -> dict[str, Any]:
    return {
        "job_name": info.name,
        "enabled": info.is_ticking,
        "dedup_key": info.uid,
        "task": info.task,
        "rule": info.rule,
        "timezone": info.time_zone,
        "next_run_at": info.next_run_at,
        "last_run_at": info.last_run_at,
        "last_status": info.last_status,
        "suspended": info.suspended,
        "suspended_at": info.suspended_at,
        "suspended_by": info.suspended_by,
        "suspend_reason": info.suspend_reason,
        "halted_reason": info.halted_reason,
        "retired_reason": info.retired_reason,
    }
