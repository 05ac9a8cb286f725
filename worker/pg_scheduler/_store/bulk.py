"""Many jobs at once, by COPY where it can be.

Invariant: a method of the writer runs in the caller's transaction: what it says it wrote is committed with it, or not.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg

from pg_scheduler._domain.jobs import NewJob
from pg_scheduler._store.database import Connection, Database, Pool, connect_like, translated
from pg_scheduler._store.queries import QUERIES

COPY_FROM = 100
"""Jobs from which on a COPY on a connection of its own is quicker than an INSERT of arrays on a pooled one."""


class IdTaken(Exception):
    """An id of the batch exists; the caller's transaction is broken."""


class BulkWriter:
    """One connection, with the statements that write many rows."""

    def __init__(self, connection: Connection, *, now: datetime) -> None:
        self.connection = connection
        self.now = now

    async def insert_all(self, jobs: Sequence[NewJob]) -> None:
        """Insert jobs whose ids are expected to be free.

        Raises:
            IdTaken: one is not.
        """
        try:
            await self.connection.copy_records_to_table("scheduled_jobs", records=jobs, columns=NewJob._fields)
        except asyncpg.UniqueViolationError as error:
            raise IdTaken from error
        await self._set_limits(jobs)

    async def insert_free(self, jobs: Sequence[NewJob]) -> set[str]:
        """Insert those whose ids are free; the ids inserted. The ids differ from each other."""
        if len(jobs) < COPY_FROM:
            return await self._insert(jobs)
        taken = await self.taken(jobs)
        fresh = [job for job in jobs if job.job_id not in taken]
        try:
            async with self.connection.transaction():
                await self.insert_all(fresh)
        except IdTaken:  # somebody took one since the look
            return await self._insert(fresh)
        return {job.job_id for job in fresh}

    async def replace(self, jobs: Sequence[NewJob]) -> set[str]:
        """Insert or overwrite; the ids written, without those that custom resources own. The ids differ."""
        written = await self.insert_free(jobs)
        rest = [job for job in jobs if job.job_id not in written]
        rows = await self.connection.fetch(QUERIES["replace_jobs"], *_columns(rest)) if rest else []
        replaced = {row["job_id"] for row in rows}
        await self._set_limits([job for job in rest if job.job_id in replaced])
        return written | replaced

    async def taken(self, jobs: Sequence[NewJob]) -> set[str]:
        """Which of these ids exist."""
        rows = await self.connection.fetch(QUERIES["taken_ids"], [job.job_id for job in jobs])
        return {row["job_id"] for row in rows}

    async def wake_workers(self) -> None:
        """Ring every listening worker when the transaction commits."""
        await self.connection.execute(QUERIES["wake_workers"])

    async def _insert(self, jobs: Sequence[NewJob]) -> set[str]:
        rows = await self.connection.fetch(QUERIES["insert_jobs"], *_columns(jobs)) if jobs else []
        written = {row["job_id"] for row in rows}
        await self._set_limits([job for job in jobs if job.job_id in written])
        return written

    async def _set_limits(self, jobs: Sequence[NewJob]) -> None:
        wishes = [
            (job.tenant, job.concurrency_key, job.concurrency_limit)
            for job in jobs
            if job.concurrency_limit is not None
        ]
        if wishes:
            await self.connection.execute(
                QUERIES["set_limits"], *(list(column) for column in zip(*wishes, strict=True))
            )


class BulkStore:
    """Gives out writers."""

    def __init__(self, database: Database, pool: Pool) -> None:
        self._db = database
        self._pool = pool

    @asynccontextmanager
    async def writer(self, *, few: bool) -> AsyncIterator[BulkWriter]:
        """A writer on a pooled connection for a ``few`` jobs, else on one of its own: COPY takes values as the
        connection's codecs make them, and those of the caller's pool are the caller's.
        """
        if few:
            async with self._db.connection() as connection:
                yield BulkWriter(connection, now=await connection.fetchval(QUERIES["now"]))
            return
        own = await connect_like(self._pool, command_timeout=None)
        try:
            with translated(self._db.place):
                yield BulkWriter(own, now=await own.fetchval(QUERIES["now"]))
        finally:
            await own.close(timeout=1)


def _columns(jobs: Sequence[NewJob]) -> list[list[object]]:
    return [list(column) for column in zip(*jobs, strict=True)]
