"""The three kinds: what a manifest may say, what the operator answers, and how a body becomes a checked value.

The CRDs are generated from these models. ``specs`` has the fields that users write (``schedules`` those of time,
``templates`` those of a job, ``scheduled_jobs`` those of the kind),
``statuses`` those that the operator writes, ``model`` what they are made of, and ``objects`` reads a body.

Invariant: what the API server accepts with the generated schema and rules, ``read`` accepts too, but for the size of
free JSON, which a schema cannot express; a folder of files, which has no schema, gets the same answers from here.
"""

from pg_scheduler_operator.resources.model import Instant, Json, Model, ObjectName, cel, rules, stamp
from pg_scheduler_operator.resources.objects import (
    API_VERSION,
    FINALIZER,
    GROUP,
    NAME_MAX,
    PERIODIC_JOB_LABEL,
    RESUME_REQUESTED_AT,
    VERSION,
    Key,
    Kind,
    Meta,
    Resource,
    Spec,
    TargetScale,
    read,
)
from pg_scheduler_operator.resources.scheduled_jobs import (
    SAME_KEY,
    ConflictPolicy,
    ReadyWhen,
    ScheduledJobSpec,
)
from pg_scheduler_operator.resources.schedules import (
    AmbiguousTimePolicy,
    MissedRunPolicy,
    NonexistentTimePolicy,
    OverlapPolicy,
    ScheduleSpec,
)
from pg_scheduler_operator.resources.specs import (
    Autoscaling,
    PeriodicJobSpec,
    ScalingMode,
    TargetApiVersion,
    TargetKind,
    TargetRef,
    WorkerPoolSpec,
)
from pg_scheduler_operator.resources.statuses import (
    Condition,
    Counts,
    DemandStatus,
    ErrorSummary,
    LastRun,
    PeriodicJobStatus,
    ScheduledJobStatus,
    Status,
    WorkerPoolStatus,
)
from pg_scheduler_operator.resources.templates import (
    ARGUMENTS_MAX_BYTES,
    JobTemplate,
    Priority,
    ResultPolicy,
    Retry,
    TaskSpec,
)

__all__ = [
    "API_VERSION",
    "ARGUMENTS_MAX_BYTES",
    "FINALIZER",
    "GROUP",
    "NAME_MAX",
    "PERIODIC_JOB_LABEL",
    "RESUME_REQUESTED_AT",
    "SAME_KEY",
    "VERSION",
    "AmbiguousTimePolicy",
    "Autoscaling",
    "Condition",
    "ConflictPolicy",
    "Counts",
    "DemandStatus",
    "ErrorSummary",
    "Instant",
    "JobTemplate",
    "Json",
    "Key",
    "Kind",
    "LastRun",
    "Meta",
    "MissedRunPolicy",
    "Model",
    "NonexistentTimePolicy",
    "ObjectName",
    "OverlapPolicy",
    "PeriodicJobSpec",
    "PeriodicJobStatus",
    "Priority",
    "ReadyWhen",
    "Resource",
    "ResultPolicy",
    "Retry",
    "ScalingMode",
    "ScheduleSpec",
    "ScheduledJobSpec",
    "ScheduledJobStatus",
    "Spec",
    "Status",
    "TargetApiVersion",
    "TargetKind",
    "TargetRef",
    "TargetScale",
    "TaskSpec",
    "WorkerPoolSpec",
    "WorkerPoolStatus",
    "cel",
    "read",
    "rules",
    "stamp",
]
