"""The database's clock steps by a minute, and its counters stand near their ends."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler.job_status import JobStatus

if TYPE_CHECKING:
    from support.world import World

STEP = timedelta(seconds=60)


async def test_a_step_back_makes_leases_last_longer_and_runs_nothing_twice(world: World) -> None:
    worker, other = await world.worker(), await world.worker()
    job = await world.running(worker)

    await world.advance(-STEP)

    assert await world.workers.mark_dead() == []
    assert await world.jobs.requeue_orphans(3) == []
    assert await world.claim(other) == []
    assert await world.beat(worker) == {job.token}
    assert await world.jobs.complete([job], worker) == {job.token}


async def test_a_step_forward_costs_one_rescue_at_most_and_the_late_result_is_refused(world: World) -> None:
    worker = await world.worker()
    job = await world.running(worker)

    await world.advance(STEP)
    assert await world.workers.mark_dead() == [worker]
    assert await world.jobs.requeue_orphans(3) == [JobStatus.PENDING]
    heir = await world.worker()
    (again,) = await world.claim(heir)

    assert await world.workers.mark_dead() == []
    assert await world.jobs.requeue_orphans(3) == []
    assert await world.jobs.complete([job], worker) == set()
    assert await world.jobs.complete([again], heir) == {again.token}


@pytest.mark.parametrize("value", [2**31 - 3, 2**63 - 20], ids=["near int4's end", "near int8's end"])
async def test_tokens_and_ids_of_eight_bytes_go_every_way(world: World, value: int) -> None:
    for sequence in ("scheduler_token", "scheduled_jobs_id_seq"):
        await world.pool.execute(f"SELECT setval('{sequence}', {value})")
    worker, victim = await world.worker(), await world.worker()
    jobs = [await world.running(worker) for _ in range(4)]
    orphan = await world.running(victim)

    assert await world.beat(worker) == {job.token for job in jobs}
    assert await world.jobs.complete(jobs[:1], worker) == {jobs[0].token}
    assert await world.jobs.release(jobs[1:2], worker) == {jobs[1].token}
    assert await world.jobs.cancel(jobs[2].job_id)
    await world.bury(victim)
    assert await world.jobs.requeue_orphans(3) == [JobStatus.PENDING]
    assert {job.job_id for job in await world.claim(worker)} == {jobs[1].job_id, orphan.job_id}
    await world.pool.execute("UPDATE scheduled_jobs SET interruptions = 2, status = 'pending' WHERE status = 'running'")
    alone = await world.claim_alone(worker)
    assert alone is not None
    assert alone.token > value
