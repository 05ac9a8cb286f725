"""Six clients at once claim and end the jobs of a few keys in every way there is.

No sweep runs: a promotion that is lost strands its job, and the test with it. A deadlock is an error of the client that
PostgreSQL picks.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._store.queries import QUERIES
from pg_scheduler._store.workers import LeaseStore
from support.waiting import PATIENCE
from support.world import World, new_job

if TYPE_CHECKING:
    from pg_scheduler._domain.jobs import ClaimedJob

ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")
KEYS = ("a", "b", "c", "d")
LIMIT = 2
JOBS = 240
CLIENTS = 6
STARTS_MAX = 3

BROKEN = """
    SELECT 'over the limit' AS fault, tenant || '/' || key AS what FROM scheduler_slots
    GROUP BY tenant, key HAVING count(*) > $1
    UNION ALL
    SELECT 'runs without a slot', job_id FROM scheduled_jobs j
    WHERE concurrency_key IS NOT NULL AND (status = 'running' OR stopping_worker IS NOT NULL)
      AND NOT EXISTS (SELECT FROM scheduler_slots s WHERE s.job_id = j.job_id)
    UNION ALL
    SELECT 'a slot without a run', job_id FROM scheduler_slots s
    WHERE NOT EXISTS (SELECT FROM scheduled_jobs j
                      WHERE j.job_id = s.job_id AND (j.status = 'running' OR j.stopping_worker IS NOT NULL))
"""


class Client:
    """A worker that ends what it holds in a random way; it dies and comes back under another name."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)  # noqa: S311  a repeatable choice
        self._worker_id = ""

    async def run(self) -> None:
        self._worker_id = await self._world.worker(lease_seconds=3600)
        while await self._world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE finished_at IS NULL"):
            jobs = await self._world.claim_keyed(self._worker_id, limit=self._random.randint(1, 6))
            if not jobs and (poison := await self._world.claim_alone(self._worker_id)):
                jobs = [poison]
            await self._require_sound()
            if jobs:
                await self._end(jobs)
                for job in jobs:  # others may have cancelled some meanwhile
                    await self._world.jobs.report_stopped(job)

    async def _require_sound(self) -> None:
        assert await self._world.pool.fetch(BROKEN, LIMIT) == []

    async def _end(self, jobs: list[ClaimedJob]) -> None:
        worn = [job for job in jobs if job.attempt >= STARTS_MAX]
        fresh = [job for job in jobs if job.attempt < STARTS_MAX]
        if worn:
            await self._complete(worn)
        if fresh:
            ways = (self._complete, self._fail, self._retry, self._release, self._cancel, self._replace, self._die)
            await self._random.choice(ways)(fresh)

    async def _complete(self, jobs: list[ClaimedJob]) -> None:
        """In a transaction that takes its time, so that claims meet slots that are being given back."""
        self._random.shuffle(jobs)
        async with self._world.db.transaction() as connection:
            for job in jobs:
                await connection.fetch(QUERIES["complete_jobs"], [job.id], [job.token], self._worker_id)
                await asyncio.sleep(self._random.random() / 200)

    async def _release(self, jobs: list[ClaimedJob]) -> None:
        if self._random.random() < 0.5:
            await self._world.jobs.release(jobs, self._worker_id)
            return
        async with self._world.pool.acquire() as connection:
            await LeaseStore(connection, place="").release_ghosts(self._worker_id, [job.token for job in jobs])

    async def _fail(self, jobs: list[ClaimedJob]) -> None:
        for job in jobs:
            await self._world.jobs.fail(job, ERROR)

    async def _retry(self, jobs: list[ClaimedJob]) -> None:
        for job in jobs:
            await self._world.jobs.retry(job, ERROR, 0)

    async def _cancel(self, jobs: list[ClaimedJob]) -> None:
        for job in jobs:
            await self._world.jobs.cancel(job.job_id)
            await self._require_sound()
        victim = await self._world.pool.fetchval(
            "SELECT job_id FROM scheduled_jobs WHERE status IN ('pending', 'waiting') ORDER BY random() LIMIT 1"
        )
        if victim:
            await self._world.jobs.cancel(victim)

    async def _replace(self, jobs: list[ClaimedJob]) -> None:
        for job in jobs:
            key = self._random.choice(KEYS)
            await self._world.jobs.replace(new_job(job_id=job.job_id, concurrency_key=key, concurrency_limit=LIMIT))
            await self._require_sound()

    async def _die(self, _: list[ClaimedJob]) -> None:
        await self._world.pool.execute("UPDATE scheduler_workers SET state = 'dead' WHERE id = $1", self._worker_id)
        await self._world.jobs.requeue_orphans(10)
        await self._world.jobs.forget_stopping()
        self._worker_id = await self._world.worker(lease_seconds=3600)


async def test_six_clients_never_exceed_a_limit_strand_a_job_or_deadlock(world: World) -> None:
    for number in range(JOBS):
        await world.pending(concurrency_key=KEYS[number % len(KEYS)], concurrency_limit=LIMIT)
    clients = [Client(world, number) for number in range(CLIENTS)]

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run())

    counts = await world.pool.fetch("SELECT status, count(*) FROM scheduled_jobs GROUP BY status")
    assert {row["status"] for row in counts} <= {"completed", "failed", "cancelled"}
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_slots") == 0
