"""Jobs that have been checked, on their way to rows.

Invariant: a draft is whole but for the id, if its caller gave none; it gets one when its row is made, once.

Rows are made late, so that a long sequence is checked in a moment and its rows while the server stores others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import NamedTuple

from pg_scheduler._domain.jobs import OWN_COLUMNS, NewJob, used_columns


class Extent(NamedTuple):
    """What holds for each of some jobs: it uses none but these columns, and is due then at the earliest."""

    columns: frozenset[str]
    earliest: datetime


@dataclass(frozen=True, slots=True)
class Common:
    """What a job has in common with others that were given with the same words, but for ids, times and arguments."""

    before: tuple[object, ...]
    after: tuple[object, ...]
    columns: frozenset[str]

    @classmethod
    def of(cls, job: NewJob) -> "Common":
        """What this job may have in common with others."""
        return cls(job[1:5], job[7:], used_columns(job))

    def job(self, job_id: str, task_data: str, execution_time: datetime) -> NewJob:
        """One that has it."""
        return NewJob._make((job_id, *self.before, task_data, execution_time, *self.after))


class Drafts:
    """Some jobs, in order."""

    def __init__(self, new_ids: Iterator[str]) -> None:
        self._new_ids = new_ids
        self._drafts: list[tuple[Common, str | None, str, datetime]] = []
        self._jobs: list[NewJob] = []
        self._last: Common | None = None
        self._columns = OWN_COLUMNS

    def __len__(self) -> int:
        return len(self._drafts)

    def __iter__(self) -> Iterator[NewJob]:
        yield from self._jobs
        for common, job_id, task_data, execution_time in self._drafts[len(self._jobs) :]:
            job = common.job(job_id or next(self._new_ids), task_data, execution_time)
            self._jobs.append(job)
            yield job

    def add(self, common: Common, job_id: str | None, task_data: str, execution_time: datetime) -> None:
        """One more."""
        if common is not self._last:
            self._last, self._columns = common, self._columns | common.columns
        self._drafts.append((common, job_id, task_data, execution_time))

    def add_job(self, job: NewJob) -> None:
        """One that has its id."""
        self.add(Common.of(job), job.job_id, job.task_data, job.execution_time)

    @property
    def ids(self) -> list[str]:
        """Of all of them."""
        return [job.job_id for job in self]

    @property
    def extent(self) -> Extent:
        """What holds for all of them."""
        return Extent(self._columns, min(map(itemgetter(3), self._drafts)))
