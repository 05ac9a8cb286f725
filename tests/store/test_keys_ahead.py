"""Claims of keyed jobs ahead of their time: a free slot is taken, and nothing else is decided before the job is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler._domain.outcomes import ErrorRecord
from support.keyed_jobs import held, keyed

if TYPE_CHECKING:
    from support.world import World

ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")
AHEAD = 60.0


def soon() -> datetime:
    """Within what the claims of this file look at, and beyond the end of the test."""
    return datetime.now(UTC) + timedelta(seconds=AHEAD / 2)


async def claimed_ahead(world: World, worker: str, limit: int = 100) -> list[str]:
    return [job.job_id for job in await world.claim_keyed(worker, limit, within_seconds=AHEAD)]


@pytest.mark.parametrize("on_full", ["wait", "skip", "queue"])
async def test_a_job_that_is_not_due_yet_takes_a_free_slot_and_starts_at_its_instant(
    world: World, on_full: str
) -> None:
    at = soon()
    (job_id,) = await keyed(world, on_full=on_full, execution_time=at)

    assert await claimed_ahead(world, await world.worker()) == [job_id]

    row = await world.row(job_id)
    assert (row["status"], row["started_at"], await held(world)) == ("running", at, [(job_id, 1)])


async def test_a_job_is_claimed_no_further_ahead_than_asked_for(world: World) -> None:
    worker = await world.worker()
    await keyed(world, execution_time=soon() + timedelta(seconds=AHEAD))

    assert await claimed_ahead(world, worker) == []


@pytest.mark.parametrize("on_full", ["wait", "skip", "queue", "replace"])
async def test_nothing_is_decided_of_a_job_that_is_not_due_while_its_key_is_full(world: World, on_full: str) -> None:
    worker = await world.worker()
    (running,) = await keyed(world)
    await world.claim_keyed(worker)
    jobs = await keyed(world, 2, on_full=on_full, execution_time=soon())

    assert await claimed_ahead(world, worker) == []

    assert await world.statuses(running, *jobs) == ["running", "pending", "pending"]


async def test_of_two_that_are_not_due_one_takes_the_slot_and_nothing_is_decided_of_the_other(world: World) -> None:
    worker = await world.worker()
    first, second = await keyed(world, 2, on_full="skip", execution_time=soon())

    assert await claimed_ahead(world, worker) == [first]

    assert await world.statuses(second) == ["pending"]


async def test_what_replaces_is_not_claimed_ahead(world: World) -> None:
    worker = await world.worker()
    (running,) = await keyed(world, on_full="replace")
    await world.claim_keyed(worker)
    await keyed(world, on_full="replace", execution_time=soon())
    await keyed(world, on_full="replace", concurrency_key="free", execution_time=soon())

    assert await claimed_ahead(world, worker) == []

    assert await world.statuses(running) == ["running"]


async def test_what_has_outlived_two_workers_is_not_claimed_ahead(world: World) -> None:
    worker = await world.worker()
    await keyed(world, execution_time=soon())
    await world.pool.execute("UPDATE scheduled_jobs SET interruptions = 2")
    other = await keyed(world, concurrency_key="l", execution_time=soon())

    assert await world.jobs.claim_keyed(worker, "", ["default"], ["t"], 1, alone=True, within_seconds=AHEAD) == []
    assert await claimed_ahead(world, worker) == other


async def test_a_due_job_goes_before_one_of_its_key_that_is_more_urgent_and_not_due(world: World) -> None:
    worker = await world.worker()
    (urgent,) = await keyed(world, priority=1, execution_time=soon())
    (due,) = await keyed(world, priority=8)

    assert await claimed_ahead(world, worker) == [due]

    assert await world.statuses(urgent) == ["pending"]


async def test_due_jobs_go_before_those_of_other_keys_that_are_not(world: World) -> None:
    worker = await world.worker()
    for priority in (1, 3):
        await keyed(world, priority=priority, concurrency_key=f"early {priority}", execution_time=soon())
    due = [(await keyed(world, priority=8, concurrency_key=f"due {number}"))[0] for number in range(3)]

    assert await claimed_ahead(world, worker, limit=2) == due[:2]

    assert due[2] in await claimed_ahead(world, worker, limit=2)


@pytest.mark.parametrize("on_full", ["skip", "queue"])
async def test_what_gives_way_does_so_to_a_retry_that_could_be_claimed_ahead(world: World, on_full: str) -> None:
    worker = await world.worker()
    (first,) = await keyed(world)
    (job,) = await world.claim_keyed(worker)
    await world.jobs.retry(job, ERROR, AHEAD / 2)
    (second,) = await keyed(world, on_full=on_full)

    assert await claimed_ahead(world, worker) == []

    assert await world.statuses(first, second) == ["pending", "cancelled" if on_full == "skip" else "waiting"]
    assert await claimed_ahead(world, worker) == [first]


@pytest.mark.parametrize("on_full", ["skip", "queue"])
async def test_what_is_not_due_takes_no_slot_of_one_that_will_be_retried(world: World, on_full: str) -> None:
    worker = await world.worker()
    await keyed(world)
    (job,) = await world.claim_keyed(worker)
    await world.jobs.retry(job, ERROR, 2 * AHEAD)
    (second,) = await keyed(world, on_full=on_full, execution_time=soon())

    assert await claimed_ahead(world, worker) == []

    assert await world.statuses(second) == ["pending"]


async def test_what_expires_before_it_is_due_is_not_claimed_ahead(world: World) -> None:
    worker = await world.worker()
    (job_id,) = await keyed(world, execution_time=soon())
    await world.pool.execute("UPDATE scheduled_jobs SET expires_at = execution_time - interval '1 second'")

    assert await claimed_ahead(world, worker) == []

    assert await world.statuses(job_id) == ["pending"]


async def test_a_paused_queue_gives_out_nothing_ahead(world: World) -> None:
    worker = await world.worker()
    await keyed(world, execution_time=soon())
    await world.pool.execute("UPDATE scheduler_queues SET paused_at = now()")

    assert await claimed_ahead(world, worker) == []


async def test_a_claim_of_the_release_before_takes_due_jobs_and_none_ahead(world: World) -> None:
    worker = await world.worker()
    due, queued = await keyed(world, 2, on_full="queue")
    await keyed(world, concurrency_key="l", execution_time=datetime.now(UTC) + timedelta(seconds=0.1))

    rows = await world.pool.fetch(
        "SELECT j.job_id FROM scheduler_claim_keyed($1, '', ARRAY['default'], ARRAY['t'], 10, false) j", worker
    )

    assert [row["job_id"] for row in rows] == [due]
    assert await world.statuses(queued) == ["waiting"]


async def test_the_keys_of_due_jobs_are_locked_before_those_of_others(world: World) -> None:
    """A claim locks 64 keys at most."""
    worker = await world.worker()
    for number in range(30):
        await keyed(world, priority=1, concurrency_key=f"early {number}", execution_time=soon())
    due = [(await keyed(world, concurrency_key=f"due {number}"))[0] for number in range(64)]

    assert sorted(await claimed_ahead(world, worker)) == sorted(due)
