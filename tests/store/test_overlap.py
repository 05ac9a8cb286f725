"""The verdict on a tick whose predecessor is open: the claim's and the simulation's are one."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING, get_args

import pytest

from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._domain.overlap import Verdict, has_its_turn, verdict
from pg_scheduler._domain.policies import Overlap
from support.world import LONG_AGO, World

if TYPE_CHECKING:
    from typing import Literal

    from pg_scheduler._domain.jobs import ClaimedJob

    Standing = Literal["nothing", "running", "retries later", "retries now"]

ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")
KEYED = tuple(each for each in get_args(Overlap) if each != "allow")
STANDINGS: tuple[Standing, ...] = ("nothing", "running", "retries later", "retries now")
REACHABLE = [
    (overlap, standing, waiting)
    for overlap, standing, waiting in product(KEYED, STANDINGS, (False, True))
    if not waiting or overlap == "queue" or (overlap == "replace" and standing == "running")
    if not (waiting and standing == "nothing")
]


async def tick(world: World, overlap: Overlap, number: int) -> str:
    due_at = LONG_AGO + timedelta(seconds=number)
    return await world.pending(concurrency_key="schedule:1", on_full=overlap, execution_time=due_at)


async def stand(world: World, worker: str, overlap: Overlap, standing: Standing, *, waiting: bool) -> ClaimedJob | None:
    """Bring the key into a state, by ticks that were claimed before; the first one's job."""
    if standing == "nothing":
        return None
    await tick(world, overlap, 0)
    (first,) = await world.claim_keyed(worker)
    if waiting:
        await tick(world, overlap, 1)
        assert await world.claim_keyed(worker) == []
    if standing != "running":
        assert await world.jobs.retry(first, ERROR, 3600 if standing == "retries later" else 0)
    return first


def expected(overlap: Overlap, standing: Standing, *, waiting: bool, due: int) -> list[str]:
    """What becomes of jobs that fall due at once, one verdict after the other, as the simulation has it."""
    running, retrying = standing == "running", standing.startswith("retries")
    statuses = []
    for newer in reversed(range(due)):
        match verdict(overlap, running=running, retrying=retrying, waiting=waiting, newer_due=newer > 0):
            case Verdict.START:
                running, status = True, "running"
            case Verdict.WAIT:
                waiting, status = True, "waiting"
            case Verdict.SKIP | Verdict.GIVE_WAY:
                status = "cancelled"
            case Verdict.REPLACE:
                status = "waiting" if running else "running"
        statuses.append(status)
    return statuses


@pytest.mark.parametrize("due", [1, 2, 3])
@pytest.mark.parametrize(("overlap", "standing", "waiting"), REACHABLE)
async def test_a_claim_says_what_the_verdict_says(
    world: World, overlap: Overlap, standing: Standing, waiting: bool, due: int
) -> None:
    worker = await world.worker()
    await stand(world, worker, overlap, standing, waiting=waiting)
    new = [await tick(world, overlap, 10 + number) for number in range(due)]

    await world.claim_keyed(worker)

    assert await world.statuses(*new) == expected(overlap, standing, waiting=waiting, due=due)


@pytest.mark.parametrize(("overlap", "retries"), [("queue", False), ("queue", True), ("replace", False)])
async def test_who_waits_has_its_turn_when_the_claim_says_so(world: World, overlap: Overlap, retries: bool) -> None:
    worker = await world.worker()
    first = await stand(world, worker, overlap, "running", waiting=False)
    assert first is not None
    second = await tick(world, overlap, 1)
    await world.claim_keyed(worker)

    if retries:
        assert await world.jobs.retry(first, ERROR, 3600)
    elif overlap == "replace":
        await world.pool.execute("UPDATE scheduled_jobs SET stopping_worker = NULL, stop_asked_at = NULL")
    else:
        assert await world.jobs.complete([first], worker)

    has_turn = (await world.statuses(second)) == ["pending"]
    assert has_turn == has_its_turn(overlap, retrying=retries)


async def test_what_a_replacement_finds_open_is_cancelled(world: World) -> None:
    worker = await world.worker()
    retrying = await stand(world, worker, "replace", "retries later", waiting=False)
    assert retrying is not None
    new = await tick(world, "replace", 10)

    assert [job.job_id for job in await world.claim_keyed(worker)] == [new]
    assert await world.statuses(retrying.job_id) == ["cancelled"]
