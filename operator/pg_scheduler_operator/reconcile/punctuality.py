"""Whether a schedule keeps to its rule.

Invariant: it is judged by its newest tick alone, so that one that is on time ends what an earlier one began.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.resources import stamp
from pg_scheduler_operator.status import Fact, Reason

if TYPE_CHECKING:
    from pg_scheduler.control import ScheduleState

LATE_AFTER: Final = timedelta(seconds=60)
"""A run that starts so much later than it was due is told of, even where startingDeadlineSeconds lets it start."""

_NAME: Final = "OnSchedule"


def on_schedule(row: ScheduleState | None) -> Fact:
    """The condition, with the tick that it speaks of."""
    if row is None:
        return Fact(_NAME, None, Reason.NO_TICK_YET)
    if row.is_overdue and row.next_tick_at is not None:
        return _overdue(row, stamp(row.next_tick_at))
    if row.missed_at is not None:
        return Fact(_NAME, False, Reason.TICK_MISSED, f"no worker started the tick of {stamp(row.missed_at)} in time")
    if _started_late(row) and row.last_tick_at is not None:
        note = f"the run of {stamp(row.last_tick_at)} started more than {LATE_AFTER.seconds} seconds late"
        return Fact(_NAME, False, Reason.STARTED_LATE, note)
    if row.last_tick_at is None:
        return Fact(_NAME, True, Reason.NO_TICK_YET)
    return Fact(_NAME, True, Reason.ON_TIME)


def _overdue(row: ScheduleState, tick: str) -> Fact:
    if row.is_served:
        return Fact(_NAME, False, Reason.TICK_OVERDUE, f"no worker has taken up the tick of {tick} yet")
    note = f"no living worker of this namespace serves the queue {row.queue}; the tick of {tick} waits"
    return Fact(_NAME, False, Reason.NO_WORKER, note)


def _started_late(row: ScheduleState) -> bool:
    """By the first attempt only: a retry is due later than its tick."""
    job = row.last_job
    if job is None or job.attempt > 1 or job.started_at is None or job.tick_at is None:
        return False
    return job.started_at - job.tick_at > LATE_AFTER + timedelta(seconds=row.bounds.jitter_seconds)
