"""The states of a job, as ``scheduled_jobs.status`` stores them.

Invariant: a status is final exactly when the row has a ``finished_at``; the schema checks it.
"""

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the job by itself."""
        return self not in {JobStatus.PENDING, JobStatus.RUNNING, JobStatus.WAITING}
