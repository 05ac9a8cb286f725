"""What users want: the spec of each kind.

Invariant: a field, its bounds, its rules and its description stand here and nowhere else, and a field stands here only
when it does something.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from pg_scheduler.control import JobTemplate as Template
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.recurrence import EVERY_SECONDS_MAX
from pg_scheduler_operator.resources.model import Instant, Json, Model, ObjectName, cel, rules

ARGUMENTS_MAX_BYTES: Final = 32 * 1024
EXACT_INTEGER_MAX: Final = 2**53
YEAR_END: Final = 9999

CronExpression = Annotated[str, Field(min_length=1, max_length=128)]


def _before_9999(value: datetime) -> datetime:
    if value.astimezone(UTC).year >= YEAR_END:
        raise ValueError("must be before the year 9999")
    return value


class Priority(StrEnum):
    """The library's four priorities as manifests write them."""

    CRITICAL = "Critical"
    HIGH = "High"
    NORMAL = "Normal"
    LOW = "Low"


class TaskSpec(Model):
    """What one job runs."""

    task: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]{0,252}$",
        max_length=253,
        description="Key of the task in the workers' registry. It is looked up, never imported.",
    )
    args: tuple[Json, ...] = Field(
        default=(),
        strict=False,
        max_length=1000,
        description="Positional arguments; with kwargs at most 32 KiB as JSON.",
    )
    kwargs: dict[str, Json] = Field(
        default={}, max_length=1000, description="Keyword arguments; with args at most 32 KiB as JSON."
    )
    queue: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$",
        max_length=63,
        description="Queue that the job waits in; workers serve queues.",
    )
    priority: Priority = Field(
        default=Priority.NORMAL, description="Urgency among the due jobs of its queue: Critical, High, Normal or Low."
    )

    @model_validator(mode="after")
    def _fits(self) -> TaskSpec:
        size = len(json.dumps([self.args, self.kwargs], separators=(",", ":"), ensure_ascii=False).encode())
        if size > ARGUMENTS_MAX_BYTES:
            raise ValueError(f"args and kwargs are {size} bytes as JSON, at most {ARGUMENTS_MAX_BYTES} are allowed")
        return self

    @property
    def template(self) -> Template:
        """The same in the library's words."""
        return Template(
            task=self.task,
            args=self.args,
            kwargs=self.kwargs,
            queue=self.queue,
            priority=JobPriority[self.priority.name],
        )

    @property
    def is_inexact(self) -> bool:
        """Whether JSON numbers or YAML keys on the way here may have changed an argument."""
        return any(_inexact(value) for value in (list(self.args), self.kwargs))


def _inexact(value: Any) -> bool:
    match value:
        case dict():
            return bool({"true", "false"} & value.keys()) or any(map(_inexact, value.values()))
        case list():
            return any(map(_inexact, value))
        case int() | float():
            return abs(value) > EXACT_INTEGER_MAX and float(value).is_integer()
        case _:
            return False


class JobTemplate(Model):
    """A job as its kind makes it."""

    spec: TaskSpec = Field(description="What each job runs.")


class ScheduleSpec(Model):
    """When a PeriodicJob ticks: exactly one of cron and intervalSeconds."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("has(self.cron) != has(self.intervalSeconds)", "give exactly one of cron and intervalSeconds")
        )
    )

    cron: Annotated[tuple[CronExpression, ...], Field(strict=False)] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Cron expressions of five fields; the schedule ticks at the union of them.",
    )
    interval_seconds: int | None = Field(
        default=None,
        ge=1,
        le=EVERY_SECONDS_MAX,
        description="Seconds from tick to tick, on a fixed grid that never drifts.",
    )
    time_zone: str = Field(
        default="Etc/UTC",
        min_length=1,
        max_length=64,
        description="IANA zone that cron is read in, such as Europe/Berlin; never the machine's zone.",
    )

    @model_validator(mode="after")
    def _one_of(self) -> ScheduleSpec:
        if (self.cron is None) == (self.interval_seconds is None):
            raise ValueError("give exactly one of cron and intervalSeconds")
        return self


class PeriodicJobSpec(Model):
    """What the user wants of a PeriodicJob."""

    schedule: ScheduleSpec = Field(description="When it ticks.")
    suspend: bool = Field(default=False, description="Whether no tick fires; resuming never catches up.")
    job_template: JobTemplate = Field(description="The job of each tick.")


class ScheduledJobSpec(Model):
    """What the user wants of a ScheduledJob."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)",
                "cancel cannot be taken back; make a new ScheduledJob",
                ".cancel",
            )
        )
    )

    run_at: Annotated[Instant, AfterValidator(_before_9999)] | None = Field(
        default=None,
        description="When the job becomes due, such as 2026-12-01T09:00:00Z; unset means as soon as it is accepted.",
        json_schema_extra=rules(cel("self < timestamp('9999-01-01T00:00:00Z')", "must be before the year 9999")),
    )
    template: JobTemplate = Field(description="The job.")
    suspend: bool = Field(default=False, description="Whether the job is held while it is pending.")
    cancel: bool | None = Field(
        default=None,
        description="Set to true to cancel the job, or to ask its worker to stop it. It cannot be taken back.",
    )


class ScalingMode(StrEnum):
    """Who changes the number of a target's replicas."""

    OPERATOR = "Operator"
    OFF = "Off"


class TargetKind(StrEnum):
    """Kinds that a WorkerPool can scale."""

    DEPLOYMENT = "Deployment"


class TargetApiVersion(StrEnum):
    """API versions of those kinds."""

    APPS_V1 = "apps/v1"


class TargetRef(Model):
    """The workers' Deployment, in the pool's own namespace."""

    model_config = ConfigDict(json_schema_extra=rules(cel("self == oldSelf", "targetRef cannot be changed")))

    api_version: TargetApiVersion = Field(description="apps/v1")
    kind: TargetKind = Field(description="Deployment")
    name: ObjectName = Field(description="Name of the Deployment.")


class Autoscaling(Model):
    """How the number of replicas follows the demand."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("self.mode == 'Off' || has(self.maxReplicas)", "maxReplicas is required unless mode is Off"),
            cel(
                "!has(self.maxReplicas) || !has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
                "minReplicas must not be above maxReplicas",
            ),
        )
    )

    mode: ScalingMode = Field(
        default=ScalingMode.OPERATOR,
        description="Operator: replicas follow due, running and orphaned jobs. 'Off' (in quotes: YAML reads a bare Off"
        " as false): the operator only counts.",
    )
    min_replicas: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Never fewer. At 0 nobody ticks the namespace's PeriodicJobs while no job waits: give 1 to a pool"
        " whose namespace has PeriodicJobs.",
    )
    max_replicas: int | None = Field(
        default=None, ge=1, le=10_000, description="Never more; required unless mode is Off."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Autoscaling:
        if self.mode is ScalingMode.OPERATOR and self.max_replicas is None:
            raise ValueError("maxReplicas is required unless mode is Off")
        if self.max_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError("minReplicas must not be above maxReplicas")
        return self


class WorkerPoolSpec(Model):
    """What the user wants of a WorkerPool."""

    target_ref: TargetRef = Field(description="The Deployment whose replicas are the pool's workers.")
    slots_hint: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Slots of one worker, used only until the first heartbeat reports the real number.",
    )
    autoscaling: Autoscaling = Field(description="How the number of replicas follows the demand.")
