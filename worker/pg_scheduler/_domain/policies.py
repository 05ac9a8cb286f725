"""What becomes of ticks that were missed, of runs that overlap, of a schedule that keeps failing, and of old rows.

Invariant: a policy that exists has been checked.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from pg_scheduler._domain.rules import require_one_of, require_whole

CATCH_UP_MAX = 10_000
FAILURES_MAX = 1_000
HISTORY_MAX = 10_000
DEADLINE_SECONDS_MAX = 2**31 - 1
"""What the grace of a job can say."""

Missed = Literal["run_latest", "skip", "run_all"]
Overlap = Literal["allow", "skip", "queue", "replace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The choices of one schedule beside its rule.

    Attributes:
        missed: of the ticks that passed while nobody was there to make their jobs: ``run_latest`` makes the last one's,
            ``run_all`` that of each, ``skip`` none.
        max_catch_up: ``run_all`` makes at most so many, the latest.
        starting_deadline_seconds: how late a run may start; what is older is missed. None without limit, and then
            ``skip`` starts nothing late.
        overlap: of a tick whose predecessor has not ended: ``allow`` runs beside it, ``skip`` does not run, ``queue``
            waits, one at a time, ``replace`` stops the predecessor and starts when that has ended.
        suspend_after_failures: after so many failed runs in a row the schedule ticks no more until somebody resumes or
            changes it; None never.

    Raises:
        InvalidSchedule: a word that is none of its field's, or a number out of its range.
    """

    missed: Missed = "run_latest"
    max_catch_up: int = 100
    starting_deadline_seconds: int | None = None
    overlap: Overlap = "allow"
    suspend_after_failures: int | None = None

    def __post_init__(self) -> None:
        require_one_of("missed", self.missed, get_args(Missed))
        require_one_of("overlap", self.overlap, get_args(Overlap))
        require_whole("maxCatchUp", self.max_catch_up, 1, CATCH_UP_MAX, "a catch-up of {} runs")
        if self.starting_deadline_seconds is not None:
            require_whole(
                "startingDeadlineSeconds",
                self.starting_deadline_seconds,
                0,
                DEADLINE_SECONDS_MAX,
                "a deadline of {} seconds",
            )
        if self.suspend_after_failures is not None:
            require_whole(
                "suspendAfterFailures", self.suspend_after_failures, 1, FAILURES_MAX, "a limit of {} failures"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How many rows of ended jobs a schedule keeps, whatever their age.

    Attributes:
        successful: of completed jobs.
        failed: of each other end: failed, cancelled, expired.

    Raises:
        InvalidSchedule: a number out of its range.
    """

    successful: int
    failed: int

    def __post_init__(self) -> None:
        require_whole("successfulJobsHistoryLimit", self.successful, 0, HISTORY_MAX, "a history of {} rows")
        require_whole("failedJobsHistoryLimit", self.failed, 0, HISTORY_MAX, "a history of {} rows")
