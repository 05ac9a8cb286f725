"""A job as a custom resource describes it, before it has a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pg_scheduler.job_priority import JobPriority
from pg_scheduler.retry_policy import RetryPolicy


class Deletion(StrEnum):
    """What becomes of an open job when the resource that owns it is deleted."""

    CANCEL_PENDING = "cancel_pending"
    """One that has not started is cancelled; a running one finishes."""
    CANCEL = "cancel"
    """It is cancelled, and told to stop if it runs."""
    ORPHAN = "orphan"
    """It stays, and is nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTemplate:
    """What is run, where it queues, and how it is tried again.

    Attributes:
        task: its key in the workers' registry.
        args_from: further keywords, and the worker's environment variables that they are read from.
        labels: kept with the row as its ``metadata``, to be found by.
        max_retries: how often it is tried again after it has failed.
        retry_policy: the delays; None means the task's own.
        timeout_seconds: what an attempt may take; None means the task's own limit.
        concurrency_key: jobs of one key share its limit.
        concurrency_limit: the limit that submitting the job sets for its key; None leaves it, which begins as 1.
        keep_result: whether what it returns is stored; the task may say so too.
    """

    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    args_from: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    queue: str = "default"
    priority: JobPriority = JobPriority.NORMAL
    max_retries: int = 0
    retry_policy: RetryPolicy | None = None
    timeout_seconds: float | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    keep_result: bool = False
