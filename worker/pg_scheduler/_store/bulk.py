"""Many jobs at once, by COPY where it can be.

Invariant: a method of the writer runs in the caller's transaction: what it says it wrote is committed with it, or not.
"""

import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg

from pg_scheduler._domain.drafts import Extent
from pg_scheduler._domain.jobs import NewJob
from pg_scheduler._domain.misfire import split_late
from pg_scheduler._domain.options import UniqueKey
from pg_scheduler._store.copy_rows import copy_rows
from pg_scheduler._store.database import Connection, Database, Pool, Record, connect_like, translated
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.job_status import JobStatus

COPY_FROM = 100
"""Jobs from which on a COPY on a connection of its own is quicker than an INSERT of arrays on a pooled one."""


class IdTaken(Exception):
    """An id of the batch exists; the caller's transaction is broken."""


class BulkWriter:
    """One connection, with the statements that write many rows; ``copies`` says whether it speaks COPY."""

    def __init__(self, connection: Connection, *, now: datetime, copies: bool) -> None:
        self.connection = connection
        self.now = now
        self.expired: list[str] = []
        self._copies = copies

    @asynccontextmanager
    async def transaction_for(self, extent: Extent) -> AsyncIterator[None]:
        """For ``insert_all`` and nothing more: none where it is one statement, which is a transaction by itself."""
        if self._copies_all(extent) and "concurrency_limit" not in extent.columns:
            yield
        else:
            async with self.connection.transaction():
                yield

    async def insert_all(self, jobs: Collection[NewJob], extent: Extent) -> None:
        """Insert jobs whose ids are expected to be free.

        Raises:
            IdTaken: one is not.
        """
        if not self._copies:
            late, punctual = list(jobs), []
        elif self._copies_all(extent):
            late, punctual = (), jobs
        else:
            late, punctual = split_late(jobs, self.now)
        if late and len(await self._insert(late, extent)) < len(late):
            raise IdTaken
        if punctual:
            await self._copy_in(punctual, extent)

    async def insert_free(self, jobs: Sequence[NewJob], extent: Extent) -> set[str]:
        """Insert those whose ids are free; the ids inserted. The ids differ from each other."""
        if not self._copies or len(jobs) < COPY_FROM:
            return await self._insert(jobs, extent)
        taken = await self.taken(jobs)
        fresh = [job for job in jobs if job.job_id not in taken] if taken else jobs
        try:
            async with self.connection.transaction():
                await self.insert_all(fresh, extent)
        except IdTaken:  # somebody took one since the look
            return await self._insert(fresh, extent)
        return {job.job_id for job in fresh}

    async def replace(self, jobs: Sequence[NewJob], extent: Extent) -> set[str]:
        """Insert or overwrite; the ids written, without those that custom resources own. The ids differ."""
        written = await self.insert_free(jobs, extent)
        rest = [job for job in jobs if job.job_id not in written]
        rows = await self.connection.fetch(QUERIES["replace_jobs"], *_columns(rest, extent)) if rest else []
        replaced = self._noted(rows)
        await self._set_limits([job for job in rest if job.job_id in replaced], extent)
        return written | replaced

    async def taken(self, jobs: Sequence[NewJob]) -> set[str]:
        """Which of these ids exist."""
        rows = await self.connection.fetch(QUERIES["taken_ids"], [job.job_id for job in jobs])
        return {row["job_id"] for row in rows}

    async def hold_keys(self, tenant: str, keys: Mapping[str, UniqueKey]) -> set[str]:
        """Take the keys, by job id; the ids of the jobs that hold theirs now. The keys differ from each other."""
        rows = await self.connection.fetch(
            QUERIES["hold_keys"],
            tenant,
            [key.key for key in keys.values()],
            list(keys),
            [key.within for key in keys.values()],
        )
        return {row["job_id"] for row in rows if row["holder"] == row["job_id"]}

    async def wake_workers(self) -> None:
        """Ring every listening worker, after the commit: what this raises would undo it.

        A hint that fails costs the workers one poll.
        """
        with contextlib.suppress(asyncpg.PostgresError, OSError, TimeoutError):
            await self.connection.execute(QUERIES["wake_workers"])

    def _copies_all(self, extent: Extent) -> bool:
        """Whether it is plain without a look at each that none of the jobs is too late."""
        return self._copies and extent.earliest >= self.now and "expires_at" not in extent.columns

    async def _copy_in(self, jobs: Collection[NewJob], extent: Extent) -> None:
        columns = sorted(extent.columns)
        rows = copy_rows(jobs, columns)
        try:
            await self.connection.copy_to_table("scheduled_jobs", columns=columns, source=rows, format="binary")
        except asyncpg.UniqueViolationError as error:
            raise IdTaken from error
        await self._set_limits(jobs, extent)

    async def _insert(self, jobs: Sequence[NewJob], extent: Extent) -> set[str]:
        rows = await self.connection.fetch(QUERIES["insert_jobs"], *_columns(jobs, extent)) if jobs else []
        written = self._noted(rows)
        await self._set_limits([job for job in jobs if job.job_id in written], extent)
        return written

    async def _set_limits(self, jobs: Iterable[NewJob], extent: Extent) -> None:
        if "concurrency_limit" not in extent.columns:
            return
        wishes = [
            (job.tenant, job.concurrency_key, job.concurrency_limit)
            for job in jobs
            if job.concurrency_limit is not None
        ]
        if wishes:
            await self.connection.execute(QUERIES["set_limits"], *map(list, zip(*wishes, strict=True)))

    def _noted(self, rows: Sequence[Record]) -> set[str]:
        self.expired += [row["job_id"] for row in rows if row["status"] == JobStatus.EXPIRED]
        return {row["job_id"] for row in rows}


class BulkStore:
    """Gives out writers."""

    def __init__(self, database: Database, pool: Pool) -> None:
        self._db = database
        self._pool = pool

    @asynccontextmanager
    async def writer(self, *, few: bool, connection: "Connection | None" = None) -> AsyncIterator[BulkWriter]:
        """A writer on the caller's ``connection``, on a pooled one for a ``few`` jobs, else on one of its own.

        COPY takes values as the connection's codecs make them, and the codecs of the caller's connections are the
        caller's: only a connection of our own copies.
        """
        if connection is not None:
            with translated(self._db.place, connection):
                yield await _writer(connection, copies=False)
            return
        if few:
            async with self._db.connection() as pooled:
                yield await _writer(pooled, copies=False)
            return
        own = await connect_like(self._pool, command_timeout=None)
        try:
            with translated(self._db.place):
                yield await _writer(own, copies=True)
        finally:
            await own.close(timeout=1)


async def _writer(connection: Connection, *, copies: bool) -> BulkWriter:
    return BulkWriter(connection, now=await connection.fetchval(QUERIES["now"]), copies=copies)


def _columns(jobs: Sequence[NewJob], extent: Extent) -> list[Sequence[object]]:
    """Arrays for ``unnest``, which fills up those of options that nobody uses."""
    return [
        () if name in NewJob._field_defaults and name not in extent.columns else values
        for name, values in zip(NewJob._fields, zip(*jobs, strict=True), strict=True)
    ]
