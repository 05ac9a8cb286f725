"""What became of a tick, as its job tells it: whoever writes the words agrees with the function that reads them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler.job_status import JobStatus
from support.keyed_jobs import keyed
from support.world import LONG_AGO

if TYPE_CHECKING:
    from support.world import World

ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")
OF_STATUS = {
    "pending": "open",
    "running": "open",
    "waiting": "open",
    "completed": "ran",
    "failed": "ran",
    "expired": "missed",
    "cancelled": "cancelled",
}
SKIPPED = "skipped: its concurrency key was full"
REPLACED = "replaced: a newer job of its concurrency key took its place"


async def ends(world: World, *job_ids: str) -> list[tuple[str, str, str | None]]:
    """Of each job its status, the outcome of its tick, and the words."""
    rows = await world.pool.fetch(
        "SELECT status, scheduler_tick_outcome(status, error_message) AS outcome, error_message FROM scheduled_jobs"
        " WHERE job_id = ANY($1) ORDER BY array_position($1, job_id)",
        list(job_ids),
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("status", list(JobStatus))
async def test_each_status_has_its_outcome_whatever_the_error(world: World, status: JobStatus) -> None:
    for message in (None, "KeyError: 'x'", "skipped", REPLACED):
        outcome = await world.pool.fetchval("SELECT scheduler_tick_outcome($1, $2)", status.value, message)
        assert outcome == OF_STATUS[status.value], message


@pytest.mark.parametrize("on_full", ["skip", "queue"])
async def test_a_job_whose_key_was_full_has_skipped_an_overlap(world: World, on_full: str) -> None:
    worker = await world.worker()
    *_, last = await keyed(world, 3, on_full=on_full)

    await world.claim_keyed(worker)

    assert await ends(world, last) == [("cancelled", "skipped_overlap", SKIPPED)]


async def test_a_job_that_would_have_run_beside_a_retry_has_skipped_an_overlap(world: World) -> None:
    worker = await world.worker()
    await keyed(world, on_full="skip")
    (job,) = await world.claim_keyed(worker)
    await world.jobs.retry(job, ERROR, 60)
    (second,) = await keyed(world, on_full="skip")

    await world.claim_keyed(worker)

    assert await ends(world, second) == [("cancelled", "skipped_overlap", SKIPPED)]


@pytest.mark.parametrize("found", ["due", "waiting", "running", "retrying"])
async def test_a_job_in_whose_place_a_newer_one_runs_is_cancelled(world: World, found: str) -> None:
    worker = await world.worker()
    old, middle = await keyed(world, 2, on_full="replace")
    await world.pool.execute("UPDATE scheduled_jobs SET suspended = $2 WHERE job_id = $1", middle, found != "due")
    if found != "due":
        (job,) = await world.claim_keyed(worker)
    if found == "retrying":
        await world.jobs.retry(job, ERROR, 60)
    if found == "waiting":
        await world.pool.execute("UPDATE scheduled_jobs SET suspended = false")
        await world.claim_keyed(worker)
        assert await world.statuses(middle) == ["waiting"]
    await keyed(world, on_full="replace", execution_time=LONG_AGO + timedelta(hours=1))

    await world.claim_keyed(worker)

    displaced = middle if found == "waiting" else old
    assert await ends(world, displaced) == [("cancelled", "cancelled", REPLACED)]


async def test_a_job_that_was_skipped_and_is_run_again_is_told_by_its_new_end(world: World) -> None:
    worker = await world.worker()
    first, second = await keyed(world, 2, on_full="skip")
    (job,) = await world.claim_keyed(worker)
    await world.jobs.complete([job], worker)
    await world.jobs.run_again(second)
    assert await ends(world, first, second) == [("completed", "ran", None), ("pending", "open", None)]

    await world.jobs.cancel(second)

    assert await ends(world, second) == [("cancelled", "cancelled", None)]
