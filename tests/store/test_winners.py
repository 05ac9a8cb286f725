"""F42 and F43: cancel, REPLACE, a new time and a second chance against whatever else becomes of the job just then; and
two jobs that queue for one key against each other, and against the end of the one before them.

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
from support.waiting import PATIENCE
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


@dataclass(frozen=True, slots=True)
class Pair:
    """A key of limit 1, a job of it in some state, and two new ones that queue, each seen by one worker alone."""

    world: World
    workers: tuple[str, str]
    first: ClaimedJob

    async def claim(self, number: int) -> bool:
        """Whether this worker's job has been started."""
        queue = QUEUES[number]
        return bool(await self.world.jobs.claim_keyed(self.workers[number], "", [queue], ["t"], 1))

    async def statuses(self) -> tuple[str, str]:
        one, other = await self.world.statuses(*QUEUES)
        return one, other

    async def end(self, way: str) -> bool:
        """What becomes of the first job, by its worker or a client."""
        match way:
            case "complete":
                return bool(await self.world.jobs.complete([self.first], self.workers[0]))
            case "retry":
                return await self.world.jobs.retry(self.first, ERROR, 3600)
            case _:
                return await self.world.jobs.cancel(self.first.job_id)


QUEUES = ("one", "other")
"""Of the two jobs, which are named alike."""


async def pair_in(world: World, state: str, workers: tuple[str, str], *, jobs: int = 2) -> Pair:
    await world.pool.execute("DELETE FROM scheduled_jobs")
    first = await world.pending(concurrency_key="k", on_full="queue")
    (claim,) = await world.claim_keyed(workers[0])
    assert claim.job_id == first
    pair = Pair(world, workers, claim)
    if state == "retrying":
        await pair.end("retry")
    if state == "ended":
        await pair.end("complete")
    for number, name in enumerate(QUEUES[:jobs]):
        at = LONG_AGO + timedelta(hours=1 + number)
        assert await world.jobs.insert(
            new_job(job_id=name, queue=name, execution_time=at, concurrency_key="k", on_full="queue")
        )
    return pair


@pytest.mark.timeout(60 + ROUNDS)
@pytest.mark.parametrize(
    ("state", "if_one_first"),
    [
        ("running", ("waiting", "cancelled")),
        ("retrying", ("waiting", "cancelled")),
        ("ended", ("running", "waiting")),
    ],
)
async def test_of_two_that_queue_and_are_claimed_at_the_same_moment_exactly_one_waits(
    world: World, state: str, if_one_first: tuple[str, str]
) -> None:
    await asyncio.gather(*(world.pool.execute("SELECT pg_sleep(0.05)") for _ in range(4)))  # sessions for both
    workers = await world.worker(lease_seconds=36000), await world.worker(lease_seconds=36000)
    seen: Counter[tuple[str, str]] = Counter()
    lead = 0
    for _ in range(ROUNDS):
        pair = await pair_in(world, state, workers)
        await at_once(pair.claim(0), pair.claim(1), lead)
        while "pending" in await pair.statuses():  # the other claim had the key: it comes with the next look
            await in_turn(pair.claim(0), pair.claim(1))
        seen[left := await pair.statuses()] += 1
        lead += -STEPS if left == if_one_first else STEPS
    logger.info("two queue, %s: %s", state, seen.most_common())

    assert seen.keys() == {if_one_first, if_one_first[::-1]}


@pytest.mark.timeout(60 + ROUNDS)
@pytest.mark.parametrize(
    ("state", "way", "left"),
    [
        ("running", "complete", "running"),
        ("running", "cancel", "waiting"),
        ("running", "retry", "waiting"),
        ("retrying", "cancel", "running"),
    ],
)
async def test_a_job_that_queues_while_the_one_before_it_ends_is_neither_stranded_nor_started_beside_it(
    world: World, state: str, way: str, left: str
) -> None:
    """A cancelled one keeps its slot until its worker says that it has ended."""
    await asyncio.gather(*(world.pool.execute("SELECT pg_sleep(0.05)") for _ in range(4)))
    workers = await world.worker(lease_seconds=36000), await world.worker(lease_seconds=36000)
    seen: Counter[str] = Counter()
    for number in range(ROUNDS):
        pair = await pair_in(world, state, workers, jobs=1)
        await at_once(pair.claim(0), pair.end(way), number % 7 - 3)
        (status,) = await world.statuses(QUEUES[0])
        seen[status] += 1
        while "pending" in await world.statuses(QUEUES[0]):
            await pair.claim(0)
        assert await world.statuses(QUEUES[0]) == [left], status
    logger.info("%s, and one queues: %s", way, seen.most_common())


async def test_a_claim_that_lets_one_queue_keeps_its_key_from_another_until_it_is_written(world: World) -> None:
    workers = await world.worker(), await world.worker()
    pair = await pair_in(world, "running", workers)
    async with world.pool.acquire() as claimer, claimer.transaction():
        await claimer.fetch(QUERIES["claim_keyed_jobs"], workers[0], "", ["one"], ["t"], 1, False, 0.0)

        assert not await asyncio.wait_for(pair.claim(1), PATIENCE)

        assert await pair.statuses() == ("pending", "pending")
    await pair.claim(1)
    assert await pair.statuses() == ("waiting", "cancelled")
