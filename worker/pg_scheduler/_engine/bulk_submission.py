"""Many jobs in one call, in bounded memory.

Invariants: a sequence is checked whole before anything of it can be seen, an iterable batch by batch; ids come back
aligned with the input, None where nothing was inserted. RAISE is one transaction for the whole call, and so is a
sequence whose ids are all made here, since nothing is in its way: then the server may store what has been checked while
the rest is. Else IGNORE and REPLACE are one for each batch.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from pg_scheduler._domain import checks
from pg_scheduler._domain.drafts import Drafts
from pg_scheduler._domain.options import UniqueKey
from pg_scheduler._engine.job_ids import new_job_ids
from pg_scheduler._engine.submission import Submission, warn_of_expired
from pg_scheduler._store.bulk import COPY_FROM, STRETCH, BulkStore, BulkWriter, IdTaken
from pg_scheduler._store.callers import require_transaction
from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.errors import InvalidArgument, JobExists
from pg_scheduler.job_spec import JobSpec

if TYPE_CHECKING:
    from pg_scheduler._store.driver import Connection

BATCH_MAX = 100_000
LANES = 2
SIDE_BY_SIDE_FROM = 5
"""Batches that take longer than a second connection takes to open."""
COPY_ROWS = 20_000
"""Jobs of one COPY where no batch has to be a transaction: 8 MB of them in memory at a time."""


@dataclass(slots=True)
class Batch:
    """Checked jobs, and by job id the keys of those that are not to be there twice."""

    drafts: Drafts
    keys: dict[str, UniqueKey] = field(default_factory=dict)

    @property
    def is_fresh(self) -> bool:
        """Whether all ids are made here: those cannot be taken (one of 2⁷⁴ in the same millisecond)."""
        return not self.drafts.ids_given and not self.keys


class Checking:
    """Batches of checked jobs: each at once, or by stretches while the one before it is on its way to the server."""

    def __init__(self, steps: Iterator[Batch | None]) -> None:
        self._steps = steps
        self._ahead: Batch | None = None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch, self._ahead = self._ahead, None
        return batch or next(step for step in self._steps if step is not None)

    def begins(self) -> bool:
        """Check the first batch; whether there is one."""
        self._ahead = next(self, None)
        return self._ahead is not None

    def go_on(self) -> None:
        """Check one more stretch of the next batch, if that is not whole yet."""
        if self._ahead is None:
            self._ahead = next(self._steps, None)


class BulkSubmission:
    """``schedule_bulk``."""

    def __init__(
        self,
        submission: Submission,
        store: BulkStore,
        *,
        wake_within_seconds: float | None,
        on_submitted: Callable[[], None],
    ) -> None:
        self._submission = submission
        self._store = store
        self._wake_within = None if wake_within_seconds is None else timedelta(seconds=wake_within_seconds)
        self._on_submitted = on_submitted

    async def schedule(
        self,
        specs: Iterable[JobSpec],
        conflict: ConflictResolution,
        batch_size: int,
        connection: "Connection | None" = None,
    ) -> list[str | None]:
        """Submit them; ids aligned with the input, None where nothing was inserted."""
        size = checks.checked_whole("batch_size", batch_size, low=1, high=BATCH_MAX)
        all_or_nothing = checks.checked_conflict(conflict) is ConflictResolution.RAISE or _names_none(specs)
        if all_or_nothing:
            size = max(size, COPY_ROWS)  # one transaction for all anyway
        if connection is not None:
            require_transaction(connection)
        ids: list[str | None] = []
        checking = Checking(self._checked(specs, conflict, size, ids))
        batches = list(checking) if isinstance(specs, Sequence) and not all_or_nothing else checking
        if not batches or (all_or_nothing and not checking.begins()):
            return []
        few = isinstance(specs, Sequence) and len(specs) < COPY_FROM
        async with self._store.writers(few=few, connection=connection, most=_lanes(batches)) as writers:
            if all_or_nothing:
                ids += await self._write_all_or_nothing(writers[0], checking)
            else:
                await self._write(writers, batches, conflict, ids)
        warn_of_expired([job_id for writer in writers for job_id in writer.expired])
        if connection is None:
            self._on_submitted()
        return ids

    def _checked(
        self, specs: Iterable[JobSpec], conflict: ConflictResolution, size: int, committed: Sequence[object]
    ) -> Iterator[Batch | None]:
        """Each batch once all of it is checked; before that None for each stretch of it."""
        given, first = iter(specs), 0
        while chunk := list(islice(given, size)):
            batch = Batch(Drafts(new_job_ids(len(chunk))))
            for start in range(0, len(chunk), STRETCH):
                self._check(chunk[start : start + STRETCH], conflict, batch, first, committed)
                yield None
            first += len(chunk)
            yield batch

    def _check(
        self,
        specs: Iterable[JobSpec],
        conflict: ConflictResolution,
        batch: Batch,
        first: int,
        committed: Sequence[object],
    ) -> None:
        for spec in specs:
            try:
                if type(spec) is JobSpec and spec.unique is None:
                    self._submission.add(spec, batch.drafts)
                else:
                    self._add_other(spec, conflict, batch)
            except (TypeError, ValueError) as error:
                index = first + len(batch.drafts)
                error.args = (f"jobs[{index}]: {error}; {len(committed)} jobs before it were submitted",)
                raise

    def _add_other(self, spec: JobSpec, conflict: ConflictResolution, batch: Batch) -> None:
        if not isinstance(spec, JobSpec):
            raise InvalidArgument(f"it is a {type(spec).__name__}", fix="give JobSpec(func, execution_time, …)")
        job = self._submission.checked(spec)
        key = self._submission.unique_key(spec, job, conflict)
        if key is not None:
            batch.keys[job.job_id] = key
        batch.drafts.add_job(self._submission.sealed(job))

    async def _write(
        self,
        writers: Sequence[BulkWriter],
        batches: Iterable[Batch],
        conflict: ConflictResolution,
        ids: list[str | None],
    ) -> None:
        if len(writers) == 1:
            for batch in batches:
                ids += await self._write_batch(writers[0], batch, conflict)
        else:
            ids += await self._write_side_by_side(writers, batches, conflict)

    async def _write_side_by_side(
        self, writers: Sequence[BulkWriter], batches: Iterable[Batch], conflict: ConflictResolution
    ) -> list[str | None]:
        """While one connection's server process stores a batch, the other's next one is made and sent."""
        written: dict[int, list[str | None]] = {}
        numbered = iter(enumerate(batches))

        async def write_next_ones(writer: BulkWriter) -> None:
            for number, batch in numbered:
                written[number] = await self._write_batch(writer, batch, conflict)

        try:
            async with asyncio.TaskGroup() as lanes:
                for writer in writers:
                    lanes.create_task(write_next_ones(writer))
        except BaseExceptionGroup as group:  # of the first lane that failed; it took the other with it
            raise group.exceptions[0] from None
        return [job_id for number in sorted(written) for job_id in written[number]]

    async def _write_all_or_nothing(self, writer: BulkWriter, batches: Checking) -> list[str | None]:
        written: list[str | None] = []
        soon = False
        async with writer.connection.transaction():
            for batch in batches:
                jobs = await self._without_equals(writer, batch, batch.drafts)
                try:
                    await writer.insert_all(jobs, beside=batches.go_on)
                except IdTaken as error:
                    for _ in batches:
                        pass  # a job that cannot be used is told of first
                    last = len(written) + len(batch.drafts) - 1
                    raise JobExists(
                        f"one of jobs[{len(written)}] to jobs[{last}] has an id that exists",
                        why="or two of them have the same; nothing was written",
                        fix="use other ids, or conflict_resolution IGNORE or REPLACE",
                    ) from error
                soon = soon or self._is_soon(writer, batch)
                written += _aligned(batch, {*jobs.ids}) if batch.keys else jobs.ids
        if soon:
            await writer.wake_workers()
        return written

    async def _write_batch(self, writer: BulkWriter, batch: Batch, conflict: ConflictResolution) -> list[str | None]:
        """Write one of each id; the ids aligned with the batch, None for the others and for those not written."""
        if batch.is_fresh:
            return await self._write_fresh(writer, batch)
        replaces = conflict is ConflictResolution.REPLACE
        ids = batch.drafts.ids
        chosen = _places(ids, last=replaces)
        jobs = batch.drafts if len(chosen) == len(ids) else batch.drafts.at(chosen.values())
        async with writer.connection.transaction() if batch.keys else nullcontext():
            written = await writer.write(await self._without_equals(writer, batch, jobs), replaces=replaces)
        if written and self._is_soon(writer, batch):
            await writer.wake_workers()
        return [job_id if job_id in written and chosen[job_id] == place else None for place, job_id in enumerate(ids)]

    async def _write_fresh(self, writer: BulkWriter, batch: Batch) -> list[str | None]:
        """No look for taken ids, and no way back."""
        await writer.insert_fresh(batch.drafts)
        if self._is_soon(writer, batch):
            await writer.wake_workers()
        return [*batch.drafts.ids]

    async def _without_equals(self, writer: BulkWriter, batch: Batch, jobs: Drafts) -> Drafts:
        """Those whose equal is neither in the batch before them nor in the table."""
        if not batch.keys:
            return jobs
        first = {key.key: job_id for job_id, key in reversed(batch.keys.items())}
        losers = batch.keys.keys() - await writer.hold_keys(
            self._submission.tenant, {job_id: batch.keys[job_id] for job_id in first.values()}
        )
        return jobs.without(losers)

    def _is_soon(self, writer: BulkWriter, batch: Batch) -> bool:
        return self._wake_within is not None and batch.drafts.earliest <= writer.now + self._wake_within


def _names_none(specs: Iterable[JobSpec]) -> bool:
    """Whether it is a sequence of jobs all of whose ids are made here (``Batch.is_fresh``)."""
    return isinstance(specs, Sequence) and all(
        type(spec) is JobSpec and spec.job_id is None and spec.unique is None for spec in specs
    )


def _lanes(batches: Iterable[Batch]) -> int:
    """Over how many connections to write them at most."""
    return LANES if isinstance(batches, list) and len(batches) >= SIDE_BY_SIDE_FROM and _are_apart(batches) else 1


def _are_apart(batches: Sequence[Batch]) -> bool:
    """Whether no two batches have to do with the same row, so that their order and their locks are nobody's concern."""
    if any(batch.keys or "concurrency_limit" in batch.drafts.columns for batch in batches):
        return False
    given = [job_id for batch in batches if batch.drafts.ids_given for job_id in batch.drafts.ids]
    return len(set(given)) == len(given)


def _places(ids: Sequence[str], *, last: bool) -> dict[str, int]:
    """Where each id stands: the first time, or the last."""
    if last:
        return dict(zip(ids, range(len(ids)), strict=True))
    return dict(zip(reversed(ids), reversed(range(len(ids))), strict=True))


def _aligned(batch: Batch, written: set[str]) -> list[str | None]:
    return [job_id if job_id in written else None for job_id in batch.drafts.ids]
