"""What to do when a job id exists already."""

from enum import Enum


class ConflictResolution(Enum):
    """The wish of a submission whose job id exists already."""

    RAISE = "raise"
    IGNORE = "ignore"
    REPLACE = "replace"
