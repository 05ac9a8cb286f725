"""The side of the operator and the command line: rows written by desired, read back, counted.

``desired`` is what they want, ``states`` what they are told, ``control`` how they ask.
"""

from pg_scheduler.control.control import Control
from pg_scheduler.control.desired import KEY_PREFIX, DesiredJob, DesiredSchedule, Source
from pg_scheduler.control.states import (
    ERROR_TEXT_MAX,
    RESULT_BYTES_MAX,
    Changes,
    Cursor,
    JobState,
    ScheduleCounts,
    ScheduleState,
    ScheduleTrace,
)
from pg_scheduler.job_template import JobTemplate

__all__ = [
    "ERROR_TEXT_MAX",
    "KEY_PREFIX",
    "RESULT_BYTES_MAX",
    "Changes",
    "Control",
    "Cursor",
    "DesiredJob",
    "DesiredSchedule",
    "JobState",
    "JobTemplate",
    "ScheduleCounts",
    "ScheduleState",
    "ScheduleTrace",
    "Source",
]
