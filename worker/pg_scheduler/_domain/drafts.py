"""Jobs that have been checked, on their way to rows.

Invariant: a draft is whole but for the id, if its caller gave none; it gets one when its row is made, once.

Rows are made late, so that a long sequence is checked in a moment and its rows while the server stores others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
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
    """Some jobs, in order.

    In columns: with a tuple for each the collector of garbage took a third of the time, for it looks at all that live.
    """

    def __init__(self, new_ids: Iterator[str]) -> None:
        self._new_ids = new_ids
        self._job_ids: list[str | None] = []
        self._commons: list[Common] = []
        self._task_data: list[str] = []
        self._execution_times: list[datetime] = []
        self._columns = OWN_COLUMNS
        self.ids_given = False

    def __len__(self) -> int:
        return len(self._job_ids)

    def __iter__(self) -> Iterator[NewJob]:
        columns = zip(self._job_ids, self._commons, self._task_data, self._execution_times, strict=True)
        for place, (given_id, common, task_data, execution_time) in enumerate(columns):
            job_id = self._job_ids[place] = given_id or next(self._new_ids)
            yield common.job(job_id, task_data, execution_time)

    def add(self, common: Common, job_id: str | None, task_data: str, execution_time: datetime) -> None:
        """One more."""
        if job_id is not None:
            self.ids_given = True
        if not self._commons or common is not self._commons[-1]:
            self._columns |= common.columns
        self._job_ids.append(job_id)
        self._commons.append(common)
        self._task_data.append(task_data)
        self._execution_times.append(execution_time)

    def add_job(self, job: NewJob) -> None:
        """One more, that has its id."""
        self.add(Common.of(job), job.job_id, job.task_data, job.execution_time)

    @property
    def ids(self) -> list[str]:
        """Of all of them, whether their rows have been made or not."""
        self._job_ids = [job_id or next(self._new_ids) for job_id in self._job_ids]
        return [*filter(None, self._job_ids)]

    @property
    def extent(self) -> Extent:
        """What holds for all of them."""
        return Extent(self._columns, min(self._execution_times))
