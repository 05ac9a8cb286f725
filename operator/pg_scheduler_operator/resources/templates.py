"""What one job runs and how: the template that both kinds of jobs are made from.

Invariant: what is left out is the task's own choice, or the library's default.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, model_validator

from pg_scheduler.job_priority import JobPriority
from pg_scheduler.job_template import JobTemplate as Template
from pg_scheduler.retry_policy import RetryPolicy
from pg_scheduler_operator.resources.model import Json, Model, cel, rules

ARGUMENTS_MAX_BYTES: Final = 32 * 1024
EXACT_INTEGER_MAX: Final = 2**53
DURATION_SECONDS_MAX: Final = 366 * 24 * 3600
LABELS_MAX: Final = 32
ARGS_FROM_MAX: Final = 20

LabelValue = Annotated[str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][A-Za-z0-9_.-]*)?[A-Za-z0-9])?$")]


class Priority(StrEnum):
    """The library's four priorities as manifests write them."""

    CRITICAL = "Critical"
    HIGH = "High"
    NORMAL = "Normal"
    LOW = "Low"


class ResultPolicy(StrEnum):
    """Where what a job returns is kept."""

    NONE = "None"
    STATUS = "Status"
    DATABASE = "Database"


class Jitter(StrEnum):
    """How much of a delay is left to chance."""

    NONE = "None"
    HALF = "Half"
    FULL = "Full"


_JITTER: Final = {Jitter.NONE: 0.0, Jitter.HALF: 0.5, Jitter.FULL: 1.0}
_DELAYS: Final = RetryPolicy()
_DELAYS_IN_ORDER: Final = cel(
    "!has(self.initialDelaySeconds) || !has(self.maxDelaySeconds) || self.initialDelaySeconds <= self.maxDelaySeconds",
    "initialDelaySeconds must not be above maxDelaySeconds",
)


class Retry(Model):
    """How often a job that fails is tried again, and when."""

    model_config = ConfigDict(json_schema_extra=rules(_DELAYS_IN_ORDER))

    max_retries: int = Field(
        default=0, ge=0, le=10_000, description="How often it is tried again after it has failed; 0 means never."
    )
    initial_delay_seconds: int | None = Field(
        default=None,
        ge=0,
        le=DURATION_SECONDS_MAX,
        description="Time before the first retry. When none of the delays is given, they are the task's own; when some"
        " are, this is 60, or maxDelaySeconds if that is less.",
    )
    max_delay_seconds: int | None = Field(
        default=None,
        ge=0,
        le=DURATION_SECONDS_MAX,
        description="No delay is longer, but for its jitter; 300 beside other delays, or initialDelaySeconds if that is"
        " more.",
    )
    factor: float | None = Field(
        default=None, ge=1, le=100, description="By what each delay is longer than the one before; 2 beside others."
    )
    jitter: Jitter | None = Field(
        default=None,
        description="How far chance may shorten or lengthen a delay, so that jobs that failed together do not come back"
        " together. None: not at all. Half: by half of it. Full: from nothing to twice as long.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Retry:
        first, most = self.initial_delay_seconds, self.max_delay_seconds
        if first is not None and most is not None and first > most:
            raise ValueError(_DELAYS_IN_ORDER["message"])
        return self

    @property
    def delays(self) -> RetryPolicy | None:
        """The delays in the library's words; None when they are the task's own."""
        first, most = self.initial_delay_seconds, self.max_delay_seconds
        if (first, most, self.factor, self.jitter) == (None, None, None, None):
            return None
        initial = min(_DELAYS.initial, _DELAYS.maximum if most is None else most) if first is None else first
        return RetryPolicy(
            initial=initial,
            maximum=max(_DELAYS.maximum, initial) if most is None else most,
            factor=_DELAYS.factor if self.factor is None else self.factor,
            jitter=_JITTER[self.jitter or Jitter.NONE],
        )


_KEY_OF_A_SCHEDULE: Final = cel(
    "!self.startsWith('schedule:')", "a key must not begin with schedule: as those of schedules do"
)


class Concurrency(Model):
    """How many jobs of the same key run at once."""

    key: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]([ -~]*[!-~])?$",
        description="Jobs of the namespace with the same key share its limit; those beyond wait.",
        json_schema_extra=rules(_KEY_OF_A_SCHEDULE),
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="How many jobs of the key may run at once; the newest job that says so counts. Unset leaves the"
        " limit as it is, which begins as 1.",
    )

    @model_validator(mode="after")
    def _is_no_key_of_a_schedule(self) -> Concurrency:
        if self.key.startswith("schedule:"):
            raise ValueError(_KEY_OF_A_SCHEDULE["message"])
        return self


