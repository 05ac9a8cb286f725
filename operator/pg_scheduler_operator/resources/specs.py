"""What users want: the spec of each kind.

Invariant: a field, its bounds, its rules and its description stand here and nowhere else, and a field stands here only
when it does something.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field, model_validator

from pg_scheduler.recurrence import (
    CATCH_UP_MAX,
    DEADLINE_SECONDS_MAX,
    FAILURES_MAX,
    HISTORY_MAX,
    RUNS_MAX,
    Bounds,
    History,
    Policy,
)
from pg_scheduler_operator.resources.autoscaling import REPLICAS_MAX, Autoscaling, Drain
from pg_scheduler_operator.resources.deletion import DeletionPolicy
from pg_scheduler_operator.resources.model import Model, ObjectName, cel, rules
from pg_scheduler_operator.resources.pools import GLOBS_MAX, PoolQueues, TaskGlob, pool_settings
from pg_scheduler_operator.resources.schedules import MISSED, OVERLAP, MissedRunPolicy, OverlapPolicy, ScheduleSpec
from pg_scheduler_operator.resources.templates import JobTemplate  # noqa: TC001 (pydantic reads it)

if TYPE_CHECKING:
    from pg_scheduler.pool_settings import PoolSettings

_ONE_KEY = cel(
    "!has(self.jobTemplate.spec.concurrency) || self.overlapPolicy == 'Allow'",
    "concurrency needs overlapPolicy Allow: with any other one a run holds the concurrency key of its schedule",
    ".jobTemplate.spec.concurrency",
)


class PeriodicJobSpec(Model):
    """What the user wants of a PeriodicJob."""

    model_config = ConfigDict(json_schema_extra=rules(_ONE_KEY))

    schedule: ScheduleSpec = Field(description="When it ticks.")
    suspend: bool = Field(default=False, description="Whether no tick fires; resuming never catches up.")
    suspend_reason: str = Field(
        default="",
        max_length=256,
        pattern=r"^[^\x00]*$",
        description="Why it is suspended, for people; shown in the condition Suspended. It is free text that everyone"
        " may read who may list the object.",
    )
    overlap_policy: OverlapPolicy = Field(
        default=OverlapPolicy.SKIP,
        description="What becomes of a tick whose predecessor has not ended, be it running, waiting or about to be"
        " tried again. Skip: it does not run. Queue: one waits, others do not run. Replace: the predecessor is stopped,"
        " then it starts. Allow: it runs beside it.",
    )
    missed_run_policy: MissedRunPolicy = Field(
        default=MissedRunPolicy.RUN_LATEST,
        description="What becomes of the ticks that passed while no worker lived. RunLatest: one run stands for all."
        " Skip: none runs, but for the latest within startingDeadlineSeconds if that is given. RunAll: each runs, up to"
        " maxCatchUp.",
    )
    starting_deadline_seconds: int | None = Field(
        default=None,
        ge=0,
        le=DEADLINE_SECONDS_MAX,
        description="How late a run may start; what is older is missed. Unset means no limit.",
    )
    max_catch_up: int = Field(
        default=100,
        ge=1,
        le=CATCH_UP_MAX,
        description="With RunAll at most so many runs are made up for, the latest; the others are missed.",
    )
    max_runs: int | None = Field(
        default=None,
        ge=1,
        le=RUNS_MAX,
        description="After so many runs it ticks no more, and the condition Exhausted is True. A tick counts that"
        " overlapPolicy let not run. Unset means no limit.",
    )
    suspend_after_failures: int | None = Field(
        default=None,
        ge=1,
        le=FAILURES_MAX,
        description="After so many runs in a row that failed for good it is suspended; any change of the spec resumes"
        " it. Unset means never.",
    )
    successful_jobs_history_limit: int = Field(
        default=20,
        ge=0,
        le=HISTORY_MAX,
        description="How many rows of its completed jobs are kept, whatever their age; workers delete the others every"
        " hour. With suspendAfterFailures the newest stays.",
    )
    failed_jobs_history_limit: int = Field(
        default=50,
        ge=0,
        le=HISTORY_MAX,
        description="How many rows of its failed jobs are kept, as many of its cancelled and as many of its expired"
        " ones. What suspendAfterFailures counts stays.",
    )
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.CANCEL_PENDING,
        description="What becomes of its jobs when it is deleted; it ticks no more in any case. CancelPending: what"
        " runs finishes, the others are cancelled. Cancel: what runs is stopped too. Orphan: all that were due go on.",
    )
    job_template: JobTemplate = Field(description="The job of each tick.")

    @model_validator(mode="after")
    def _has_one_key(self) -> PeriodicJobSpec:
        if self.job_template.spec.concurrency is not None and self.overlap_policy is not OverlapPolicy.ALLOW:
            raise ValueError(_ONE_KEY["message"])
        return self

    @property
    def bounds(self) -> Bounds:
        """What holds beside the rule, in the library's words.

        Raises:
            InvalidSchedule: the rule is none, or its ticks lie closer together than the jitter.
        """
        self.schedule.check_jitter()
        return Bounds(
            jitter_seconds=self.schedule.jitter_seconds,
            start_at=self.schedule.start_time,
            end_at=self.schedule.end_time,
            max_runs=self.max_runs,
        )

    @property
    def policy(self) -> Policy:
        """The choices beside the rule, in the library's words."""
        return Policy(
            missed=MISSED[self.missed_run_policy],
            max_catch_up=self.max_catch_up,
            starting_deadline_seconds=self.starting_deadline_seconds,
            overlap=OVERLAP[self.overlap_policy],
            suspend_after_failures=self.suspend_after_failures,
        )

    @property
    def history(self) -> History:
        """How many rows are kept, in the library's words."""
        return History(successful=self.successful_jobs_history_limit, failed=self.failed_jobs_history_limit)


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


class WorkerPoolSpec(Model):
    """What the user wants of a WorkerPool."""

    target_ref: TargetRef = Field(description="The Deployment whose replicas are the pool's workers.")
    replicas: int = Field(
        default=1,
        ge=0,
        le=REPLICAS_MAX,
        description="The wish of /scale, carried out in the modes Off and External; with the mode Operator it does"
        " nothing.",
    )
    drain: Drain = Field(default_factory=Drain, description="How a worker is let go when the pool shrinks.")
    queues: PoolQueues = Field(
        default=(),
        description="Shares and limits of queues, for all workers of the namespace, whatever pool they are of. Of two"
        " pools that name a queue the older counts. Which queues a worker serves is said by its PGSCHEDULER_QUEUES.",
    )
    allowed_tasks: tuple[TaskGlob, ...] | None = Field(
        default=None,
        max_length=GLOBS_MAX,
        strict=False,
        description="Globs of the tasks that the workers claim whose PGSCHEDULER_POOL names this pool; jobs of other"
        " tasks are left to other workers. Unset means all, [] none.",
    )
    slots_hint: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Slots of one worker, used only until the first heartbeat reports the real number.",
    )
    autoscaling: Autoscaling = Field(description="How the number of replicas follows the demand.")

    @property
    def settings(self) -> PoolSettings:
        """What it says of queues and tasks, in the library's words."""
        return pool_settings(self.queues, self.allowed_tasks)
