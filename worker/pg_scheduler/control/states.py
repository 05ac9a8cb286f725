"""What the operator and the command line are told of rows; instants are aware, by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pg_scheduler.job_template import Deletion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pg_scheduler.control.desired import Source
    from pg_scheduler.job_status import JobStatus
    from pg_scheduler.recurrence import Bounds, History, Policy, Rule

RESULT_BYTES_MAX = 4 * 1024
"""What a resource's status holds of a result; longer ones are in the database only."""
ERROR_TEXT_MAX = 256
"""Characters of an error's text that are told to those who ask for any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """One job as its row stands now; instants are aware, by the database's clock.

    Attributes:
        source: who owns the row; None for jobs of the library and of schedules.
        attempt: how often it was started, 0 before the first start.
        error_type: type name of the last failure, such as ``KeyError``; None if there was none.
        error_at: when that was.
        error_text: how its text begins, of at most ``ERROR_TEXT_MAX`` characters; None unless asked for.
        stopping: it was cancelled while running and its worker has not yet reported the end.
        run_at: when it is due; a retry has a later one than the first attempt had.
        tick_at: the planned instant, of a schedule's job; it stays through retries.
        deletion: what becomes of it when its source is gone.
        digest: as the source said when the row was written; None for rows that others have made.
        result: what it returned, as JSON text of at most ``RESULT_BYTES_MAX``; None if it is longer or not kept.
        result_bytes: how long that text is; None if nothing is kept.
        result_refused: what it returned could not be kept.
    """

    job_id: str
    source: Source | None
    status: JobStatus
    task: str
    queue: str
    suspended: bool
    run_at: datetime
    tick_at: datetime | None
    attempt: int
    worker_id: str | None
    started_at: datetime | None
    finished_at: datetime | None
    error_type: str | None
    error_at: datetime | None
    stopping: bool
    deletion: Deletion = Deletion.CANCEL_PENDING
    digest: str | None = None
    result: str | None = None
    result_bytes: int | None = None
    result_refused: bool = False
    error_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleCounts:
    """What became of a schedule's ticks since it was made, by its ledger, and when its runs last ended.

    Attributes:
        ran: those that ended by themselves; ``failed`` are among them.
        skipped: for the run before them, or while it was suspended.
        missed: that nobody started in time.
        coalesced: that another run stood for.
        succeeded_at: the newest success whose row is still there; ``failed_at`` is that of a failure.
    """

    ran: int
    failed: int
    skipped: int
    missed: int
    coalesced: int
    succeeded_at: datetime | None
    failed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleState:
    """One schedule as its row stands now.

    Attributes:
        suspend_reason: why people have suspended it, in their words.
        halted_at: when it was suspended because its runs failed; None while it is not.
        halted_reason: how many of them, in words.
        anchor_at: where its ticks begin.
        last_tick_at: the planned instant of the newest due tick whose job is still there; None before the first.
        next_tick_at: the next planned instant; None when suspended or halted, and when no further tick comes.
        ticks: how many ticks have been due since the schedule was made, whatever became of them.
        runs: how many of them have, or had, a job.
        last_job: the job of the newest due tick that was not cancelled before its start, as one beside its
            predecessor's run is.
        last_end: how the newest run has ended that has; None while none has. ``last_end_at`` is when.
        missed_at: the planned instant of the newest tick that nobody started in time, if it is the newest of all.
        is_overdue: its next tick has been due for a minute, and nobody has made a job of it.
        is_served: a living worker serves its queue.
        time_zone_data: the version of the zone data that has planned the next tick; None for intervals.
        counts: None where nobody has asked for them.
    """

    source: Source
    rule: Rule
    bounds: Bounds
    policy: Policy
    history: History | None
    deletion: Deletion
    task: str
    queue: str
    suspended: bool
    suspend_reason: str
    halted_at: datetime | None
    halted_reason: str | None
    anchor_at: datetime
    last_tick_at: datetime | None
    next_tick_at: datetime | None
    ticks: int
    runs: int
    last_job: JobState | None
    last_end: JobStatus | None
    last_end_at: datetime | None
    missed_at: datetime | None
    is_overdue: bool
    is_served: bool
    time_zone_data: str | None
    counts: ScheduleCounts | None

    @property
    def is_exhausted(self) -> bool:
        """Whether its bounds or its rule have come to an end; False while nobody lets it tick."""
        return self.next_tick_at is None and not self.suspended and self.halted_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far ``Control.changes`` has read; opaque, made by it."""

    read_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTrace:
    """What may have happened to one schedule, in words to compare with those of another look.

    Attributes:
        runs: one of its jobs is running.
    """

    kind: str
    tenant: str
    name: str
    traces: frozenset[str]
    runs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Jobs whose row may have changed since a cursor, and the cursor to ask with next time.

    A row may come again in the next answer (the cursor overlaps by ten seconds, for transactions that commit late).

    Attributes:
        jobs: owned jobs that ended since, and all owned jobs that run.
        schedules: those of which a job ended since, or runs, or a tick passed without one, and those that were halted
            or have become overdue since.
    """

    cursor: Cursor
    jobs: Sequence[JobState]
    schedules: Sequence[ScheduleTrace]
