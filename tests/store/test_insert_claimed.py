"""A job that is stored as claimed by its own process's worker: where the statement agrees, and where not."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pg_scheduler import JobStatus
from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._store.wakeups import JOBS_CHANNEL, OVERDUE_CHANNEL
from support.waiting import until
from support.world import World, new_job

if TYPE_CHECKING:
    from typing import Any

LATE = "UPDATE scheduler_workers SET lease_until = now() - interval '1 ms' WHERE id = $1"
DEAD = "UPDATE scheduler_workers SET state = 'dead' WHERE id = $1"
DRAINING = "UPDATE scheduler_workers SET drain_until = now() + interval '1 m' WHERE id = $1"
DRAINED = "UPDATE scheduler_workers SET drain_until = now() - interval '1 ms' WHERE id = $1"
PAUSED = "UPDATE scheduler_queues SET paused_at = now() WHERE $1 <> ''"
ELSEWHERE_PAUSED = "INSERT INTO scheduler_queues (tenant, queue, paused_at) SELECT 't', 'default', now() WHERE $1 <> ''"


async def insert_claimed(
    world: World, worker: str, *, within_seconds: float = 0.0, **changes: Any
) -> tuple[JobStatus | None, list[ClaimedJob]]:
    claimed: list[ClaimedJob] = []
    status = await world.jobs.insert_claimed(
        new_job(**changes), worker, within_seconds=within_seconds, on_claimed=claimed.append
    )
    return status, claimed


async def test_a_due_job_is_claimed_as_it_is_stored(world: World) -> None:
    worker = await world.worker()
    earlier = await world.running(worker)

    status, (claimed,) = await insert_claimed(world, worker)

    row = await world.row("j")
    assert status == row["status"] == "running"
    assert claimed == ClaimedJob.of_row(row)
    assert claimed.token > earlier.token
    assert (row["worker_id"], row["attempt"], row["started_at"]) == (worker, 1, row["created_at"])


@pytest.mark.parametrize("change", [LATE, DEAD, DRAINING, PAUSED])
async def test_it_is_pending_where_a_claim_would_not_bring_it(world: World, change: str) -> None:
    worker = await world.worker()
    await world.pool.execute(change, worker)

    assert await insert_claimed(world, worker) == (JobStatus.PENDING, [])
    row = await world.row("j")
    assert (row["worker_id"], row["token"], row["attempt"], row["started_at"]) == (None, 0, 0, None)


@pytest.mark.parametrize("change", [DRAINED, ELSEWHERE_PAUSED])
async def test_it_is_claimed_where_a_claim_would_bring_it(world: World, change: str) -> None:
    worker = await world.worker()
    await world.pool.execute(change, worker)

    assert (await insert_claimed(world, worker))[0] is JobStatus.RUNNING


async def test_it_is_pending_for_a_worker_that_is_not_there(world: World) -> None:
    assert await insert_claimed(world, "nobody") == (JobStatus.PENDING, [])


async def test_it_is_claimed_ahead_of_its_time_as_far_as_a_claim_looks(world: World) -> None:
    worker = await world.worker()
    now: datetime = await world.pool.fetchval("SELECT now()")

    near = await insert_claimed(
        world, worker, within_seconds=60, job_id="near", execution_time=now + timedelta(seconds=50)
    )
    far = await insert_claimed(
        world, worker, within_seconds=60, job_id="far", execution_time=now + timedelta(seconds=90)
    )

    assert (near[0], far[0]) == (JobStatus.RUNNING, JobStatus.PENDING)
    assert (await world.row("near"))["started_at"] == now + timedelta(seconds=50)


async def test_a_late_one_has_expired(world: World) -> None:
    worker = await world.worker()

    assert await insert_claimed(world, worker, misfire_grace_time=1) == (JobStatus.EXPIRED, [])
    row = await world.row("j")
    assert (row["worker_id"], row["token"], row["attempt"], row["started_at"]) == (None, 0, 0, None)


async def test_a_taken_id_stays_as_it_is(world: World) -> None:
    worker, job_id = await world.worker(), await world.pending()

    assert await insert_claimed(world, worker, job_id=job_id) == (None, [])
    assert await world.statuses(job_id) == ["pending"]


async def test_it_wakes_others_only_where_it_is_left_to_them(world: World, dsn: str) -> None:
    heard: list[str] = []
    worker, listener = await world.worker(), await asyncpg.connect(dsn)
    for channel in (JOBS_CHANNEL, OVERDUE_CHANNEL, "end"):
        await listener.add_listener(channel, lambda *told: heard.append(told[2]))

    await insert_claimed(world, worker, job_id="claimed")
    await world.pool.execute('NOTIFY "end"')
    await insert_claimed(world, "nobody", job_id="left")
    await until(lambda: len(heard) == 3)
    await listener.close()

    assert heard == ["end", OVERDUE_CHANNEL, JOBS_CHANNEL]
