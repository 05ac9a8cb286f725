"""What users want of a ScheduledJob.

Invariant: what the job is made from (its template or reference, its time and its deadline) has one digest; all else
may change without the job becoming another one.
"""

from __future__ import annotations

import json
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from pg_scheduler.recurrence import DEADLINE_SECONDS_MAX
from pg_scheduler_operator.resources.deletion import DELETION, DeletionPolicy
from pg_scheduler_operator.resources.model import BEFORE_9999, Instant, Model, before_9999, cel, rules
from pg_scheduler_operator.resources.templates import DURATION_SECONDS_MAX, JobTemplate

if TYPE_CHECKING:
    from pg_scheduler.job_template import Deletion

if TYPE_CHECKING:
    from pg_scheduler.job_template import Deletion

IDEMPOTENCY_KEY_MAX: Final = 128
"""With a namespace of 63 characters it fits into the id of a row."""


class ConflictPolicy(StrEnum):
    """What becomes of a ScheduledJob whose idempotency key is another job's."""

    RAISE = "Raise"
    IGNORE = "Ignore"


class ReadyWhen(StrEnum):
    """What the condition Ready stands for."""

    ACCEPTED = "Accepted"
    COMPLETE = "Complete"


class PeriodicJobRef(Model):
    """A PeriodicJob of the same namespace."""

    name: str = Field(
        min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", description="Name of the PeriodicJob."
    )


_ONE_WAY: Final = cel(
    "!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)",
    "cancel cannot be taken back; make a new ScheduledJob",
    ".cancel",
)
_ONE_TEMPLATE: Final = cel(
    "has(self.template) != has(self.periodicJobRef)", "exactly one of template and periodicJobRef is needed"
)
SAME_KEY: Final = cel(
    "has(self.idempotencyKey) == has(oldSelf.idempotencyKey) && "
    "(!has(self.idempotencyKey) || self.idempotencyKey == oldSelf.idempotencyKey)",
    "idempotencyKey cannot be changed; make a new ScheduledJob",
    ".idempotencyKey",
)


class ScheduledJobSpec(Model):
    """What the user wants of a ScheduledJob."""

    model_config = ConfigDict(json_schema_extra=rules(_ONE_WAY, _ONE_TEMPLATE, SAME_KEY))

    run_at: Annotated[Instant, AfterValidator(before_9999)] | None = Field(
        default=None,
        description="When the job becomes due, such as 2026-12-01T09:00:00Z; unset means as soon as it is accepted.",
        json_schema_extra=rules(BEFORE_9999),
    )
    starting_deadline_seconds: int | None = Field(
        default=None,
        ge=0,
        le=DEADLINE_SECONDS_MAX,
        description="It fails with the reason Expired if no worker lived to start it from runAt until so long after."
        " Unset means no limit.",
    )
    template: JobTemplate | None = Field(default=None, description="The job; this or periodicJobRef.")
    periodic_job_ref: PeriodicJobRef | None = Field(
        default=None,
        description="Instead of template: an extra run of this PeriodicJob, of its jobTemplate as it stands when the"
        " job is accepted. It is no tick, ignores overlapPolicy, and obeys concurrency.",
    )
    suspend: bool = Field(
        default=False, description="Whether the job is held while it is pending, also before it is tried again."
    )
    cancel: bool | None = Field(
        default=None,
        description="Set to true to cancel the job, or to ask its worker to stop it. It cannot be taken back.",
    )
    idempotency_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=IDEMPOTENCY_KEY_MAX,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.:/-]*[A-Za-z0-9])?$",
        description="At most one job of the namespace runs under a key, also after this object is gone: applied again"
        " it shows how the job ended. A job that was cancelled before it started leaves its key free.",
    )
    conflict_policy: ConflictPolicy = Field(
        default=ConflictPolicy.RAISE,
        description="What becomes of this object when the job of its idempotencyKey was made from another template,"
        " runAt or startingDeadlineSeconds. Raise: it is refused as KeyConflict. Ignore: it shows that job. One that"
        " was made from the same is always shown.",
    )
    ready_when: ReadyWhen = Field(
        default=ReadyWhen.ACCEPTED,
        description="When the condition Ready becomes True. Accepted: when the job is in the database. Complete: when"
        " it has completed; if it ends otherwise, Stalled becomes True.",
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=DURATION_SECONDS_MAX,
        description="This object is deleted so long after its job has ended; unset means never. An idempotencyKey stays"
        " taken.",
    )
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.CANCEL_PENDING,
        description="What becomes of the job when this object is deleted. CancelPending: it is cancelled unless it has"
        " started. Cancel: it is cancelled, and told to stop if it runs. Orphan: it stays.",
    )

    @model_validator(mode="after")
    def _has_one_template(self) -> ScheduledJobSpec:
        if (self.template is None) == (self.periodic_job_ref is None):
            raise ValueError(_ONE_TEMPLATE["message"])
        return self

    @property
    def deletion(self) -> Deletion:
        """The deletion policy in the library's words."""
        return DELETION[self.deletion_policy]

    @property
    def digest(self) -> str:
        """What the job is made from, in short; fields that later releases add do not change it while unset."""
        wish = self.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=_MADE_FROM)
        return sha256(json.dumps(wish, sort_keys=True).encode()).hexdigest()[:32]


_MADE_FROM: Final = {"run_at", "starting_deadline_seconds", "template", "periodic_job_ref"}
