"""What is asked of the tables by people and tools, and what they get to see: no arguments of jobs, no tracebacks.

Invariant: a filter that exists has been checked; it never names a tenant, since a scheduler sees its own only.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pg_scheduler.errors import InvalidArgument
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.job_status import JobStatus

IDS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs ``Scheduler.jobs`` lists; what is not given does not narrow.

    Attributes:
        status: one status or several, as ``JobStatus`` or its values.
        task: a task's key.
        queue: a queue's name.
        tags: the jobs have all of them.
        schedule: the name of the schedule that made them.
        ids: up to 10,000 job ids.
        created_from: aware instant, inclusive.
        created_until: aware instant, exclusive.
        due_from: of ``execution_time``, inclusive.
        due_until: of ``execution_time``, exclusive.
        limit: how many jobs at most; None all.
        after: ``job_id`` of the last job of the page before.

    Raises:
        InvalidArgument: a value that cannot be used.
    """

    status: JobStatus | str | Collection[JobStatus | str] = ()
    task: str | None = None
    queue: str | None = None
    tags: Collection[str] = ()
    schedule: str | None = None
    ids: Collection[str] | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None
    due_from: datetime | None = None
    due_until: datetime | None = None
    limit: int | None = None
    after: str | None = None

    def __post_init__(self) -> None:
        _ = self.statuses
        for name in ("task", "queue", "schedule", "after"):
            _require_text(name, getattr(self, name), optional=True)
        for name in ("tags", "ids"):
            _require_texts(name, getattr(self, name))
        for name in ("created_from", "created_until", "due_from", "due_until"):
            _require_aware(name, getattr(self, name))
        _require_count("limit", self.limit)

    @property
    def statuses(self) -> Sequence[JobStatus]:
        """The statuses, none of which stands for all."""
        given = [self.status] if isinstance(self.status, str) else self.status
        try:
            return [JobStatus(status) for status in given]
        except (TypeError, ValueError) as error:
            raise InvalidArgument(
                f"filter: status is {str(self.status)[:40]!r}", fix=f"give of {', '.join(JobStatus)}"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """A job as its row says it is.

    Durations are in seconds, instants aware; ``schedule`` is the name of the schedule that made it, ``error`` the text
    of the last failure.
    """

    job_id: str
    status: JobStatus
    task: str
    job_name: str
    queue: str
    priority: JobPriority
    execution_time: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    worker_id: str | None
    attempt: int
    retry_count: int
    max_retries: int
    interruptions: int
    suspended: bool
    concurrency_key: str | None
    timeout_seconds: float | None
    schedule: str | None
    tick_at: datetime | None
    error: str | None
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """A queue that is or was paused, or that a worker serves or has served.

    Attributes:
        queue: its name.
        paused_at: since when nothing of it starts; None when it is not paused.
        paused_by: who paused it.
        reason: why.
        served_since: since when living workers have served it without a gap; None if none ever has.
        served_until: how long the last of them is believed in.
    """

    queue: str
    paused_at: datetime | None
    paused_by: str | None
    reason: str | None
    served_since: datetime | None
    served_until: datetime | None

    @property
    def is_paused(self) -> bool:
        """Whether its jobs are held back."""
        return self.paused_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """A schedule as its row says it is; instants are aware.

    Attributes:
        uid: what tells it from others of its source: the name of one made at run time, the task of one that code
            declares, with ``#`` and its key where one was given.
        name: what its jobs are shown under.
        source: ``code`` (``@periodic``), ``runtime`` (``upsert_schedule``), or the kind of a custom resource.
        rule: its expressions, or such as ``every 5m``.
        description: the rule in English.
        is_ticking: whether its ticks become jobs.
        suspended: whether people have suspended it; ``suspended_at``, ``suspended_by`` and ``suspend_reason`` say more.
        halted_reason: what made it stop by itself (``suspend_after_failures``); None unless it did.
        retired_reason: why it is off for want of a worker that declares it; None unless it is.
        next_run_at: its next tick; None when there is none.
        last_run_at: the newest start among the jobs that are still there.
        last_status: what became of that job so far.
    """

    uid: str
    name: str
    source: str
    task: str
    queue: str
    rule: str
    time_zone: str
    description: str
    is_ticking: bool
    enabled: bool
    suspended: bool
    suspended_at: datetime | None
    suspended_by: str | None
    suspend_reason: str
    halted_reason: str | None
    retired_reason: str | None
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_status: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleLedger:
    """What became of every tick that a schedule has planned.

    ``planned`` is the sum of ``open`` (its job has not ended), ``ran`` (``failed`` are among them), ``coalesced``
    (another run stands for it), ``skipped_overlap``, ``skipped_suspended``, ``missed``, ``cancelled``, ``unrecorded``
    (deleted before there was a ledger) and ``unaccounted``, which is 0 unless somebody has deleted a job by hand.
    """

    planned: int
    open: int
    ran: int
    failed: int
    coalesced: int
    skipped_overlap: int
    skipped_suspended: int
    missed: int
    cancelled: int
    unrecorded: int
    unaccounted: int


def _require_text(name: str, value: object, *, optional: bool = False) -> None:
    if (value is None and optional) or (isinstance(value, str) and value and _is_storable(value)):
        return
    raise InvalidArgument(f"filter: {name} is {str(value)[:40]!r}", fix="give text")


def _is_storable(text: str) -> bool:
    """Neither NUL nor half a surrogate pair, which no column holds."""
    return "\x00" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)


def _require_texts(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, str) or not isinstance(value, Collection) or len(value) > IDS_MAX:
        raise InvalidArgument(f"filter: {name} is {str(value)[:40]!r}", fix=f"give a list of up to {IDS_MAX} texts")
    for text in value:
        _require_text(name, text)


def _require_aware(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, datetime) or value.utcoffset() is None):
        raise InvalidArgument(
            f"filter: {name} is {str(value)[:40]!r}", fix="give an aware datetime, such as datetime.now(UTC)"
        )


def _require_count(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63):
        raise InvalidArgument(f"filter: {name} is {str(value)[:40]!r}", fix="give a whole number, or None")
