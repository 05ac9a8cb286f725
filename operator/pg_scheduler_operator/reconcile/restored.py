"""What a restore leaves behind: an object that knows of its job's end, and a row of an older copy that does not.

Invariant: what an object's Finished condition says has been; its row is told so and never runs again.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler_operator.reconcile.actions import SettleJob
from pg_scheduler_operator.reconcile.common import ENDS
from pg_scheduler_operator.status import live_condition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pg_scheduler.control import JobState
    from pg_scheduler_operator.resources import Resource, ScheduledJobSpec

_STATUSES: Final = {reason.value: status for status, reason in ENDS.items()}


def settle(job: Resource[ScheduledJobSpec], row: JobState | None) -> list[SettleJob]:
    """Bring the row to the end that its object has seen; nothing where both agree."""
    if row is None or row.status.is_final or row.source is None or row.source.uid != job.meta.uid:
        return []
    finished = live_condition(job.status, "Finished")
    status = _STATUSES.get(finished.get("reason", ""))
    if finished.get("status") != "True" or status is None:
        return []
    return [
        SettleJob(
            source=job.meta.source,
            job_id=row.job_id,
            status=status,
            attempt=job.status.get("attempt", 0),
            worker_id=job.status.get("worker"),
            started_at=_instant(job.status, "startTime"),
            finished_at=_instant(job.status, "completionTime"),
        )
    ]


def _instant(status: Mapping[str, Any], name: str) -> datetime | None:
    text = status.get(name)
    return None if text is None else datetime.fromisoformat(text)
