"""F42 and F43: cancel, REPLACE, a new time and a second chance against whatever else becomes of the job just then.

Invariant: both sides at the same moment are as if one had come after the other: each one's answer is the truth, and the
row is never half of one and half of the other. With ``make chaos`` each race is run 10,000 times, the design's figure.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._store.queries import QUERIES
from support.sizes import sized
from support.world import LONG_AGO, World, new_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pg_scheduler._domain.jobs import ClaimedJob

    Answers = tuple[bool, bool]

ROUNDS = sized(40, 10_000)
ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")
TOMORROW = datetime.now(UTC) + timedelta(days=1)
NEXT_WEEK = datetime.now(UTC) + timedelta(days=7)
TIMES = {LONG_AGO: "as submitted", TOMORROW: "as replaced", NEXT_WEEK: "as moved"}
STEPS = 2
"""Of the event loop, by which a race is adjusted from round to round."""
LEFT = """
SELECT status, priority, attempt, retry_count, interruptions, error_message, token = 0, started_at IS NULL,
       finished_at IS NULL, stopping_worker IS NULL, execution_time,
       (SELECT count(*) FROM scheduler_attempts a WHERE a.job_id = j.job_id)
FROM scheduled_jobs j
"""

logger = logging.getLogger("chaos")


@dataclass(frozen=True, slots=True)
class Subject:
    """A job in the state in which the race finds it, and the claim that it is or was in."""

    world: World
    worker: str
    job_id: str
    claim: ClaimedJob | None

    @property
    def held(self) -> ClaimedJob:
        assert self.claim is not None
        return self.claim

    async def complete_in_transaction(self) -> bool:
        values = self.held.id, self.held.token, self.worker
        async with self.world.db.transaction() as connection:
            return await connection.fetchrow(QUERIES["complete_in_transaction"], *values) is not None


OPERATIONS: dict[str, Callable[[Subject], Awaitable[object]]] = {
    "claim": lambda s: s.world.claim(s.worker),
    "cancel": lambda s: s.world.jobs.cancel(s.job_id),
    "replace": lambda s: s.world.jobs.replace(new_job(job_id=s.job_id, execution_time=TOMORROW, priority=1)),
    "reschedule": lambda s: s.world.jobs.reschedule(s.job_id, NEXT_WEEK),
    "run again": lambda s: s.world.jobs.run_again(s.job_id),
    "complete": lambda s: s.world.jobs.complete([s.held], s.worker),
    "commit": Subject.complete_in_transaction,
    "fail": lambda s: s.world.jobs.fail(s.held, ERROR),
    "retry": lambda s: s.world.jobs.retry(s.held, ERROR, 60),
    "release": lambda s: s.world.jobs.release([s.held], s.worker),
    "rescue": lambda s: s.world.jobs.requeue_orphans(3),
}
BOTH, FIRST, SECOND = (True, True), (True, False), (False, True)
RACES = [
    # state, one side, the other; who is told yes if the one comes first, and who if the other does
    ("pending", "claim", "cancel", BOTH, SECOND),
    ("pending", "claim", "replace", BOTH, SECOND),
    ("pending", "claim", "reschedule", FIRST, SECOND),
    ("pending", "cancel", "cancel", FIRST, SECOND),
    ("pending", "cancel", "replace", BOTH, BOTH),
    ("pending", "cancel", "reschedule", FIRST, BOTH),
    ("pending", "replace", "reschedule", BOTH, BOTH),
    ("running", "complete", "cancel", FIRST, SECOND),
    ("running", "complete", "replace", BOTH, SECOND),
    ("running", "commit", "cancel", FIRST, SECOND),
    ("running", "commit", "replace", BOTH, SECOND),
    ("running", "fail", "cancel", FIRST, SECOND),
    ("running", "fail", "replace", BOTH, SECOND),
    ("running", "retry", "cancel", BOTH, SECOND),
    ("running", "retry", "replace", BOTH, SECOND),
    ("running", "retry", "reschedule", BOTH, FIRST),
    ("running", "release", "cancel", BOTH, SECOND),
    ("running", "release", "replace", BOTH, SECOND),
    ("running", "release", "reschedule", BOTH, FIRST),
    ("running", "cancel", "replace", BOTH, BOTH),
    ("orphaned", "rescue", "complete", FIRST, SECOND),
    ("orphaned", "rescue", "cancel", BOTH, SECOND),
    ("orphaned", "rescue", "replace", BOTH, SECOND),
    ("orphaned", "rescue", "reschedule", BOTH, FIRST),
    ("failed", "run again", "cancel", BOTH, FIRST),
    ("failed", "run again", "replace", BOTH, SECOND),
]
NAMES = [f"{state}-{one}-{other}" for state, one, other, *_ in RACES]


@pytest.mark.timeout(60 + ROUNDS)
@pytest.mark.parametrize(("state", "one", "other", "if_one_first", "if_other_first"), RACES, ids=NAMES)
async def test_of_two_at_the_same_moment_one_comes_first_and_both_are_told_the_truth(
    world: World, state: str, one: str, other: str, if_one_first: Answers, if_other_first: Answers
) -> None:
    await asyncio.gather(*(world.pool.execute("SELECT pg_sleep(0.05)") for _ in range(4)))  # sessions for both
    worker = await world.worker(lease_seconds=36000)
    first, second = OPERATIONS[one], OPERATIONS[other]

    async def outcome(run: Callable[[Subject], Awaitable[Answers]]) -> tuple[Answers, tuple[object, ...]]:
        answers = await run(await in_state(world, worker, state))
        return answers, await taken_away(world)

    one_first = await outcome(lambda s: in_turn(first(s), second(s)))
    other_first = await outcome(lambda s: in_turn(second(s), first(s)))
    seen: Counter[object] = Counter()
    lead = 0
    for _ in range(ROUNDS):
        seen[left := await outcome(lambda s: at_once(first(s), second(s), lead))] += 1  # noqa: B023  awaited here
        lead += -STEPS if left == one_first else STEPS  # whoever came first gives way: the next moment is the tighter
    logger.info("%s: %s and %s, %s", state, one, other, [count for _, count in seen.most_common()])

    assert (one_first[0], other_first[0][::-1]) == (if_one_first, if_other_first)
    # Both have been seen, else the moments were never tight and the race was none.
    assert seen.keys() == {one_first, (other_first[0][::-1], other_first[1])}


async def in_state(world: World, worker: str, state: str) -> Subject:
    job_id, claim = await world.pending(), None
    if state == "orphaned":
        await world.pool.execute("DELETE FROM scheduler_workers WHERE state = 'dead'")  # those of earlier rounds
        worker = await world.worker()
    if state != "pending":
        (claim,) = await world.claim(worker)
    if state == "failed":
        assert claim is not None
        assert await world.jobs.fail(claim, ERROR)
    if state == "orphaned":
        await world.bury(worker)
    return Subject(world, worker, job_id, claim)


async def taken_away(world: World) -> tuple[object, ...]:
    """What the next reader of the one job would see, without what differs from round to round; then make room."""
    (row,) = await world.pool.fetch(LEFT)
    await world.pool.execute("DELETE FROM scheduled_jobs")
    return tuple(TIMES.get(value, "from now") if isinstance(value, datetime) else value for value in row)


async def in_turn(first: Awaitable[Any], second: Awaitable[Any]) -> Answers:
    return bool(await first), bool(await second)


async def at_once(first: Awaitable[Any], second: Awaitable[Any], lead: int) -> Answers:
    """Both in flight together, the first so many steps of the loop ahead, or behind."""

    async def after(steps: int, work: Awaitable[Any]) -> bool:
        for _ in range(steps):
            await asyncio.sleep(0)
        return bool(await work)

    a, b = await asyncio.gather(after(max(0, -lead), first), after(max(0, lead), second))
    return a, b
