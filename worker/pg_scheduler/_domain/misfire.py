"""Whether a job is too late to start at all; ``scheduler_is_late`` says the same in the database.

Invariant: grace is judged against claimability. A job that waits behind busy slots is late, and runs late; one that no
living worker could have claimed from its time to the end of its grace has misfired.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pg_scheduler._domain.jobs import NewJob


def is_late(job: NewJob, now: datetime) -> bool:
    """Whether a job that is submitted now is past its grace or its end already."""
    if job.expires_at is not None and job.expires_at <= now:
        return True
    if job.execution_time >= now or job.misfire_grace_time is None:
        return False
    return job.execution_time + timedelta(seconds=job.misfire_grace_time) < now


def split_late(jobs: Iterable[NewJob], now: datetime) -> tuple[list[NewJob], list[NewJob]]:
    """Those that are too late, and the others."""
    late: list[NewJob] = []
    punctual: list[NewJob] = []
    for job in jobs:
        (late if is_late(job, now) else punctual).append(job)
    return late, punctual