_NOT_OURS: Final = cel("!self.startsWith('PG')", "no variable whose name begins with PG is ever given to a job")


class ArgFrom(Model):
    """One argument that its worker reads in its own environment."""

    env: str = Field(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable of the worker. Its code or its environment must allow the name:"
        " @task(args_from=[...]) or PGSCHEDULER_ARGS_FROM_ALLOW.",
        json_schema_extra=rules(_NOT_OURS),
    )
    into: str = Field(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Keyword argument that is given its value; not one that kwargs has too.",
    )

    @model_validator(mode="after")
    def _is_not_ours(self) -> ArgFrom:
        if self.env.startswith("PG"):
            raise ValueError(_NOT_OURS["message"])
        return self


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
    args_from: tuple[ArgFrom, ...] = Field(
        default=(),
        strict=False,
        max_length=ARGS_FROM_MAX,
        description="Keyword arguments that the worker reads in its own environment when the job runs. Values are"
        " neither stored nor logged: the way for secrets.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["into"]},
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
    retry_policy: Retry | None = Field(
        default=None, description="What follows a failure; unset means that the job is not tried again."
    )
    timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=DURATION_SECONDS_MAX,
        description="How long one attempt may take before it is cancelled; unset means the task's own limit.",
    )
    concurrency: Concurrency | None = Field(
        default=None, description="How many jobs of a key run at once; unset means without limit."
    )
    result_policy: ResultPolicy = Field(
        default=ResultPolicy.NONE,
        description="Where what the task returns is kept. 'None': nowhere, unless the task itself says so. Database: in"
        " the database. Status: there, and up to 4 KiB of JSON in the status of a ScheduledJob, which everyone may read"
        " who may list it.",
    )

    @model_validator(mode="after")
    def _fits(self) -> TaskSpec:
        size = len(json.dumps([self.args, self.kwargs], separators=(",", ":"), ensure_ascii=False).encode())
        if size > ARGUMENTS_MAX_BYTES:
            raise ValueError(f"args and kwargs are {size} bytes as JSON, at most {ARGUMENTS_MAX_BYTES} are allowed")
        return self

    @model_validator(mode="after")
    def _gives_each_argument_once(self) -> TaskSpec:
        names = [argument.into for argument in self.args_from]
        if len(set(names)) < len(names) or self.kwargs.keys() & set(names):
            raise ValueError("argsFrom fills an argument that is given twice; each into must be another, and no kwarg")
        return self

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


class TemplateMetadata(Model):
    """What a job carries beside what it runs."""

    labels: dict[str, LabelValue] = Field(
        default={},
        max_length=LABELS_MAX,
        description="Kept with the job's row as its metadata, where SQL and the command line find them.",
    )


class JobTemplate(Model):
    """A job as its kind makes it."""

    metadata: TemplateMetadata | None = Field(default=None, description="Labels of the job.")
    spec: TaskSpec = Field(description="What each job runs.")

    def made(self, **labels: str) -> Template:
        """The same in the library's words, with further labels."""
        spec, retry, concurrency = self.spec, self.spec.retry_policy or Retry(), self.spec.concurrency
        return Template(
            task=spec.task,
            args=spec.args,
            kwargs=spec.kwargs,
            args_from={argument.into: argument.env for argument in spec.args_from},
            labels={**(self.metadata.labels if self.metadata else {}), **labels},
            queue=spec.queue,
            priority=JobPriority[spec.priority.name],
            max_retries=retry.max_retries,
            retry_policy=retry.delays,
            timeout_seconds=spec.timeout_seconds,
            concurrency_key=None if concurrency is None else concurrency.key,
            concurrency_limit=None if concurrency is None else concurrency.limit,
            keep_result=spec.result_policy is not ResultPolicy.NONE,
        )
