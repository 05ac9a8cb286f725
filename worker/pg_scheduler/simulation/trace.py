"""What a simulation tells: each run, ranges without runs, and counts.

Invariant: of each schedule, planned is open plus the sum of the outcomes.
"""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pg_scheduler._domain.ledger import Passed

Outcome = Literal["open", "ran", "coalesced", "skipped_overlap", "skipped_suspended", "missed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One planned instant that has a job.

    Attributes:
        schedule: the name of the schedule, or of the job that runs once.
        planned_at: the tick.
        due_at: the same, and the jitter.
        started_at: its first start; None if it never did.
        ended_at: its last end, or when it was decided that it does not run; None while it is open.
        outcome: ``ran`` whether it failed or not; ``cancelled`` when a newer one took its place.
        failed: its last attempt failed.
        attempts: how often it was started.
    """

    schedule: str
    planned_at: datetime
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    outcome: Outcome
    failed: bool = False
    attempts: int = 0

    @property
    def lateness_seconds(self) -> float:
        """How long after its due time it started; 0 for one that never did."""
        return 0.0 if self.started_at is None else (self.started_at - self.due_at).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Planned instants of a schedule that have no job of their own."""

    schedule: str
    outcome: Outcome
    first_at: datetime
    last_at: datetime
    ticks: int
    reason: str

    @classmethod
    def of(cls, schedule: str, passed: Passed) -> "Range":
        """The range as the ledger would keep it."""
        return cls(
            schedule=schedule,
            outcome=passed.outcome,
            first_at=passed.first_at,
            last_at=passed.last_at,
            ticks=passed.ticks,
            reason=passed.reason,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """How many planned instants there were, and what became of them."""

    planned: int
    open: int
    ran: int
    coalesced: int
    skipped_overlap: int
    skipped_suspended: int
    missed: int
    cancelled: int

    @classmethod
    def of(cls, planned: int, outcomes: Mapping[Outcome, int]) -> "Ledger":
        """From what was planned, and what was counted apart from it."""
        return cls(
            planned=planned,
            open=outcomes.get("open", 0),
            ran=outcomes.get("ran", 0),
            coalesced=outcomes.get("coalesced", 0),
            skipped_overlap=outcomes.get("skipped_overlap", 0),
            skipped_suspended=outcomes.get("skipped_suspended", 0),
            missed=outcomes.get("missed", 0),
            cancelled=outcomes.get("cancelled", 0),
        )

    @property
    def accounted(self) -> int:
        """What is open, and all outcomes."""
        ended = self.ran + self.coalesced + self.skipped_overlap + self.skipped_suspended + self.missed
        return self.open + ended + self.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """How long after their due times runs started, in seconds; ``max_at`` is the start of the latest."""

    p50: float
    p99: float
    max: float
    max_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The instant at which most slots were wanted.

    Attributes:
        running: the most jobs that ran at a time, then or at another instant.
        wanted: the most that ran or were due and waited for a slot.
        at: the first instant at which so many were wanted; None if nothing ran.
    """

    running: int
    wanted: int
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One schedule, counted."""

    ledger: Ledger
    lateness: Lateness


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What became of everything that was planned."""

    begins_at: datetime
    ends_at: datetime
    runs: Sequence[Run]
    ranges: Sequence[Range]
    schedules: Mapping[str, Summary]
    lateness: Lateness
    peak: Peak


class Starts:
    """How late starts were; those on time are only counted."""

    def __init__(self) -> None:
        self.on_time = 0
        self.max_at: datetime | None = None
        self.late = array("d")
        self.max_seconds = 0.0

    def note(self, due_at: datetime, started_at: datetime) -> None:
        """One start."""
        if started_at <= due_at:
            self.on_time += 1
            return
        seconds = (started_at - due_at).total_seconds()
        self.late.append(seconds)
        if seconds > self.max_seconds:
            self.max_seconds, self.max_at = seconds, started_at

    def add(self, other: "Starts") -> None:
        """Those of another schedule, too."""
        self.on_time += other.on_time
        self.late.extend(other.late)
        if other.max_seconds > self.max_seconds:
            self.max_seconds, self.max_at = other.max_seconds, other.max_at

    def lateness(self) -> Lateness:
        """All of them, by nearest rank."""
        late = sorted(self.late)

        def rank(percent: int) -> float:
            place = -(-percent * (self.on_time + len(late)) // 100) - 1 - self.on_time
            return late[place] if place >= 0 and late else 0.0

        return Lateness(p50=rank(50), p99=rank(99), max=self.max_seconds, max_at=self.max_at)


class Counts:
    """Outcomes of one schedule, counted as they come."""

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.starts = Starts()

    def summary(self, planned: int) -> Summary:
        """All of them."""
        return Summary(ledger=Ledger.of(planned, self.outcomes), lateness=self.starts.lateness())
