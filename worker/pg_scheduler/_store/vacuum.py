"""Retention: finished rows deleted in small transactions, and the figures of it."""

from collections import Counter
from collections.abc import Sequence

from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Record
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.job_status import JobStatus
from pg_scheduler.vacuum import VacuumPolicy, VacuumTrigger

VACUUM_MAX = 5_000
"""Rows a transaction deletes at most (design page 2 §2.7)."""

SCHEDULES_MAX = 200
"""Schedules whose history a statement reads at most."""


class VacuumStore:
    """The statements of ``sql/vacuum.sql``."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def delete_batch(self, tenant: str, status: JobStatus, policy: VacuumPolicy) -> int:
        """Delete up to one batch of what the policy lets go; how many rows."""
        match policy.trigger:
            case VacuumTrigger.NEVER:
                return 0
            case VacuumTrigger.IMMEDIATE:
                rows = await self._db.fetch(QUERIES["delete_finished_before"], tenant, status, 0, VACUUM_MAX)
            case VacuumTrigger.TIME_BASED:
                rows = await self._db.fetch(QUERIES["delete_finished_before"], tenant, status, policy.days, VACUUM_MAX)
            case VacuumTrigger.COUNT_BASED:
                rows = await self._db.fetch(
                    QUERIES["delete_finished_beyond"], tenant, status, policy.keep_count, VACUUM_MAX
                )
        return len(rows)

    async def schedules_with_history(self, tenant: str) -> list[int]:
        """Ids of the schedules that say how many rows they keep."""
        return [row["id"] for row in await self._db.fetch(QUERIES["schedules_with_history"], tenant)]

    async def delete_history(self, schedule_ids: Sequence[int]) -> Counter[JobStatus]:
        """Delete up to one batch of what these schedules do not keep; how many rows by status."""
        rows = await self._db.fetch(QUERIES["delete_history_beyond"], schedule_ids, VACUUM_MAX)
        return Counter({JobStatus(row["status"]): row["rows"] for row in rows})

    async def forget_keys(self) -> int:
        """Drop up to one batch of keys that count no more; how many."""
        return len(await self._db.fetch(QUERIES["forget_keys"], VACUUM_MAX))

    async def forget_tombstones(self, tenant: str, days: int) -> int:
        """Drop up to one batch of ends of ScheduledJobs whose rows are gone; how many."""
        return len(await self._db.fetch(QUERIES["forget_tombstones"], tenant, days, VACUUM_MAX))

    async def record(self, counts: dict[JobStatus, int]) -> None:
        """Add to the figures of the day."""
        order = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)
        await self._db.fetch(QUERIES["record_vacuum"], *(counts[status] for status in order))

    async def stats(self, days: int) -> list[Record]:
        """A row a day, newest first."""
        return await self._db.fetch(QUERIES["vacuum_stats"], days)

    async def totals(self) -> Record:
        """Sums over all time."""
        (row,) = await self._db.fetch(QUERIES["total_vacuum_stats"])
        return row
