"""The yardstick: a queue of one table, written by hand on asyncpg, with nothing in it that a queue can do without.

What it does, on one connection and one statement after the other: claim up to n due rows by ``UPDATE … FOR UPDATE
SKIP LOCKED LIMIT n RETURNING``, await an async function for each row, complete them all by one ``UPDATE … = ANY``;
where nothing is due, wait for a NOTIFY or the next due time. Its statements avoid the plans that are known to be slow:
the claim does not join, ties in the order are left to the index, and no other index changes.

What it has not: it decodes no arguments, has no leases, tokens, retries, time-outs, contexts, priorities or queues,
loses the jobs of a process that dies, and breaks at the first error.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from benchmarks import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

SCHEMA = """
CREATE TABLE bare_jobs (
    id          bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task        text        NOT NULL,
    payload     json        NOT NULL,
    due_at      timestamptz NOT NULL,
    status      text        NOT NULL DEFAULT 'pending',
    started_at  timestamptz,
    finished_at timestamptz
);
CREATE INDEX bare_jobs_due ON bare_jobs (due_at) WHERE status = 'pending';
"""
COLUMNS = ("task", "payload", "due_at")
CLAIM = """
WITH due AS MATERIALIZED (
    SELECT id FROM bare_jobs WHERE status = 'pending' AND due_at <= now()
    ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE bare_jobs SET status = 'running', started_at = now() WHERE id = ANY (ARRAY(SELECT id FROM due))
RETURNING id, task, payload, due_at
"""
COMPLETE = "UPDATE bare_jobs SET status = 'completed', finished_at = now() WHERE id = ANY ($1)"
NEXT_DUE = """
SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM bare_jobs WHERE status = 'pending'
ORDER BY due_at LIMIT 1
"""
INSERT = "INSERT INTO bare_jobs (task, payload, due_at) VALUES ($1, $2, $3) RETURNING id"
INSERT_AND_NOTIFY = """
WITH made AS (INSERT INTO bare_jobs (task, payload, due_at) VALUES ($1, $2, $3) RETURNING id)
SELECT id, pg_notify('bare_jobs', '') FROM made
"""
POLL_SECONDS = 1.0


class BareWorker:
    """The loop; ``batch`` is how many rows it claims at once."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], *, batch: int) -> None:
        self._connection = connection
        self._batch = batch
        self._bell = asyncio.Event()

    async def run(self) -> None:
        """Claim, run and complete until cancelled."""
        await self._connection.add_listener("bare_jobs", lambda *_: self._bell.set())
        claim = await self._connection.prepare(CLAIM)
        complete = await self._connection.prepare(COMPLETE)
        next_due = await self._connection.prepare(NEXT_DUE)
        while True:
            self._bell.clear()
            rows = await claim.fetch(self._batch)
            for row in rows:
                if row["task"] == "noop":
                    await tasks.noop()
                else:
                    await tasks.stamp(round(row["due_at"].timestamp() * 1e6))
            if rows:
                await complete.fetch([row["id"] for row in rows])
            else:
                due_in: float | None = await next_due.fetchval()
                await self._rest(POLL_SECONDS if due_in is None else min(due_in, POLL_SECONDS))

    async def _rest(self, seconds: float) -> None:
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), seconds)


async def copy_in(connection: Connection, dues: Iterable[datetime], *, task: str = "noop") -> None:
    """Insert a job for each due time by one COPY, and ring."""
    rows: Sequence[tuple[str, str, datetime]] = [(task, "{}", due) for due in dues]
    async with connection.transaction():
        await connection.copy_records_to_table("bare_jobs", records=rows, columns=COLUMNS)
        await connection.execute("NOTIFY bare_jobs")
