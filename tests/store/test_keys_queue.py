"""Jobs with ``on_full = 'queue'``: of those that find their key full one waits, and what has started goes before it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._store.queries import QUERIES
from support.keyed_jobs import held, keyed, somebody_waits_for_a_lock
from support.waiting import PATIENCE, until
from support.world import LONG_AGO

if TYPE_CHECKING:
    from support.world import World

ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")
SKIPPED = "skipped: its concurrency key was full"
REPLACED = "replaced: a newer job of its concurrency key took its place"


async def retrying(world: World, worker: str, *, after_seconds: float = 60, on_full: str = "queue") -> str:
    """A job that has failed once, and is due again later."""
    (job_id,) = await keyed(world, on_full=on_full)
    (job,) = await world.claim_keyed(worker)
    assert job.job_id == job_id
    assert await world.jobs.retry(job, ERROR, after_seconds)
    return job_id


async def started(world: World, worker: str) -> list[str]:
    return [job.job_id for job in await world.claim_keyed(worker)]


async def test_of_jobs_that_queue_the_first_waits_and_the_others_end(world: World) -> None:
    worker = await world.worker()
    first, second, third, fourth = await keyed(world, 4, on_full="queue")

    assert await started(world, worker) == [first]

    assert await world.statuses(first, second, third, fourth) == ["running", "waiting", "cancelled", "cancelled"]
    assert {(await world.row(job_id))["error_message"] for job_id in (third, fourth)} == {SKIPPED}


async def test_the_earliest_waits_whatever_its_priority(world: World) -> None:
    worker = await world.worker()
    await keyed(world, on_full="queue")
    await started(world, worker)
    later = LONG_AGO + timedelta(hours=1)
    (urgent,) = await keyed(world, on_full="queue", execution_time=later + timedelta(hours=1), priority=1)
    (early,) = await keyed(world, on_full="queue", execution_time=later, priority=8)

    assert await started(world, worker) == []

    assert await world.statuses(early, urgent) == ["waiting", "cancelled"]


async def test_a_job_that_queues_ends_where_one_waits_already(world: World) -> None:
    worker = await world.worker()
    await keyed(world, 2, on_full="queue")
    (running,) = await world.claim_keyed(worker)
    (third,) = await keyed(world, on_full="queue", execution_time=LONG_AGO - timedelta(hours=1))

    assert await started(world, worker) == []

    assert await world.statuses(third) == ["cancelled"]
    await world.jobs.complete([running], worker)
    (fourth,) = await keyed(world, on_full="queue", execution_time=LONG_AGO + timedelta(hours=1))
    assert len(await started(world, worker)) == 1
    assert await world.statuses(fourth) == ["waiting"]


async def test_the_one_that_waits_starts_when_the_running_one_has_ended(world: World) -> None:
    worker = await world.worker()
    _, second = await keyed(world, 2, on_full="queue")
    (running,) = await world.claim_keyed(worker)

    await world.jobs.complete([running], worker)

    assert await world.statuses(second) == ["pending"]
    assert await started(world, worker) == [second]


async def test_jobs_of_other_kinds_that_wait_do_not_count_as_the_one_that_queues(world: World) -> None:
    worker = await world.worker()
    await keyed(world, 3)
    await started(world, worker)
    jobs = await keyed(world, 2, on_full="queue")

    assert await started(world, worker) == []

    assert await world.statuses(*jobs) == ["waiting", "cancelled"]


async def test_a_retry_that_waits_does_not_count_as_the_one_that_queues(world: World) -> None:
    worker = await world.worker()
    first = await retrying(world, worker)
    await keyed(world)
    (other,) = await world.claim_keyed(worker)
    await world.pool.execute("UPDATE scheduled_jobs SET execution_time = $2 WHERE job_id = $1", first, LONG_AGO)
    await started(world, worker)
    jobs = await keyed(world, 2, on_full="queue")

    assert await started(world, worker) == []

    assert await world.statuses(first, *jobs) == ["waiting", "waiting", "cancelled"]
    await world.jobs.complete([other], worker)
    assert await started(world, worker) == [first]


async def test_one_queues_where_the_limit_is_higher_too(world: World) -> None:
    worker = await world.worker()
    jobs = await keyed(world, 4, on_full="queue", concurrency_limit=2)

    assert len(await started(world, worker)) == 2

    assert await world.statuses(*jobs) == ["running", "running", "waiting", "cancelled"]


async def test_keys_queue_apart_in_one_claim(world: World) -> None:
    worker = await world.worker()
    k = await keyed(world, 3, on_full="queue")
    other = await keyed(world, 3, on_full="queue", concurrency_key="l")

    assert len(await started(world, worker)) == 2

    assert await world.statuses(*k, *other) == ["running", "waiting", "cancelled"] * 2


async def test_a_job_that_queues_is_not_started_beside_one_that_will_be_retried(world: World) -> None:
    worker = await world.worker()
    first = await retrying(world, worker)
    second, third = await keyed(world, 2, on_full="queue")

    assert await started(world, worker) == []

    assert await held(world) == []
    assert await world.statuses(first, second, third) == ["pending", "waiting", "cancelled"]
    assert await world.jobs.promote_waiting() == 0, "it would only find its key full again"


async def test_a_retry_keeps_its_right_before_one_that_queues(world: World) -> None:
    worker = await world.worker()
    first = await retrying(world, worker)
    (second,) = await keyed(world, on_full="queue")
    await started(world, worker)
    await world.advance(timedelta(seconds=61))
    await world.beat(worker)

    (again,) = await world.claim_keyed(worker)

    assert (again.job_id, await world.statuses(second)) == (first, ["waiting"])
    await world.jobs.complete([again], worker)
    assert await started(world, worker) == [second]


async def test_a_retry_that_is_due_at_once_goes_before_one_that_queues(world: World) -> None:
    worker = await world.worker()
    first, second = await keyed(world, 2, on_full="queue")
    (job,) = await world.claim_keyed(worker)

    await world.jobs.retry(job, ERROR, 0)

    assert await world.statuses(second) == ["waiting"]
    assert await started(world, worker) == [first]


async def test_what_a_dead_worker_ran_goes_before_one_that_queues(world: World) -> None:
    worker, other = await world.worker(), await world.worker()
    first, second = await keyed(world, 2, on_full="queue")
    await started(world, worker)

    await world.bury(worker)
    assert await world.jobs.requeue_orphans(3)

    assert await started(world, other) == [first]
    assert await world.statuses(second) == ["waiting"]


async def test_what_is_handed_back_goes_before_one_that_queues(world: World) -> None:
    """Its attempt is not charged: by that alone it would look as if it had not started."""
    worker, other = await world.worker(), await world.worker()
    first, second = await keyed(world, 2, on_full="queue")
    jobs = await world.claim_keyed(worker)

    await world.jobs.release(jobs, worker)

    assert await started(world, other) == [first]
    assert await world.statuses(second) == ["waiting"]


@pytest.mark.parametrize("change", ["cancelled", "deleted", "replaced"])
async def test_the_one_that_waits_for_a_retry_starts_once_there_will_be_none(world: World, change: str) -> None:
    worker = await world.worker()
    first = await retrying(world, worker)
    (second,) = await keyed(world, on_full="queue")
    await started(world, worker)
    assert await world.statuses(second) == ["waiting"]

    match change:
        case "cancelled":
            await world.jobs.cancel(first)
        case "deleted":
            await world.pool.execute("DELETE FROM scheduled_jobs WHERE job_id = $1", first)
        case _:
            await world.pool.execute(
                "SELECT scheduler_enqueue('t', run_at => now() + interval '1 hour', job_id => $1,"
                " on_conflict => 'replace')",
                first,
            )

    assert await world.statuses(second) == ["pending"]
    assert await started(world, worker) == [second]


@pytest.mark.parametrize("on_full", ["skip", "queue"])
async def test_none_is_started_beside_one_that_waits_and_has_not_been_promoted(world: World, on_full: str) -> None:
    worker = await world.worker()
    _, second = await keyed(world, 2, on_full="queue")
    await started(world, worker)
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")  # no trigger sees the end
        await connection.execute(
            "UPDATE scheduled_jobs SET status = 'completed', finished_at = now() WHERE status = 'running'"
        )
        await connection.execute("DELETE FROM scheduler_slots")
    (third,) = await keyed(world, on_full=on_full, execution_time=LONG_AGO + timedelta(hours=1))

    assert await started(world, worker) == []

    assert await world.statuses(second, third) == ["waiting", "pending"]
    assert await world.jobs.promote_waiting() == 1
    assert await started(world, worker) == [second]


async def test_none_queues_while_the_retry_before_it_is_being_ended(world: World) -> None:
    """Parked, it would wait for a promotion that has been looked for already."""
    worker = await world.worker()
    first = await retrying(world, worker)
    (second,) = await keyed(world, on_full="queue")

    async with world.pool.acquire() as canceller, canceller.transaction():
        await canceller.fetch(QUERIES["cancel_job"], first)
        assert await asyncio.wait_for(world.claim_keyed(worker), PATIENCE) == []
        assert await world.statuses(second) == ["pending"]

    assert await started(world, worker) == [second]


async def test_who_ends_a_retry_waits_for_a_claim_that_lets_one_queue_behind_it(world: World) -> None:
    worker = await world.worker()
    first = await retrying(world, worker)
    (second,) = await keyed(world, on_full="queue")

    async with world.pool.acquire() as claimer:
        async with claimer.transaction():
            await claimer.fetch(QUERIES["claim_keyed_jobs"], worker, "", ["default"], ["t"], 10, False, 0.0)
            cancelled = asyncio.create_task(world.jobs.cancel(first))
            await until(lambda: somebody_waits_for_a_lock(world.pool), what="the canceller waits for the claim")
        assert await cancelled

    assert await world.statuses(first, second) == ["cancelled", "pending"]


async def test_a_job_that_replaces_does_not_displace_a_newer_one_that_was_first_to_start(world: World) -> None:
    """Two workers at once: the row of the older was locked by one, and the other gave the slot to the newer."""
    worker = await world.worker()
    old, new = await keyed(world, 2, on_full="replace")
    async with world.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM scheduled_jobs WHERE job_id = $1 FOR UPDATE", old)
        assert await started(world, worker) == [new]

    assert await started(world, worker) == []

    assert await world.statuses(old, new) == ["cancelled", "running"]
    assert (await world.row(old))["error_message"] == REPLACED


async def test_a_job_that_replaces_displaces_one_that_was_submitted_before_it_with_a_later_time(world: World) -> None:
    """Whose clock is behind asks for its job no less."""
    worker = await world.worker()
    (running,) = await keyed(world, on_full="replace", execution_time=LONG_AGO + timedelta(seconds=1))
    await started(world, worker)
    (new,) = await keyed(world, on_full="replace")

    assert await started(world, worker) == []

    assert await world.statuses(running, new) == ["cancelled", "waiting"]


async def test_a_predecessor_that_waits_for_its_retry_is_replaced_with_the_words_of_one(world: World) -> None:
    worker = await world.worker()
    first = await retrying(world, worker, on_full="replace")
    (new,) = await keyed(world, on_full="replace")

    assert await started(world, worker) == [new]

    assert await world.statuses(first) == ["cancelled"]
    assert (await world.row(first))["error_message"] == REPLACED
