"""Many jobs in one call, in bounded memory.

Invariants: a sequence is checked whole before the first insert, an iterable batch by batch; ids come back aligned with
the input, None where nothing was inserted. RAISE is one transaction for the whole call, IGNORE and REPLACE one for each
batch.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, assert_never

from pg_scheduler._domain import checks
from pg_scheduler._domain.jobs import NewJob
from pg_scheduler._domain.options import UniqueKey
from pg_scheduler._engine.job_ids import new_job_ids
from pg_scheduler._engine.submission import Submission, warn_of_expired
from pg_scheduler._store.bulk import COPY_FROM, BulkStore, BulkWriter, IdTaken
from pg_scheduler._store.callers import require_transaction
from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.errors import InvalidArgument, JobExists
from pg_scheduler.job_spec import JobSpec

if TYPE_CHECKING:
    from pg_scheduler._store.database import Connection

BATCH_MAX = 100_000
COPY_ROWS = 20_000
"""Jobs of one COPY where no batch has to be a transaction: 8 MB of them in memory at a time."""


@dataclass(slots=True)
class Batch:
    """Checked jobs, by job id the keys of those that are not to be there twice, and whether the caller named ids."""

    jobs: list[NewJob] = field(default_factory=list)
    keys: dict[str, UniqueKey] = field(default_factory=dict)
    ids_given: bool = False


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
        if checks.checked_conflict(conflict) is ConflictResolution.RAISE:
            size = max(size, COPY_ROWS)  # one transaction for all anyway
        if connection is not None:
            require_transaction(connection)
        ids: list[str | None] = []
        batches: Iterable[Batch] = self._checked_batches(specs, conflict, size, ids)
        few = False
        if isinstance(specs, Sequence):
            batches, few = list(batches), len(specs) < COPY_FROM
            if not specs:
                return []
        async with self._store.writer(few=few, connection=connection) as writer:
            await self._write(writer, batches, conflict, ids)
        warn_of_expired(writer.expired)
        if connection is None:
            self._on_submitted()
        return ids

    def _checked_batches(
        self, specs: Iterable[JobSpec], conflict: ConflictResolution, size: int, committed: Sequence[object]
    ) -> Iterator[Batch]:
        numbered = enumerate(specs)
        while numbers := list(islice(numbered, size)):
            batch = Batch()
            new_id = new_job_ids(len(numbers)).__next__
            for index, spec in numbers:
                try:
                    self._check(spec, conflict, batch, new_id)
                except (TypeError, ValueError) as error:
                    error.args = (f"jobs[{index}]: {error}; {len(committed)} jobs before it were submitted",)
                    raise
            yield batch

    def _check(self, spec: JobSpec, conflict: ConflictResolution, batch: Batch, new_id: Callable[[], str]) -> None:
        if not isinstance(spec, JobSpec):
            raise InvalidArgument(f"it is a {type(spec).__name__}", fix="give JobSpec(func, execution_time, …)")
        job = self._submission.checked(spec, new_id)
        batch.jobs.append(job)
        if spec.job_id is not None:
            batch.ids_given = True
        if spec.unique is not None:
            key = self._submission.unique_key(spec, job, conflict)
            if key is not None:
                batch.keys[job.job_id] = key

    async def _write(
        self, writer: BulkWriter, batches: Iterable[Batch], conflict: ConflictResolution, ids: list[str | None]
    ) -> None:
        match conflict:
            case ConflictResolution.RAISE:
                await self._write_all_or_nothing(writer, batches, ids)
            case ConflictResolution.IGNORE:
                for batch in batches:
                    ids += await self._write_batch(writer, writer.insert_free, batch, reversed(batch.jobs))
            case ConflictResolution.REPLACE:
                for batch in batches:
                    ids += await self._write_batch(writer, writer.replace, batch, batch.jobs)
            case _:
                assert_never(conflict)

    async def _write_all_or_nothing(self, writer: BulkWriter, batches: Iterable[Batch], ids: list[str | None]) -> None:
        written: list[str | None] = []
        soon = False
        async with writer.connection.transaction():
            for batch in batches:
                jobs = await self._without_equals(writer, batch, batch.jobs)
                try:
                    await writer.insert_all(jobs)
                except IdTaken as error:
                    last = len(written) + len(batch.jobs) - 1
                    raise JobExists(
                        f"one of jobs[{len(written)}] to jobs[{last}] has an id that exists",
                        why="or two of them have the same; nothing was written",
                        fix="use other ids, or conflict_resolution IGNORE or REPLACE",
                    ) from error
                soon = soon or self._is_soon(writer, jobs)
                written += _aligned(batch, {job.job_id for job in jobs}) if batch.keys else [job[0] for job in jobs]
        if soon:
            await writer.wake_workers()
        ids += written

    async def _write_batch(
        self,
        writer: BulkWriter,
        write: Callable[[Sequence[NewJob]], Awaitable[set[str]]],
        batch: Batch,
        later_wins: Iterable[NewJob],
    ) -> list[str | None]:
        """Write one of each id; the ids aligned with the batch, None for the others and for those not written."""
        if not batch.ids_given and not batch.keys:
            return await self._write_fresh(writer, batch.jobs)
        chosen = {job.job_id: job for job in later_wins}
        async with writer.connection.transaction():
            jobs = await self._without_equals(writer, batch, list(chosen.values()))
            written = await write(jobs)
        await self._wake(writer, jobs)
        return [job.job_id if job.job_id in written and chosen[job.job_id] is job else None for job in batch.jobs]

    async def _write_fresh(self, writer: BulkWriter, jobs: Sequence[NewJob]) -> list[str | None]:
        """Ids that were made here cannot be taken (one of 2⁷⁴ in the same millisecond): no look, and no way back."""
        async with writer.connection.transaction():
            await writer.insert_all(jobs)
        await self._wake(writer, jobs)
        return [job.job_id for job in jobs]

    async def _without_equals(self, writer: BulkWriter, batch: Batch, jobs: list[NewJob]) -> list[NewJob]:
        """Those whose equal is neither in the batch before them nor in the table."""
        if not batch.keys:
            return jobs
        first = {key.key: job_id for job_id, key in reversed(batch.keys.items())}
        losers = batch.keys.keys() - await writer.hold_keys(
            self._submission.tenant, {job_id: batch.keys[job_id] for job_id in first.values()}
        )
        return [job for job in jobs if job.job_id not in losers]

    async def _wake(self, writer: BulkWriter, jobs: Sequence[NewJob]) -> None:
        if self._is_soon(writer, jobs):
            await writer.wake_workers()

    def _is_soon(self, writer: BulkWriter, jobs: Sequence[NewJob]) -> bool:
        if self._wake_within is None:
            return False
        soon = writer.now + self._wake_within
        return any(job.execution_time <= soon for job in jobs)


def _aligned(batch: Batch, written: set[str]) -> list[str | None]:
    return [job.job_id if job.job_id in written else None for job in batch.jobs]
