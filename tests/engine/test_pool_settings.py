"""What pools say reaches running workers, without a restart."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import JobStatus, Scheduler
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._store.pools import PoolStore
from pg_scheduler.pool_settings import QueueSettings, RateLimit
from support.pools import say
from support.waiting import until

if TYPE_CHECKING:
    from engine.conftest import MakeScheduler
    from support.world import World

HALF_A_POLL = EngineConfig().poll_seconds / 2
"""What is there before has been heard of, not seen by a poll."""
ONE = QueueSettings(concurrency=1)


class Crowd:
    """Counts who runs at the same time."""

    inside = most = done = 0

    async def visit(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0)
        self.inside -= 1
        self.done += 1


CROWD = Crowd()


@pytest.fixture
def crowd() -> Crowd:
    CROWD.inside = CROWD.most = CROWD.done = 0
    return CROWD


async def visit() -> None:
    await CROWD.visit()


async def keep(_: int = 0) -> None: ...


async def due(client: Scheduler, function: Any = visit, **options: Any) -> str:
    return await client.schedule(function, execution_time=datetime.now(UTC), **options)


async def status(world: World, job_id: str) -> JobStatus:
    return JobStatus((await world.row(job_id))["status"])


async def test_a_limit_holds_over_two_workers_and_each_end_starts_the_next(
    world: World, started: MakeScheduler, crowd: Crowd
) -> None:
    await say(world.db, default=ONE)
    for _ in range(2):
        await started(visit)
    client = Scheduler(world.pool)
    for number in range(12):
        await due(client, concurrency_key=f"k{number}" if number % 3 == 0 else None)

    await until(lambda: crowd.done == 12, timeout=6)  # a second each, were it for the looks of others alone

    assert crowd.most == 1


async def test_a_submission_by_a_worker_itself_obeys_too(world: World, started: MakeScheduler, crowd: Crowd) -> None:
    await say(world.db, default=ONE)
    worker = await started(visit)

    await asyncio.gather(*(due(worker) for _ in range(6)))
    await until(lambda: crowd.done == 6)

    assert crowd.most == 1


async def test_limits_and_pauses_are_heeded_and_lifted_while_workers_run(world: World, started: MakeScheduler) -> None:
    await started(keep)
    await say(world.db, default=QueueSettings(rate=RateLimit(limit=1, seconds=3600)))
    client = Scheduler(world.pool)
    first, second = await due(client, keep), await due(client, keep)

    async def ended() -> int:
        return sum([await status(world, job_id) is JobStatus.COMPLETED for job_id in (first, second)])

    await until(ended)
    await say(world.db, default=QueueSettings(paused=True))
    assert await ended() == 1
    await world.pool.execute("DELETE FROM scheduler_queue_settings")

    await until(lambda: _is(ended, 2), timeout=HALF_A_POLL)


async def _is(count: Any, number: int) -> bool:
    return bool(await count() == number)


async def test_a_worker_runs_only_the_tasks_that_its_pool_allows(
    world: World, started: MakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    await say(world.db, allowed=("*:visit",))
    monkeypatch.setenv("PGSCHEDULER_POOL", "pool")
    worker = await started(visit, keep)
    monkeypatch.delenv("PGSCHEDULER_POOL")
    job_id = await due(Scheduler(world.pool), keep)
    own = await due(worker, keep)

    async def tasks() -> list[str]:
        found: list[str] = await world.pool.fetchval("SELECT tasks FROM scheduler_workers")
        return found

    await until(lambda: _only_visit(tasks))
    assert [await status(world, job) for job in (job_id, own)] == [JobStatus.PENDING] * 2
    assert await PoolStore(world.db).delete("", "pool", "c", None)

    async def is_done() -> bool:
        return await status(world, job_id) is await status(world, own) is JobStatus.COMPLETED

    await until(is_done, timeout=HALF_A_POLL)


async def _only_visit(tasks: Any) -> bool:
    return all(name.endswith("visit") or name.startswith("pgscheduler.") for name in await tasks())


@pytest.mark.parametrize("concurrency", [None, 1000])
async def test_the_starts_of_a_workers_queues_are_as_their_weights(
    world: World, started: MakeScheduler, concurrency: int | None
) -> None:
    await say(world.db, bulk=QueueSettings(weight=1), mail=QueueSettings(weight=3, concurrency=concurrency))
    await world.pool.execute(
        "INSERT INTO scheduled_jobs (job_id, queue, task, job_name, task_data, execution_time)"
        " SELECT q || n, q, $1, 't', '{\"args\": [], \"kwargs\": {}}', now()"
        " FROM generate_series(1, 200) n, unnest('{bulk,mail}'::text[]) q",
        f"{keep.__module__}:keep",
    )
    await started(keep, queues=["bulk", "mail"], max_concurrent_jobs=10, batch_claim_limit=5)

    async def all_ended() -> bool:
        return not await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE finished_at IS NULL")

    await until(all_ended)
    first = await world.pool.fetch("SELECT queue FROM scheduled_jobs ORDER BY token LIMIT 160")

    share = Counter(row["queue"] for row in first)
    assert 100 <= share["mail"] <= 140, share  # 80 by chance; a claim beside another shifts it a little
