"""One job as the caller describes it, before anything is checked against a registry or a database."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Any, Literal

from pg_scheduler.job_priority import JobPriority

_UNSET = object()
"""Stands for "not given" where None has a meaning of its own (``misfire_grace_time``: None never expires)."""

OnFull = Literal["wait", "skip", "replace"]
"""What becomes of a due job whose concurrency key is full."""


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
    _: KW_ONLY
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    on_full: OnFull = "wait"
