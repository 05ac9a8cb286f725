"""What a custom resource wants of the database, and who it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pg_scheduler.job_template import Deletion
from pg_scheduler.recurrence import Bounds, History, Policy

if TYPE_CHECKING:
    from datetime import datetime

    from pg_scheduler.job_template import JobTemplate
    from pg_scheduler.recurrence import Rule

KEY_PREFIX = "key:"
"""Ids of jobs with an idempotency key begin so; no other ids do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The custom resource that owns a row.

    Attributes:
        cluster: name of the cluster or folder that the resource lives in; rows of another one are never touched.
        kind: ``ScheduledJob``, ``PeriodicJob`` or ``WorkerPool``.
        tenant: the resource's namespace.
        name: the resource's name, for people and for adoption after a restore.
        uid: identity; a resource made anew under the same name is another one.
        generation: rises with each change of the spec; a lower one never overwrites a higher one.
    """

    cluster: str
    kind: str
    tenant: str
    name: str
    uid: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredJob:
    """One job as its source wants it.

    Attributes:
        run_at: when it is due; None means as soon as it is accepted.
        starting_deadline_seconds: it expires if no worker served its queue from ``run_at`` until so long after.
        deletion: what becomes of it when its source is gone and nobody is there to say.
        digest: what the source asked for, in short: two sources with the same digest want the same job.
    """

    source: Source
    job_id: str
    template: JobTemplate
    run_at: datetime | None = None
    suspended: bool = False
    starting_deadline_seconds: int | None = None
    deletion: Deletion = Deletion.CANCEL_PENDING
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredSchedule:
    """One schedule as its source wants it; ``suspend_reason`` is for people, and empty unless it is suspended."""

    source: Source
    rule: Rule
    template: JobTemplate
    bounds: Bounds = field(default_factory=Bounds)
    policy: Policy = field(default_factory=Policy)
    history: History | None = None
    deletion: Deletion = Deletion.CANCEL_PENDING
    suspended: bool = False
    suspend_reason: str = ""
