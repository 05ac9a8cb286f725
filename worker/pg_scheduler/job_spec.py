"""One job as the caller describes it, before anything is checked against a registry or a database."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from pg_scheduler.job_priority import JobPriority
from pg_scheduler.retry_policy import RetryPolicy
from pg_scheduler.unique import Unique

_UNSET = object()
"""Stands for "not given" where None has a meaning of its own (``misfire_grace_time``: None never expires)."""

Flush = Literal["batch", "now"]
OnInterrupt = Literal["retry", "fail"]
OnFull = Literal["wait", "skip", "queue", "replace"]
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
    queue: str = "default"
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    on_full: OnFull = "wait"
    timeout: float | timedelta | None = None
    retry_policy: RetryPolicy | None = None
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] | None = None
    expires: datetime | timedelta | None = None
    keep_result: bool = False
    flush: Flush = "batch"
    on_interrupt: OnInterrupt = "retry"
    max_interruptions: int | None = None
    unique: Unique | None = None
