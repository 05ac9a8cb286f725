"""Jobs and schedules as rows of PostgreSQL, run by async workers."""

from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.context import Cancel, Fail, JobContext, Snooze
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.job_spec import JobSpec
from pg_scheduler.job_status import JobStatus
from pg_scheduler.listing import JobFilter, JobInfo, QueueInfo, ScheduleInfo, ScheduleLedger
from pg_scheduler.payload_codec import PayloadCodec
from pg_scheduler.periodic import periodic
from pg_scheduler.polling import PollingConfig
from pg_scheduler.retry_policy import RetryPolicy
from pg_scheduler.scheduler import Scheduler
from pg_scheduler.tasks import task
from pg_scheduler.unique import Unique
from pg_scheduler.vacuum import VacuumConfig, VacuumPolicy, VacuumTrigger

__version__ = "0.5.1"

__all__ = [
    "Cancel",
    "ConflictResolution",
    "Fail",
    "JobContext",
    "JobFilter",
    "JobInfo",
    "JobPriority",
    "JobSpec",
    "JobStatus",
    "PayloadCodec",
    "PollingConfig",
    "QueueInfo",
    "RetryPolicy",
    "ScheduleInfo",
    "ScheduleLedger",
    "Scheduler",
    "Snooze",
    "Unique",
    "VacuumConfig",
    "VacuumPolicy",
    "VacuumTrigger",
    "periodic",
    "task",
]
