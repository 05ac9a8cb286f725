"""Jobs that have been checked, on their way to rows.

Invariant: a draft is whole but for the id, if its caller gave none; it gets one when it is asked for, once.

They are kept by columns, which is how they are sent: a row of each, and columns of the rows again, took a fifth of a
bulk's time in Python, and with a tuple for each the collector of garbage, which looks at all that live, a third.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from pg_scheduler._domain.jobs import OWN_COLUMNS, NewJob, used_columns

Columns: TypeAlias = Sequence[Sequence[object]]
"""Values of some jobs: a sequence for each field of ``NewJob``, in that order."""


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


class Drafts:
    """Some jobs, in order.

    Attributes:
        columns: names of those that any of them uses.
        ids_given: whether any id is the caller's.
    """

    def __init__(self, new_ids: Iterable[str] = ()) -> None:
        self._new_ids = iter(new_ids)
        self._job_ids: list[str | None] = []
        self._commons: list[Common] = []
        self._task_data: list[str] = []
        self._execution_times: list[datetime] = []
        self.columns = OWN_COLUMNS
        self.ids_given = False

    def __len__(self) -> int:
        return len(self._job_ids)

    def __iter__(self) -> Iterator[NewJob]:
        return map(NewJob._make, zip(*self.values(), strict=True)) if self else iter(())

    def add(self, common: Common, job_id: str | None, task_data: str, execution_time: datetime) -> None:
        """One more."""
        if job_id is not None:
            self.ids_given = True
        if not self._commons or common is not self._commons[-1]:
            self.columns |= common.columns
        self._job_ids.append(job_id)
        self._commons.append(common)
        self._task_data.append(task_data)
        self._execution_times.append(execution_time)

    def add_job(self, job: NewJob) -> None:
        """One more, that has its id."""
        self.add(Common.of(job), job.job_id, job.task_data, job.execution_time)

    @property
    def ids(self) -> list[str]:
        """Of all of them."""
        return self._ids(0, len(self))

    @property
    def earliest(self) -> datetime:
        """When the first of them is due."""
        return min(self._execution_times)

    def values(self) -> Columns:
        """Of all of them; there must be some."""
        return self._values(0, len(self))

    def stretches(self, size: int) -> Iterator[Columns]:
        """The values of so many at a time: ids are made for these only, while others are on their way."""
        for start in range(0, len(self), size):
            yield self._values(start, min(start + size, len(self)))

    def at(self, places: Iterable[int]) -> "Drafts":
        """Those at these places."""
        chosen, ids = Drafts(), self.ids
        for place in places:
            chosen.add(self._commons[place], ids[place], self._task_data[place], self._execution_times[place])
        return chosen

    def without(self, job_ids: Collection[str]) -> "Drafts":
        """All but those of these ids."""
        if not job_ids:
            return self
        return self.at(place for place, job_id in enumerate(self.ids) if job_id not in job_ids)

    def split(self, test: Callable[[NewJob], bool]) -> "tuple[Drafts, Drafts]":
        """Those that pass, and the others."""
        passing = {place for place, job in enumerate(self) if test(job)}
        return self.at(sorted(passing)), self.at(place for place in range(len(self)) if place not in passing)

    def _ids(self, start: int, stop: int) -> list[str]:
        ids = [job_id or next(self._new_ids) for job_id in self._job_ids[start:stop]]
        self._job_ids[start:stop] = ids
        return ids

    def _values(self, start: int, stop: int) -> Columns:
        before, after = _spread(self._commons[start:stop])
        return (
            self._ids(start, stop),
            *before,
            self._task_data[start:stop],
            self._execution_times[start:stop],
            *after,
        )


def _spread(commons: Sequence[Common]) -> tuple[Columns, Columns]:
    """The columns before those that differ, and the ones after."""
    first, size = commons[0], len(commons)
    if commons.count(first) == size:  # nearly always
        return [[value] * size for value in first.before], [[value] * size for value in first.after]
    return [*zip(*(c.before for c in commons), strict=True)], [*zip(*(c.after for c in commons), strict=True)]
