"""Jobs that have outlived two workers: claimed alone, by a worker that holds nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler.job_status import JobStatus

if TYPE_CHECKING:
    from support.world import World


async def interrupted(world: World, times: int, **changes: object) -> str:
    job_id = await world.pending(**changes)
    await world.pool.execute("UPDATE scheduled_jobs SET interruptions = $2 WHERE job_id = $1", job_id, times)
    return job_id


async def test_from_its_second_death_on_a_job_is_claimed_alone(world: World) -> None:
    worker = await world.worker()
    once, twice, thrice = [await interrupted(world, times) for times in (1, 2, 3)]

    assert [job.job_id for job in await world.claim(worker)] == [once]
    assert (await world.jobs.look_ahead("", ["default"], ["t"])).due_in is None
    alone = [await world.claim_alone(worker) for _ in range(3)]
    assert [job and job.job_id for job in alone] == [twice, thrice, None]
    assert alone[0] is not None
    assert (alone[0].attempt, alone[0].worker_id) == (1, worker)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "unknown"},
        {"queue": "other"},
        {"tenant": "other"},
        {"suspended": True},
        {"execution_time": datetime.now(UTC) + timedelta(hours=1)},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_what_is_not_this_workers_is_left_alone(world: World, changes: dict[str, object]) -> None:
    worker = await world.worker()
    await interrupted(world, 2, **changes)

    assert await world.claim_alone(worker) is None
    assert not await world.jobs.must_make_room(worker, "", ["default"], ["t"])


async def test_a_worker_without_a_lease_gets_no_poison_job(world: World) -> None:
    dead = await world.worker()
    await interrupted(world, 2)
    await world.bury(dead)

    assert await world.claim_alone(dead) is None


async def test_one_of_the_workers_that_could_run_it_makes_room(world: World) -> None:
    others = await world.worker(tasks=["u"])
    workers = [await world.worker() for _ in range(3)]

    async def make_room() -> list[bool]:
        return [await world.jobs.must_make_room(worker, "", ["default"], ["t"]) for worker in (others, *workers)]

    before = await make_room()
    await interrupted(world, 2)

    assert before == [False] * 4
    assert await make_room() == [False, True, False, False]
    await world.bury(workers[0])
    assert await make_room() == [False, False, True, False]


async def test_only_the_job_with_the_most_interruptions_is_charged_for_a_death(world: World) -> None:
    worker = await world.worker()
    innocent, poison = await interrupted(world, 0), await interrupted(world, 1)
    await world.claim(worker)
    await world.bury(worker)

    assert await world.jobs.requeue_orphans(3) == [JobStatus.PENDING] * 2

    counts = [(await world.row(job))["interruptions"] for job in (innocent, poison)]
    assert counts == [0, 2]


async def test_each_dead_worker_is_counted_for_itself(world: World) -> None:
    jobs = []
    for times in (0, 1):
        worker = await world.worker()
        jobs.append(await interrupted(world, times))
        await world.claim(worker)
    await world.bury()

    await world.jobs.requeue_orphans(3)

    assert [(await world.row(job))["interruptions"] for job in jobs] == [1, 2]


async def test_a_jobs_own_limit_goes_before_the_workers(world: World) -> None:
    worker = await world.worker()
    none, many = await world.pending(max_interruptions=0), await world.pending(max_interruptions=9)
    await world.claim(worker)
    await world.bury(worker)

    await world.jobs.requeue_orphans(0)

    rows = [await world.row(job) for job in (none, many)]
    assert [(row["status"], row["error_message"]) for row in rows] == [("failed", "worker died"), ("pending", None)]


async def test_an_at_most_once_job_fails_at_the_first_death_whoever_is_charged(world: World) -> None:
    worker = await world.worker()
    once, poison = await world.pending(on_interrupt="fail"), await interrupted(world, 1)
    await world.claim(worker)
    await world.bury(worker)

    await world.jobs.requeue_orphans(3)

    row = await world.row(once)
    assert (row["status"], row["error_message"], row["interruptions"]) == ("failed", "worker died", 0)
    assert (await world.row(poison))["status"] == "pending"


async def test_each_interruption_leaves_the_record_of_its_attempt(world: World) -> None:
    job_id = await world.pending()
    tokens = []
    for _ in range(2):
        worker = await world.worker()
        tokens += [job.token for job in await world.claim(worker)]
        await world.bury(worker)
        await world.jobs.requeue_orphans(3)

    attempts = await world.pool.fetch("SELECT * FROM scheduler_attempts WHERE job_id = $1 ORDER BY token", job_id)

    assert [row["token"] for row in attempts] == tokens
    assert [(row["attempt"], row["worker_id"]) for row in attempts] == [(1, "w2"), (2, "w3")]
    assert {(row["error_type"], row["message"]) for row in attempts} == {("WorkerDied", "worker died")}
    assert all(row["started_at"] for row in attempts)
