"""Many jobs at once, by COPY where it can be.

Invariant: a method of the writer runs in the caller's transaction: what it says it wrote is committed with it, or not.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime

import asyncpg

from pg_scheduler._domain.drafts import Columns, Drafts
from pg_scheduler._domain.jobs import NULLABLE_COLUMNS, NewJob
from pg_scheduler._domain.misfire import is_late
from pg_scheduler._domain.options import UniqueKey
from pg_scheduler._store.connections import connect_like
from pg_scheduler._store.copy_rows import copy_rows
from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Connection, Pool
from pg_scheduler._store.driver_errors import translated
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import DatabaseUnreachable
from pg_scheduler.job_status import JobStatus

COPY_FROM = 100
"""Jobs from which on a COPY on a connection of its own is quicker than an INSERT of arrays on a pooled one."""

STRETCH = 250
"""Rows that are sent at a time: 2 % of what the server needs for a batch of 1,000 passes before it has the first."""

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

    async def insert_fresh(self, jobs: Drafts) -> None:
        """Insert jobs whose ids cannot be taken, in a transaction of their own."""
        if self._copies_all(jobs):
            await self._copy_in(jobs)
        else:
            async with self.connection.transaction():
                await self.insert_all(jobs)

    async def insert_all(self, jobs: Drafts, *, beside: Callable[[], None] = lambda: None) -> None:
        """Insert jobs whose ids are expected to be free; ``beside`` is done with each ``STRETCH`` of a COPY.

        Raises:
            IdTaken: one is not.
        """
        if not jobs:
            return
        if self._copies_all(jobs):
            await self._copy_in(jobs, beside)
            return
        late, punctual = jobs.split(lambda job: is_late(job, self.now)) if self._copies else (jobs, Drafts())
        if late and len(await self._stored("insert_jobs", late)) < len(late):
            raise IdTaken
        if punctual:
            await self._copy_in(punctual, beside)
            await self._set_limits(punctual, {*punctual.ids})

    async def write(self, jobs: Drafts, *, replaces: bool) -> set[str]:
        """Insert those whose ids are free, overwrite the others or leave them, in one transaction.

        The ids written, without those that custom resources own. The ids differ from each other.
        """
        taken = await self._taken(jobs) if self._copies and len(jobs) >= COPY_FROM else None
        if taken is not None and self._copies_all(jobs) and not self.connection.is_in_transaction():
            with suppress(IdTaken):  # somebody took one since the look
                if not taken or not replaces:
                    return await self._copy_fresh(jobs, taken)
                if len(taken) == len(jobs):
                    return await self._stored("replace_jobs", jobs)
        async with self.connection.transaction():
            written = await self._insert_free(jobs, taken)
            return written | await self._stored("replace_jobs", jobs.without(written)) if replaces else written

    async def _copy_fresh(self, jobs: Drafts, taken: set[str]) -> set[str]:
        fresh = jobs.without(taken)
        await self.insert_all(fresh)
        return {*fresh.ids}

    async def _insert_free(self, jobs: Drafts, taken: set[str] | None) -> set[str]:
        if taken is not None:
            with suppress(IdTaken):
                async with self.connection.transaction():
                    return await self._copy_fresh(jobs, taken)
        return await self._stored("insert_jobs", jobs)

    async def _taken(self, jobs: Drafts) -> set[str]:
        """Which of these ids exist."""
        rows = await self.connection.fetch(QUERIES["taken_ids"], jobs.ids)
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

    def _copies_all(self, jobs: Drafts) -> bool:
        """Whether one COPY does it: plainly none is too late, and none sets a key's limit."""
        return self._copies and jobs.earliest >= self.now and jobs.columns.isdisjoint(_BESIDE_COPY)

    async def _copy_in(self, jobs: Drafts, beside: Callable[[], None] = lambda: None) -> None:
        columns = sorted(jobs.columns)
        rows = copy_rows(_each(jobs.stretches(STRETCH), beside), columns)
        try:
            await self.connection.copy_to_table("scheduled_jobs", columns=columns, source=rows, format="binary")
        except asyncpg.UniqueViolationError as error:
            raise IdTaken from error

    async def _stored(self, query: str, jobs: Drafts) -> set[str]:
        if not jobs:
            return set()
        rows = await self.connection.fetch(QUERIES[query], *_arrays(jobs))
        self.expired += [row["job_id"] for row in rows if row["status"] == JobStatus.EXPIRED]
        written = {row["job_id"] for row in rows}
        await self._set_limits(jobs, written)
        return written

    async def _set_limits(self, jobs: Drafts, written: Collection[str]) -> None:
        if "concurrency_limit" not in jobs.columns:
            return
        wishes = [
            (job.tenant, job.concurrency_key, job.concurrency_limit)
            for job in jobs
            if job.concurrency_limit is not None and job.job_id in written
        ]
        if wishes:
            await self.connection.execute(QUERIES["set_limits"], *map(list, zip(*wishes, strict=True)))


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


def _each(stretches: Iterator[Columns], beside: Callable[[], None]) -> Iterator[Columns]:
    for stretch in stretches:
        beside()
        yield stretch


def _arrays(jobs: Drafts) -> list[Sequence[object]]:
    """For ``unnest``, as short as ``insert_jobs`` takes them."""
    return [_shortened(name, values) for name, values in zip(NewJob._fields, jobs.values(), strict=True)]


def _shortened(name: str, values: Sequence[object]) -> Sequence[object]:
    if name == "job_id" or values.count(values[0]) < len(values):
        return values
    return () if values[0] is None else values if name in NULLABLE_COLUMNS else values[:1]
