"""Jobs per second of one worker while others are submitted in every way, all at once.

Ten clients each submit blocks of 200 jobs due now, and between them single jobs due now and due a little later.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import asyncpg

from benchmarks import tasks
from benchmarks.bare import INSERT, INSERT_AND_NOTIFY, copy_in
from benchmarks.bench import Bench, Scenario
from benchmarks.draining import all_ended
from benchmarks.figures import Figure, compared
from benchmarks.processes import LARGE, workers
from pg_scheduler import JobSpec, Scheduler

if TYPE_CHECKING:
    from benchmarks.bench import Pool
    from benchmarks.child import Side

CLIENTS = 10
ROUNDS = 10
BLOCK = 200
SINGLES = 10
LATER_SECONDS = 0.2


class Client(Protocol):
    """How one side submits."""

    async def block(self, due_at: datetime) -> None:
        """``BLOCK`` jobs in one commit."""

    async def one(self, due_at: datetime) -> None:
        """One job."""


class OurClient:
    """Through a scheduler that is not started."""

    def __init__(self, pool: Pool) -> None:
        self._scheduler = Scheduler(pool)

    async def block(self, due_at: datetime) -> None:
        """By ``schedule_bulk``."""
        await self._scheduler.schedule_bulk([JobSpec(tasks.noop, due_at)] * BLOCK)

    async def one(self, due_at: datetime) -> None:
        """By ``schedule``."""
        await self._scheduler.schedule(tasks.noop, execution_time=due_at)


class BareClient:
    """By COPY and INSERT; it rings for every job that is due."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def block(self, due_at: datetime) -> None:
        """By COPY."""
        async with self._pool.acquire() as connection:
            await copy_in(connection, [due_at] * BLOCK)

    async def one(self, due_at: datetime) -> None:
        """By INSERT."""
        statement = INSERT_AND_NOTIFY if due_at <= datetime.now(UTC) else INSERT
        await self._pool.fetch(statement, "noop", "{}", due_at)


async def run(bench: Bench) -> list[Figure]:
    """In turn."""
    rounds = bench.scaled(ROUNDS, least=1)
    ours, bare = [], []
    for _ in bench.turns("mixed"):
        ours.append(await _measured(bench, "ours", rounds))
        bare.append(await _measured(bench, "bare", rounds))
    jobs = CLIENTS * rounds * (BLOCK + 2 * SINGLES)
    return [compared("mixed", f"{jobs:,} jobs submitted meanwhile", "jobs/s", ours, bare)]


async def _measured(bench: Bench, side: Side, rounds: int) -> float:
    async with (
        bench.database() as dsn,
        workers(1, side, dsn, LARGE, bench=bench) as working,
        asyncpg.create_pool(dsn, min_size=CLIENTS, max_size=CLIENTS) as pool,
    ):
        began_at = datetime.now(UTC)
        client: Client = OurClient(pool) if side == "ours" else BareClient(pool)
        await asyncio.gather(*(_submit(client, rounds) for _ in range(CLIENTS)))
        jobs = CLIENTS * rounds * (BLOCK + 2 * SINGLES)
        drained = await all_ended(side, dsn, jobs, working, since=began_at, submitted_from=began_at)
        return drained.jobs_per_second


async def _submit(client: Client, rounds: int) -> None:
    for _ in range(rounds):
        await client.block(datetime.now(UTC))
        for _ in range(SINGLES):
            await client.one(datetime.now(UTC))
            await client.one(datetime.now(UTC) + timedelta(seconds=LATER_SECONDS))


SCENARIO = Scenario(name="mixed", about="a worker while jobs are submitted in every way", run=run)
