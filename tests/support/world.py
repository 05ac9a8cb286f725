"""The stores over one test's database, with short ways to the situations that tests need."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from pg_scheduler._domain import codec
from pg_scheduler._domain.jobs import ClaimedJob, NewJob
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.lease import Lease, boot_seconds
from pg_scheduler._engine.periodic_jobs import PeriodicJobs
from pg_scheduler._engine.ticker import Ticker
from pg_scheduler._store.clock import clock_saying
from pg_scheduler._store.database import Database
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler._store.workers import LeaseStore, WorkerCard, WorkerStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from pg_scheduler._store.driver import Pool

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LEASE_SECONDS = 30.0


@dataclass(slots=True)
class World:
    """Stores, and the clock of this database: ``advance`` moves ``scheduler_now()``."""

    pool: Pool
    db: Database
    jobs: JobStore
    workers: WorkerStore
    schedules: ScheduleStore
    _numbers: count[int] = field(default_factory=lambda: count(1))

    @classmethod
    def over(cls, pool: Pool) -> World:
        db = Database(pool, place="the test's database")
        return cls(pool, db, JobStore(db, wake_within_seconds=5), WorkerStore(db), ScheduleStore(db))

    async def advance(self, by: timedelta) -> None:
        """Replace the database's clock by one that is ahead."""
        await self.pool.execute(clock_saying(f"now() + interval '{by.total_seconds()} seconds'"))

    async def stand_at(self, instant: datetime) -> None:
        """Replace the database's clock by one that shows this instant until it is told another."""
        await self.pool.execute(
            "CREATE OR REPLACE FUNCTION scheduler_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE"
            f" RETURN timestamptz '{instant.isoformat()}'"
        )

    async def worker(self, *, tasks: Sequence[str] = ("t",), lease_seconds: float = LEASE_SECONDS) -> str:
        """A living worker's id."""
        card = WorkerCard(
            worker_id=f"w{next(self._numbers)}",
            tenant="",
            queues=["default"],
            schedules=[],
            slots=25,
            version="0",
            pod=None,
            pod_uid=None,
        )
        async with self.pool.acquire() as connection:
            await LeaseStore(connection, place="").register(card, tasks, lease_seconds)
        return card.worker_id

    async def beat(self, worker_id: str) -> set[int] | None:
        async with self.pool.acquire() as connection:
            return await LeaseStore(connection, place="").beat(worker_id, LEASE_SECONDS, ["t"])

    async def pending(self, **changes: Any) -> str:
        """A pending job's id, due long ago unless said otherwise."""
        suspended = changes.pop("suspended", False)
        job = new_job(job_id=f"j{next(self._numbers)}", **changes)
        assert await self.jobs.insert(job)
        if suspended:
            await self.pool.execute("UPDATE scheduled_jobs SET suspended = true WHERE job_id = $1", job.job_id)
        return job.job_id

    async def claim(self, worker_id: str, limit: int = 100, queues: Sequence[str] = ("default",)) -> list[ClaimedJob]:
        return await self.jobs.claim(worker_id, "", queues, ["t"], limit)

    async def claim_keyed(self, worker_id: str, limit: int = 100, *, within_seconds: float = 0.0) -> list[ClaimedJob]:
        return await self.jobs.claim_keyed(worker_id, "", ["default"], ["t"], limit, within_seconds=within_seconds)

    async def claim_alone(self, worker_id: str) -> ClaimedJob | None:
        """A job that has outlived two workers."""
        return await self.jobs.claim_poison(worker_id, "", ["default"], ["t"])

    async def bury(self, *worker_ids: str) -> None:
        """Mark these workers dead, or all of them."""
        await self.pool.execute(
            "UPDATE scheduler_workers SET state = 'dead' WHERE id = ANY($1) OR $1 = '{}'", list(worker_ids)
        )

    async def running(self, worker_id: str) -> ClaimedJob:
        """A job that this worker holds."""
        job_id = await self.pending()
        (claimed,) = await self.claim(worker_id)
        assert claimed.job_id == job_id
        return claimed

    async def tick(self, horizon_seconds: float = 5) -> int:
        """One pass of a ticker; how many jobs are new."""
        config = EngineConfig(poll_seconds=horizon_seconds)
        lease, wake = Lease(LEASE_SECONDS), asyncio.Event()
        lease.begin("", boot_seconds())
        nothing = PeriodicJobs(self.schedules, dict, tenant="", on_triggered=wake.set)
        ticker = Ticker(self.db, self.schedules, nothing, lease=lease, config=config, wake=wake, on_ticked=wake.set)
        return await ticker.run_once()

    async def statuses(self, *job_ids: str) -> list[str]:
        """The status of each job, in this order."""
        return [(await self.row(job_id))["status"] for job_id in job_ids]

    async def row(self, job_id: str) -> asyncpg.Record:
        row = await self.pool.fetchrow("SELECT * FROM scheduled_jobs WHERE job_id = $1", job_id)
        assert row is not None
        return row


def new_job(**changes: Any) -> NewJob:
    """A valid job of task ``t``, due long ago, but for the changes."""
    defaults: dict[str, Any] = {
        "job_id": "j",
        "tenant": "",
        "queue": "default",
        "task": "t",
        "job_name": "t",
        "task_data": codec.encode((), {}),
        "execution_time": LONG_AGO,
        "priority": 5,
        "max_retries": 0,
        "misfire_grace_time": None,
    }
    return NewJob(**{**defaults, **changes})
