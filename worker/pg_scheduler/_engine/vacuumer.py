"""Delete finished jobs that their retention lets go.

Invariant: only rows with an end are deleted, by when they ended, in batches that no claim has to wait for. Several
workers may do it at once: each skips the rows that another holds.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pg_scheduler._domain import checks
from pg_scheduler._engine.service import keep_running
from pg_scheduler._store.vacuum import SCHEDULES_MAX, VACUUM_MAX, VacuumStore
from pg_scheduler.job_status import JobStatus
from pg_scheduler.vacuum import VacuumConfig, VacuumPolicy

STATS_DAYS_MAX = 36_500


class Vacuumer:
    """The retention of one tenant's finished jobs."""

    def __init__(self, store: VacuumStore, *, tenant: str, config: VacuumConfig) -> None:
        self._store = store
        self._tenant = tenant
        self._config = config
        self._wake = asyncio.Event()

    async def run_once(self) -> dict[JobStatus, int]:
        """Delete all that may go; counts by status."""
        counts = {status: await self._delete_all(status, policy) for status, policy in policies(self._config).items()}
        for status, rows in (await self._delete_history()).items():
            counts[status] += rows
        while await self._store.forget_keys() == VACUUM_MAX:
            pass
        while await self._store.forget_tombstones(self._tenant, self._config.keys_days) == VACUUM_MAX:
            pass
        if self._config.track_metrics:
            await self._store.record(counts)
        return counts

    async def run(self, stopping: asyncio.Event) -> None:
        """Delete at once and then every ``interval_minutes``, spread by a tenth, until ``stopping``."""
        await keep_running("vacuumer", self._pass, wake=self._wake, stopping=stopping)

    async def stats(self, days: int) -> list[dict[str, Any]]:
        """What was deleted on each of the last days, newest first; empty where nobody counts."""
        days = checks.checked_whole("days", days, low=1, high=STATS_DAYS_MAX)
        return [dict(row) for row in await self._store.stats(days)] if self._config.track_metrics else []

    async def totals(self) -> dict[str, Any]:
        """What was ever deleted, and when last; empty where nobody counts."""
        return dict(await self._store.totals()) if self._config.track_metrics else {}

    def wake(self) -> None:
        """End the present sleep."""
        self._wake.set()

    async def _pass(self) -> float:
        await self.run_once()
        return self._config.interval_minutes * 60 * random.uniform(0.9, 1.1)  # noqa: S311  spread, not a secret

    async def _delete_all(self, status: JobStatus, policy: VacuumPolicy) -> int:
        deleted = 0
        while True:
            batch = await self._store.delete_batch(self._tenant, status, policy)
            deleted += batch
            if batch < VACUUM_MAX:
                return deleted

    async def _delete_history(self) -> Counter[JobStatus]:
        deleted: Counter[JobStatus] = Counter()
        for ids in _batches(await self._store.schedules_with_history(self._tenant), SCHEDULES_MAX):
            batch = await self._store.delete_history(ids)
            deleted += batch
            while batch.total() == VACUUM_MAX:
                batch = await self._store.delete_history(ids)
                deleted += batch
        return deleted


def _batches(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def policies(config: VacuumConfig) -> dict[JobStatus, VacuumPolicy]:
    """The policy of each final status; every one has its own, given or by default."""
    return {
        JobStatus.COMPLETED: config.completed or VacuumPolicy.never(),
        JobStatus.FAILED: config.failed or VacuumPolicy.never(),
        JobStatus.CANCELLED: config.cancelled or VacuumPolicy.never(),
        JobStatus.EXPIRED: config.expired or VacuumPolicy.never(),
    }
