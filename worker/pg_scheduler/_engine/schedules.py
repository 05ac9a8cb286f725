"""Schedules by the key that people know: of one that this process declares, or the name of one made at run time.

Invariant: a key that this process declares means that schedule, also where one of that name was made at run time.
"""

from typing import Any

from pg_scheduler._domain import checks
from pg_scheduler._domain.options import NAME_BYTES_MAX
from pg_scheduler._engine.periodic_jobs import PeriodicJobs
from pg_scheduler._engine.runtime_schedules import RuntimeSchedules
from pg_scheduler.listing import ScheduleInfo, ScheduleLedger
from pg_scheduler.periodic import PeriodicJobConfig

REASON_BYTES_MAX = 256


class Schedules:
    """Those of one tenant; where a key may be of neither kind, the answer says so."""

    def __init__(self, declared: PeriodicJobs, runtime: RuntimeSchedules) -> None:
        self._declared = declared
        self._runtime = runtime

    async def trigger(self, key: str) -> str | None:
        """Make one extra run, due now; its job id."""
        return await self._of(key).trigger(key)

    async def suspend(self, key: str, *, reason: str, by: str | None) -> bool:
        """Stop it from ticking; whether there is such a schedule."""
        return await self._of(key).suspend(
            key,
            suspended=True,
            reason=checks.checked_text("reason", reason, REASON_BYTES_MAX) if reason else "",
            by=None if by is None else checks.checked_text("by", by, NAME_BYTES_MAX),
        )

    async def resume(self, key: str) -> bool:
        """Let it tick again; whether there is such a schedule."""
        return await self._of(key).suspend(key, suspended=False)

    async def status(self, key: str) -> dict[str, Any] | None:
        """How it stands in the database now."""
        return await self._of(key).read_status(key)

    async def ledger(self, key: str) -> ScheduleLedger | None:
        """What became of its ticks."""
        return await self._runtime.ledger(self._declared.source_key(key) or self._runtime.key(key))

    async def upsert(self, name: str, task: str, config: PeriodicJobConfig) -> bool:
        """Make one at run time, or change it; whether anything was written."""
        return await self._runtime.upsert(name, task, config)

    async def delete(self, name: str) -> bool:
        """Forget one that was made at run time; whether there was one."""
        return await self._runtime.delete(name)

    async def infos(self) -> list[ScheduleInfo]:
        """All of the tenant, whatever their source."""
        return await self._runtime.infos()

    def _of(self, key: str) -> PeriodicJobs | RuntimeSchedules:
        return self._runtime if self._declared.source_key(key) is None else self._declared
