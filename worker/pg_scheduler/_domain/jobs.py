"""A job before it is stored, and a job as a worker holds it."""

from datetime import datetime
from operator import attrgetter
from types import NoneType
from typing import Any, NamedTuple, Protocol, get_args, get_type_hints


class Row(Protocol):
    """Columns by name: a mapping, or a record of the driver."""

    def __getitem__(self, name: str, /) -> Any: ...


class NewJob(NamedTuple):
    """One row to insert; ``task_data`` is the encoded payload, ``priority`` the stored number; ``retry_policy``,
    ``tags`` and ``metadata`` are JSON text.

    A tuple in the order of the columns, so that COPY takes it as it is.
    """

    job_id: str
    tenant: str
    queue: str
    task: str
    job_name: str
    task_data: str
    execution_time: datetime
    priority: int
    max_retries: int
    misfire_grace_time: int | None
    concurrency_key: str | None = None
    timeout_seconds: float | None = None
    retry_policy: str | None = None
    on_interrupt: str = "retry"
    max_interruptions: int | None = None
    expires_at: datetime | None = None
    keep_result: bool = False
    flush_now: bool = False
    tags: str | None = None
    metadata: str | None = None
    on_full: str = "wait"
    concurrency_limit: int | None = None


_DEFAULTS: dict[str, object] = {
    "tenant": "",
    "queue": "default",
    "priority": 5,
    "max_retries": 0,
    "misfire_grace_time": None,
    **NewJob._field_defaults,
}
"""What the table stores where nothing is said."""

NULLABLE_COLUMNS = frozenset(name for name, hint in get_type_hints(NewJob).items() if NoneType in get_args(hint))

OWN_COLUMNS = frozenset(NewJob._fields).difference(_DEFAULTS)


def used_columns(job: NewJob) -> frozenset[str]:
    """Those that an INSERT must name."""
    return frozenset(
        name for name, value in zip(NewJob._fields, job, strict=True) if name in OWN_COLUMNS or value != _DEFAULTS[name]
    )


class ClaimedJob(NamedTuple):
    """One row as the claim returned it: ``worker_id`` and ``token`` are what its outcome is fenced by.

    A tuple, because one is made for each job: a frozen dataclass of twelve fields takes 2.5 µs, this 0.4.
    ``retry_policy`` is JSON text.
    """

    id: int
    job_id: str
    token: int
    worker_id: str
    task: str
    payload: str
    queue: str
    priority: int
    execution_time: datetime
    attempt: int
    retry_count: int
    max_retries: int
    tick_at: datetime | None = None
    previous_tick_at: datetime | None = None
    concurrency_key: str | None = None
    timeout_seconds: float | None = None
    retry_policy: str | None = None
    on_interrupt: str = "retry"
    keep_result: bool = False
    flush_now: bool = False

    @classmethod
    def of_row(cls, row: "Row") -> "ClaimedJob":
        """The job of a whole row of ``scheduled_jobs``."""
        return cls(*(row["task_data" if name == "payload" else name] for name in cls._fields))

    @property
    def retries_left(self) -> bool:
        """Whether one more failure is followed by another attempt."""
        return self.retry_count < self.max_retries


start_order = attrgetter("priority", "execution_time", "id")
"""The order in which the jobs of one claim start: priority, then time, then age."""
