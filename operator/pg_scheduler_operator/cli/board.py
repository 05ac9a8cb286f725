"""What the demo knows of its manifests: one row each, changed only by statuses as the reconciler writes them.

Invariant: pure. Rows are values; the board says what is still missing and when nothing more can come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pg_scheduler_operator.resources import Key, Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

RUNNING = "Running"
COMPLETE = "Complete"
BAD_ENDS = frozenset({"Failed", "Cancelled", "Expired"})
ENDED = BAD_ENDS | {COMPLETE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the demo waits for.

    Attributes:
        runs: how many runs must end well before the demo is over; 0 is only shown.
        task: key of the task; empty for kinds that have none.
    """

    runs: int
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One manifest.

    Attributes:
        wanted: how many runs must end well before the demo is over; 0 is only shown.
        is_unknown: no living worker has registered the task.
        job_id: the newest job, of which ``state`` and ``worker`` speak.
        ended: ids of jobs that were seen to have ended, well or not.
        failures: those of them that ended badly.
        problem: why the manifest is refused, empty if it is not.
        has_status: whether the reconciler has answered to it at all.
    """

    key: Key
    wanted: int
    task: str = ""
    is_unknown: bool = False
    state: str = "Waiting"
    next: str = ""
    worker: str = ""
    job_id: str = ""
    ended: frozenset[str] = frozenset()
    failures: frozenset[str] = frozenset()
    problem: str = ""
    has_status: bool = False

    @property
    def name(self) -> str:
        """As kubectl writes it."""
        return f"{self.key.kind.value.lower()}/{self.key.name}"

    @property
    def runs(self) -> int:
        """Jobs that have ended, well or not."""
        return len(self.ended)

    @property
    def is_met(self) -> bool:
        """Whether it was accepted, and enough runs have ended well."""
        return self.has_status and not self.problem and self.runs - len(self.failures) >= self.wanted

    @property
    def is_settled(self) -> bool:
        """Whether waiting longer cannot change ``is_met``."""
        has_failed = self.key.kind is Kind.SCHEDULED_JOB and self.state in BAD_ENDS
        return self.is_met or has_failed or bool(self.problem) or self.is_unknown

    @property
    def has_started(self) -> bool:
        """Whether a job of it was seen running, or has run."""
        return self.runs > 0 or self.state == RUNNING

    @property
    def missing(self) -> str:
        """What is not there yet, in words; empty if nothing is."""
        if self.is_met:
            return ""
        if self.problem:
            return f"{self.name} was refused: {self.problem}"
        if self.is_unknown:
            return f"{self.name} waits: no worker knows the task {self.task}"
        if not self.has_status:
            return f"{self.name} has no status yet"
        if self.key.kind is Kind.PERIODIC_JOB:
            return f"{self.name} ran {self.runs - len(self.failures)} of {self.wanted} times"
        return f"{self.name} is {self.state}, not Complete"


class Board:
    """The rows by manifest, in the order of the folder."""

    def __init__(self, expectations: Mapping[Key, Expectation]) -> None:
        self._rows = {
            key: Row(key=key, wanted=expectation.runs, task=expectation.task)
            for key, expectation in expectations.items()
        }

    @property
    def rows(self) -> Sequence[Row]:
        """Every manifest."""
        return tuple(self._rows.values())

    def apply(self, key: Key, status: Mapping[str, Any]) -> Row | None:
        """Take over a status; the row if it is in another state than before."""
        before = self._rows.get(key) or Row(key=key, wanted=0)
        after = self._rows[key] = updated(before, status)
        told = ("state", "job_id", "problem")
        return after if any(getattr(after, name) != getattr(before, name) for name in told) else None

    def name_worker(self, key: Key, worker: str) -> None:
        """Say which worker has the newest job of a row whose status does not say it."""
        self._rows[key] = replace(self._rows[key], worker=worker)

    def mark_unknown(self, tasks: Collection[str]) -> None:
        """Say which tasks no living worker has registered."""
        for key, row in self._rows.items():
            self._rows[key] = replace(row, is_unknown=row.task in tasks)

    @property
    def has_started(self) -> bool:
        """Whether any job was seen running."""
        return any(row.has_started for row in self.rows)

    @property
    def is_settled(self) -> bool:
        """Whether all is met that can be."""
        return all(row.is_settled for row in self.rows)

    @property
    def missing(self) -> Sequence[str]:
        """What is not there yet, in words."""
        return [row.missing for row in self.rows if not row.is_met]

    @property
    def runs(self) -> int:
        """Jobs that have ended, well or not."""
        return sum(row.runs for row in self.rows)

    @property
    def failed(self) -> int:
        """Jobs that have ended badly."""
        return sum(len(row.failures) for row in self.rows)


def updated(row: Row, status: Mapping[str, Any]) -> Row:
    """The row after a status."""
    row = replace(row, problem=_problem(status), has_status=True)
    if row.key.kind is Kind.PERIODIC_JOB:
        return _periodic(row, status)
    return _one_off(row, status) if row.key.kind is Kind.SCHEDULED_JOB else replace(row, state=_readiness(status))


def _one_off(row: Row, status: Mapping[str, Any]) -> Row:
    row = replace(row, worker=status.get("worker") or row.worker)
    return _with_job(row, status.get("jobID") or row.job_id, status.get("state") or row.state)


def _periodic(row: Row, status: Mapping[str, Any]) -> Row:
    last = status.get("lastRun") or {}
    job_id = last.get("jobID", "")
    worker = row.worker if job_id == row.job_id else ""
    row = replace(row, worker=worker, next=next(iter(status.get("nextScheduleTimes") or ()), ""))
    return _with_job(row, job_id, last.get("state") or _readiness(status))


def _with_job(row: Row, job_id: str, state: str) -> Row:
    return replace(
        row,
        job_id=job_id,
        state=state,
        ended=row.ended | ({job_id} if state in ENDED else set()),
        failures=row.failures | ({job_id} if state in BAD_ENDS else set()),
    )


def _readiness(status: Mapping[str, Any]) -> str:
    return "Refused" if _problem(status) else "Ready"


def _problem(status: Mapping[str, Any]) -> str:
    """The message of ``Stalled=True``: the object's own fault, which waiting does not mend."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Stalled" and condition.get("status") == "True":
            return f"{condition.get('reason')}: {condition.get('message')}"
    return ""
