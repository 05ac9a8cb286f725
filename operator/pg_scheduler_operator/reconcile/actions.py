"""The actions that plans are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pg_scheduler.control import DesiredJob, DesiredSchedule, Source
    from pg_scheduler.demand import PoolRecord
    from pg_scheduler.job_status import JobStatus
    from pg_scheduler.job_template import Deletion
    from pg_scheduler.pool_settings import PoolSettings
    from pg_scheduler_operator.resources import Key, Meta, Pod, TargetRef
    from pg_scheduler_operator.status import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class AddFinalizer:
    """Hold the object, so that its deletion is seen before it is gone."""

    meta: Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFinalizer:
    """Let the object go."""

    meta: Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsertJob:
    """Make or change the row of a job."""

    desired: DesiredJob


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelJob:
    """Cancel the row of a job, or have it stopped."""

    source: Source
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseJob:
    """The object of a job is deleted: do with its row what it says becomes of it."""

    source: Source
    job_id: str
    deletion: Deletion


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptJob:
    """Take over the open job of an idempotency key, whose owner is gone."""

    source: Source
    job_id: str
    deletion: Deletion
    suspended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireJob:
    """Expire a job if no worker lived to start it within its deadline."""

    source: Source
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleJob:
    """Write into the row of a job the end that its object has seen, of which a restored row knows nothing."""

    source: Source
    job_id: str
    status: JobStatus
    attempt: int
    worker_id: str | None
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsertSchedule:
    """Make or change the row of a schedule."""

    key: Key
    desired: DesiredSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeSchedule:
    """Let a schedule tick again that was halted since its runs failed."""

    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSchedule:
    """Forget the row of a schedule; what becomes of its jobs is what ``deletion`` says, else the row."""

    source: Source
    deletion: Deletion | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Give the target another number of replicas, unless it wants another than ``wanted`` by now.

    ``victims`` are the pods that are to go with it: what was done to them is undone when the target is not lowered.
    """

    meta: Meta
    target: TargetRef
    wanted: int
    replicas: int
    victims: tuple[Pod, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPods:
    """Have the workers of these pods claim nothing for a minute."""

    tenant: str
    pod_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SparePods:
    """Have the workers of these pods claim again."""

    tenant: str
    pod_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDeletionCost:
    """Tell the ReplicaSet how soon a pod is to be deleted, or (None) nothing more."""

    meta: Meta
    pod: str
    cost: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepPoolRecord:
    """Keep what is known of a pool."""

    tenant: str
    name: str
    record: PoolRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPool:
    """Store what a pool says of queues and tasks."""

    source: Source
    made_at: datetime
    settings: PoolSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SetStatus:
    """Write the status; ``live`` is what it was planned upon."""

    meta: Meta
    live: Mapping[str, Any]
    desired: Mapping[str, Any]
    urgent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitEvent:
    """Tell an event."""

    notice: Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteObject:
    """Delete the object itself, whose time to live has passed."""

    meta: Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAgain:
    """Plan again later, when time alone may have changed something."""

    in_seconds: float


JobChange = UpsertJob | AdoptJob | CancelJob | ReleaseJob | SettleJob
"""What changes the row of a job."""

ScheduleChange = UpsertSchedule | ResumeSchedule | DeleteSchedule
"""What changes the row of a schedule."""

RowChange = JobChange | ScheduleChange
"""What changes a row: after one of these the object is planned again."""

PoolChange = DrainPods | SparePods | SetDeletionCost | KeepPoolRecord | SetPool | Scale
"""What is done to a pool's workers and its target."""

ObjectChange = AddFinalizer | RemoveFinalizer | DeleteObject | EmitEvent
"""What is written to the object itself, or told of it, but for its status."""

Action = ObjectChange | RowChange | ExpireJob | PoolChange | SetStatus | LookAgain
