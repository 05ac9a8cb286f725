"""Many jobs in one call, in bounded memory.

Invariants: a sequence is checked whole before the first insert, an iterable batch by batch; ids come back aligned with
the input, None where nothing was inserted. RAISE is one transaction for the whole call, IGNORE and REPLACE one for each
batch.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import assert_never

from pg_scheduler._domain import checks
from pg_scheduler._domain.jobs import NewJob
from pg_scheduler._engine.submission import Submission
from pg_scheduler._store.bulk import COPY_FROM, BulkStore, BulkWriter, IdTaken
from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.errors import JobExists
from pg_scheduler.job_spec import JobSpec

BATCH_MAX = 100_000

Batch = list[NewJob]


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
        self, specs: Iterable[JobSpec], conflict: ConflictResolution, batch_size: int
    ) -> list[str | None]:
        """Submit them; ids aligned with the input, None where nothing was inserted."""
        size = checks.checked_whole("batch_size", batch_size, low=1, high=BATCH_MAX)
        ids: list[str | None] = []
        batches: Iterable[Batch] = self._checked_batches(specs, size, ids)
        few = False
        if isinstance(specs, Sequence):
            batches, few = list(batches), len(specs) < COPY_FROM
            if not specs:
                return []
        async with self._store.writer(few=few) as writer:
            await self._write(writer, batches, conflict, ids)
        self._on_submitted()
        return ids

    def _checked_batches(self, specs: Iterable[JobSpec], size: int, committed: Sequence[object]) -> Iterator[Batch]:
        numbered = enumerate(specs)
        while numbers := list(islice(numbered, size)):
            yield [self._checked(index, spec, committed) for index, spec in numbers]

    def _checked(self, index: int, spec: JobSpec, committed: Sequence[object]) -> NewJob:
        try:
            return self._submission.checked(spec)
        except (TypeError, ValueError) as error:
            error.args = (f"jobs[{index}]: {error}; {len(committed)} jobs before it were submitted",)
            raise

    async def _write(
        self, writer: BulkWriter, batches: Iterable[Batch], conflict: ConflictResolution, ids: list[str | None]
    ) -> None:
        match conflict:
            case ConflictResolution.RAISE:
                await self._write_all_or_nothing(writer, batches, ids)
            case ConflictResolution.IGNORE:
                for batch in batches:
                    first = {job.job_id: job for job in reversed(batch)}
                    ids += await self._write_batch(writer, writer.insert_free, batch, first)
            case ConflictResolution.REPLACE:
                for batch in batches:
                    last = {job.job_id: job for job in batch}
                    ids += await self._write_batch(writer, writer.replace, batch, last)
            case _:
                assert_never(conflict)

    async def _write_all_or_nothing(self, writer: BulkWriter, batches: Iterable[Batch], ids: list[str | None]) -> None:
        written: list[str | None] = []
        soon = False
        async with writer.connection.transaction():
            for batch in batches:
                try:
                    await writer.insert_all(batch)
                except IdTaken as error:
                    raise JobExists(
                        f"one of jobs[{len(written)}] to jobs[{len(written) + len(batch) - 1}] has an id that exists",
                        why="or two of them have the same; nothing was written",
                        fix="use other ids, or conflict_resolution IGNORE or REPLACE",
                    ) from error
                soon = soon or self._is_soon(writer, batch)
                written += [job.job_id for job in batch]
        if soon:
            await writer.wake_workers()
        ids += written

    async def _write_batch(
        self,
        writer: BulkWriter,
        write: Callable[[Sequence[NewJob]], Awaitable[set[str]]],
        batch: Batch,
        chosen: dict[str, NewJob],
    ) -> list[str | None]:
        """Write one of each id; the ids aligned with the batch, None for the others and for those not written."""
        async with writer.connection.transaction():
            written = await write(list(chosen.values()))
        if self._is_soon(writer, batch):
            await writer.wake_workers()
        return [job.job_id if job.job_id in written and chosen[job.job_id] is job else None for job in batch]

    def _is_soon(self, writer: BulkWriter, batch: Batch) -> bool:
        if self._wake_within is None:
            return False
        return any(job.execution_time <= writer.now + self._wake_within for job in batch)
