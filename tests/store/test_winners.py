"""F42 and F43: cancel, REPLACE and a second chance against every state of a job, at the same moment.

Invariant: exactly one side wins, each side's answer is the truth, and the row is never half of one and half of the
other. ``PGSCHEDULER_TEST_RACES`` sets how many rounds each race is run (150 if not set; the design's figure is 10,000).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler._domain.outcomes import ErrorRecord
from support.world import World, new_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

ROUNDS = int(os.environ.get("PGSCHEDULER_TEST_RACES", "150"))
ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")
TOMORROW = datetime.now(UTC) + timedelta(days=1)

pytestmark = pytest.mark.timeout(60 + ROUNDS)


async def at_once(first: Awaitable[object], second: Awaitable[object]) -> tuple[bool, bool]:
    """Both in flight together, now this one a little ahead and now that one; whether each says that it won."""

    async def after(pause: int, work: Awaitable[object]) -> bool:
        for _ in range(pause):
            await asyncio.sleep(0)
        return bool(await work)

    ahead = random.randrange(-12, 13)  # noqa: S311  to spread the moments, not to be secret
    a, b = await asyncio.gather(after(max(0, ahead), first), after(max(0, -ahead), second))
    return a, b


async def repeat(world: World, one: Callable[[str, str], Awaitable[str]]) -> Counter[str]:
    """Run the race ``ROUNDS`` times with a worker; how often each side won. The pool's sessions are open before."""
    await asyncio.gather(*(world.pool.execute("SELECT pg_sleep(0.05)") for _ in range(4)))
    worker = await world.worker(lease_seconds=3600)
    return Counter([await one(worker, await world.pending()) for _ in range(ROUNDS)])


def the_only_winner(row: asyncpg.Record, said: dict[str, bool]) -> str:
    (winner,) = [name for name, won in said.items() if won]
    assert row["status"] in {"completed", "failed", "cancelled", "pending", "running"}
    assert (row["finished_at"] is not None) == (row["status"] in {"completed", "failed", "cancelled"})
    return winner


async def test_cancel_of_a_running_job_or_its_outcome_wins(world: World) -> None:
    async def race(worker: str, job_id: str) -> str:
        (job,) = await world.claim(worker)
        completed, cancelled = await at_once(world.jobs.complete([job], worker), world.jobs.cancel(job_id))
        row = await world.row(job_id)
        winner = the_only_winner(row, {"completed": completed, "cancelled": cancelled})
        assert row["status"] == winner
        assert row["stopping_worker"] == (worker if cancelled else None)
        return winner

    assert_both_won(await repeat(world, race), "completed", "cancelled")


async def test_cancel_of_a_running_job_or_its_failure_wins(world: World) -> None:
    async def race(worker: str, job_id: str) -> str:
        (job,) = await world.claim(worker)
        failed, cancelled = await at_once(world.jobs.fail(job, ERROR), world.jobs.cancel(job_id))
        winner = the_only_winner(row := await world.row(job_id), {"failed": failed, "cancelled": cancelled})
        attempts = await world.pool.fetchval("SELECT count(*) FROM scheduler_attempts WHERE job_id = $1", job_id)
        assert (row["status"], attempts) == (winner, int(failed))
        return winner

    assert_both_won(await repeat(world, race), "failed", "cancelled")


async def test_cancel_of_a_pending_job_always_wins_and_tells_the_worker_that_claimed_it(world: World) -> None:
    async def race(worker: str, job_id: str) -> str:
        claimed, cancelled = await at_once(world.claim(worker), world.jobs.cancel(job_id))
        row = await world.row(job_id)
        assert (cancelled, row["status"]) == (True, "cancelled")
        assert row["stopping_worker"] == (worker if claimed else None)
        return "claimed before" if claimed else "never claimed"

    assert_both_won(await repeat(world, race), "claimed before", "never claimed")


async def test_of_two_cancels_one_wins(world: World) -> None:
    async def race(_worker: str, job_id: str) -> str:
        return the_only_winner(
            await world.row(job_id),
            dict(zip("ab", await at_once(world.jobs.cancel(job_id), world.jobs.cancel(job_id)), strict=True)),
        )

    assert sum((await repeat(world, race)).values()) == ROUNDS


async def test_replace_of_a_running_job_always_wins_and_never_loses_what_was_completed_before(world: World) -> None:
    async def race(worker: str, job_id: str) -> str:
        (job,) = await world.claim(worker)
        new = new_job(job_id=job_id, execution_time=TOMORROW, priority=1)
        completed, replaced = await at_once(world.jobs.complete([job], worker), world.jobs.replace(new))
        assert replaced
        assert_new_and_whole(await world.row(job_id), stopping=None if completed else worker)
        return "completed before" if completed else "fenced off"

    assert_both_won(await repeat(world, race), "completed before", "fenced off")


async def test_replace_of_a_pending_job_against_its_claim_leaves_the_new_job_whole(world: World) -> None:
    async def race(worker: str, job_id: str) -> str:
        new = new_job(job_id=job_id, execution_time=TOMORROW, priority=1)
        claim = asyncio.create_task(world.claim(worker))
        _, replaced = await at_once(claim, world.jobs.replace(new))
        assert replaced
        for job in await claim:
            assert job.execution_time != TOMORROW
            assert_new_and_whole(await world.row(job_id), stopping=worker)
            await world.jobs.report_stopped(job)
            return "claimed before"
        row = await world.row(job_id)
        assert (row["status"], row["execution_time"], row["attempt"]) == ("pending", TOMORROW, 0)
        return "never claimed"

    assert_both_won(await repeat(world, race), "claimed before", "never claimed")


async def test_of_a_second_chance_and_a_replace_the_new_job_stays_whole(world: World) -> None:
    async def race(worker: str, job_id: str) -> str:
        (job,) = await world.claim(worker)
        assert await world.jobs.fail(job, ERROR)
        new = new_job(job_id=job_id, execution_time=TOMORROW, priority=1)
        again, replaced = await at_once(world.jobs.run_again(job_id), world.jobs.replace(new))
        assert replaced
        assert_new_and_whole(await world.row(job_id), stopping=None)
        return "again, then replaced" if again else "replaced alone"

    assert_both_won(await repeat(world, race), "again, then replaced", "replaced alone")


async def test_of_a_second_chance_and_a_cancel_the_row_shows_the_last(world: World) -> None:
    async def race(worker: str, job_id: str) -> str:
        (job,) = await world.claim(worker)
        assert await world.jobs.fail(job, ERROR)
        again, cancelled = await at_once(world.jobs.run_again(job_id), world.jobs.cancel(job_id))
        row = await world.row(job_id)
        assert again
        assert row["status"] == ("cancelled" if cancelled else "pending")
        await world.jobs.cancel(job_id)
        return "cancelled" if cancelled else "pending"

    assert_both_won(await repeat(world, race), "cancelled", "pending")


def assert_new_and_whole(row: asyncpg.Record, *, stopping: str | None) -> None:
    """All of the new job, none of the old but that its coroutine may still run."""
    assert (row["status"], row["execution_time"], row["priority"]) == ("pending", TOMORROW, 1)
    assert (row["attempt"], row["retry_count"], row["finished_at"], row["error_message"]) == (0, 0, None, None)
    assert row["token"] == 0
    assert row["stopping_worker"] == stopping


def assert_both_won(winners: Counter[str], *names: str) -> None:
    """Else the moments were never tight, and the race was none."""
    assert winners.keys() == set(names), winners
