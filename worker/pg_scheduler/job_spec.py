"""One job as the caller describes it, before anything is checked against a registry or a database."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pg_scheduler.job_priority import JobPriority

_UNSET = object()
"""Stands for "not given" where None has a meaning of its own (``misfire_grace_time``: None never expires)."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job for ``Scheduler.schedule_bulk``: the arguments of ``Scheduler.schedule``, as a value."""

    func: Callable[..., Any]
    execution_time: datetime
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    priority: JobPriority = JobPriority.NORMAL
    max_retries: int = 0
    job_id: str | None = None
    misfire_grace_time: int | None | object = _UNSET
