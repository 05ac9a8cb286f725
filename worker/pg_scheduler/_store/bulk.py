"""Many jobs at once, by COPY where it can be.

Invariant: a method of the writer runs in the caller's transaction: what it says it wrote is committed with it, or not.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime

import asyncpg

from pg_scheduler._domain.drafts import Extent
from pg_scheduler._domain.jobs import NULLABLE_COLUMNS, NewJob
from pg_scheduler._domain.misfire import split_late
from pg_scheduler._domain.options import UniqueKey
from pg_scheduler._store.copy_rows import copy_rows
from pg_scheduler._store.database import Connection, Database, Pool, Record, connect_like, translated
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import DatabaseUnreachable
from pg_scheduler.job_status import JobStatus

COPY_FROM = 100
"""Jobs from which on a COPY on a connection of its own is quicker than an INSERT of arrays on a pooled one."""


_BESIDE_COPY = ("expires_at", "concurrency_limit")
"""Columns of jobs that one COPY may not be enough for."""


class IdTaken(Exception):
    """An id of the batch exists; the caller's transaction is broken."""


class BulkWriter:
    """One connection, with the statements that write many rows; ``copies`` says whether it speaks COPY."""

    def __init__(self, connection: Connection, *, now: datetime, copies: bool) -> None:
        self.connection = connection
        self.now = now
        self.expired: list[str] = []
        self._copies = copies

    async def insert_fresh(self, jobs: Iterable[NewJob], extent: Extent) -> None:
        """Insert jobs whose ids cannot be taken, in a transaction of their own."""
        if self._copies_all(extent):
            await self.insert_all(jobs, extent)
        else:
            async with self.connection.transaction():
                await self.insert_all(jobs, extent)

    async def insert_all(self, jobs: Iterable[NewJob], extent: Extent) -> None:
        """Insert jobs whose ids are expected to be free.

        Raises:
            IdTaken: one is not.
        """
        if self._copies_all(extent):
            await self._copy_in(jobs, extent)
            return
        late, punctual = split_late(jobs, self.now) if self._copies else ([*jobs], [])
        if late and len(await self._insert(late, extent)) < len(late):
            raise IdTaken
        if punctual:
            await self._copy_in(punctual, extent)
            await self._set_limits(punctual, extent)

    async def write(self, jobs: Sequence[NewJob], extent: Extent, *, replaces: bool) -> set[str]:
        """Insert those whose ids are free, overwrite the others or leave them, in one transaction.

        The ids written, without those that custom resources own. The ids differ from each other.
        """
        taken = await self._taken(jobs) if self._copies and len(jobs) >= COPY_FROM else None
        if taken is not None and self._copies_all(extent) and not self.connection.is_in_transaction():
            with suppress(IdTaken):  # somebody took one since the look
                if not taken or not replaces:
                    return await self._copy_fresh(jobs, taken, extent)
                if len(taken) == len(jobs):
                    return await self._overwrite(jobs, extent)
        async with self.connection.transaction():
            written = await self._insert_free(jobs, taken, extent)
            rest = [job for job in jobs if job.job_id not in written] if replaces else []
            return written | await self._overwrite(rest, extent)

    async def _copy_fresh(self, jobs: Sequence[NewJob], taken: set[str], extent: Extent) -> set[str]:
        fresh = [job for job in jobs if job.job_id not in taken] if taken else jobs
        if fresh:
            await self.insert_all(fresh, extent)
        return {job.job_id for job in fresh}

    async def _insert_free(self, jobs: Sequence[NewJob], taken: set[str] | None, extent: Extent) -> set[str]:
        if taken is not None:
            with suppress(IdTaken):
                async with self.connection.transaction():
                    return await self._copy_fresh(jobs, taken, extent)
        return await self._insert(jobs, extent)

    async def _overwrite(self, jobs: Sequence[NewJob], extent: Extent) -> set[str]:
        rows = await self.connection.fetch(QUERIES["replace_jobs"], *_columns(jobs)) if jobs else []
        replaced = self._noted(rows)
        await self._set_limits([job for job in jobs if job.job_id in replaced], extent)
        return replaced

    async def _taken(self, jobs: Sequence[NewJob]) -> set[str]:
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
        with suppress(asyncpg.PostgresError, OSError, TimeoutError):
            await self.connection.execute(QUERIES["wake_workers"])

    def _copies_all(self, extent: Extent) -> bool:
        """Whether one COPY does it: plainly none is too late, and none sets a key's limit."""
        return self._copies and extent.earliest >= self.now and extent.columns.isdisjoint(_BESIDE_COPY)

    async def _copy_in(self, jobs: Iterable[NewJob], extent: Extent) -> None:
        columns = sorted(extent.columns)
        rows = copy_rows(jobs, columns)
        try:
            await self.connection.copy_to_table("scheduled_jobs", columns=columns, source=rows, format="binary")
        except asyncpg.UniqueViolationError as error:
            raise IdTaken from error

    async def _insert(self, jobs: Sequence[NewJob], extent: Extent) -> set[str]:
        rows = await self.connection.fetch(QUERIES["insert_jobs"], *_columns(jobs)) if jobs else []
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
    async def writers(
        self, *, few: bool, connection: "Connection | None" = None, most: int = 1
    ) -> AsyncIterator[list[BulkWriter]]:
        """A writer on the caller's ``connection``, or on a pooled one for a ``few`` jobs.

        Else up to ``most`` on connections of their own, at least one: further ones only if the server gives them.
        COPY may need longer than the pool's time limit for a statement, and than others can wait for a connection.
        """
        async with AsyncExitStack() as stack:
            if connection is not None:
                stack.enter_context(translated(self._db.place, connection))
                yield [await _writer(connection, copies=False)]
            elif few:
                yield [await _writer(await stack.enter_async_context(self._db.connection()), copies=False)]
            else:
                writers = [await stack.enter_async_context(self._own())]
                with suppress(DatabaseUnreachable):
                    while len(writers) < most:
                        writers.append(await stack.enter_async_context(self._own()))
                yield writers

    @asynccontextmanager
    async def _own(self) -> AsyncIterator[BulkWriter]:
        own = await connect_like(self._pool, command_timeout=None)
        try:
            with translated(self._db.place):
                yield await _writer(own, copies=await _takes_copies(own))
        finally:
            await own.close(timeout=1)


async def _takes_copies(connection: Connection) -> bool:
    """Whether the bytes of ``copy_rows`` are the server's, and it takes a COPY: none where rows have policies."""
    if connection.get_settings().client_encoding != "UTF8":
        return False
    return not await connection.fetchval(QUERIES["has_policies"])


async def _writer(connection: Connection, *, copies: bool) -> BulkWriter:
    return BulkWriter(connection, now=await connection.fetchval(QUERIES["now"]), copies=copies)


def _columns(jobs: Sequence[NewJob]) -> list[Sequence[object]]:
    """Arrays for ``unnest``, as short as ``insert_jobs`` takes them."""
    return [_shortened(name, values) for name, values in zip(NewJob._fields, zip(*jobs, strict=True), strict=True)]


def _shortened(name: str, values: Sequence[object]) -> Sequence[object]:
    if name == "job_id" or values.count(values[0]) < len(values):
        return values
    return () if values[0] is None else values if name in NULLABLE_COLUMNS else values[:1]
