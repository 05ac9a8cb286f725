"""Retention: which finished jobs are kept, and for how long."""

from dataclasses import dataclass
from enum import Enum


class VacuumTrigger(Enum):
    """What makes a finished job ready for deletion."""

    IMMEDIATE = "immediate"
    TIME_BASED = "time_based"
    COUNT_BASED = "count_based"
    NEVER = "never"


@dataclass(frozen=True)
class VacuumPolicy:
    """Retention of one final status; make it with ``immediate``, ``after_days``, ``keep_last`` or ``never``.

    Raises:
        ValueError: no VacuumTrigger, or the trigger's own number (days, or rows to keep) is missing, not whole or
            negative.
    """

    trigger: VacuumTrigger
    days: int | None = None
    keep_count: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.trigger, VacuumTrigger):
            raise ValueError(f"VacuumPolicy.trigger is {self.trigger!r}: use VacuumPolicy.after_days(7) or its like")  # noqa: TRY004  the seed's kind
        if self.trigger is VacuumTrigger.TIME_BASED:
            _require_whole("VacuumPolicy.days", self.days)
        if self.trigger is VacuumTrigger.COUNT_BASED:
            _require_whole("VacuumPolicy.keep_count", self.keep_count)

    @classmethod
    def immediate(cls) -> "VacuumPolicy":
        """Delete at the next vacuum."""
        return cls(VacuumTrigger.IMMEDIATE)

    @classmethod
    def after_days(cls, days: int) -> "VacuumPolicy":
        """Delete ``days`` days after the job ended."""
        return cls(VacuumTrigger.TIME_BASED, days=days)

    @classmethod
    def keep_last(cls, count: int) -> "VacuumPolicy":
        """Keep the ``count`` newest rows of each tenant, job name and status."""
        return cls(VacuumTrigger.COUNT_BASED, keep_count=count)

    @classmethod
    def never(cls) -> "VacuumPolicy":
        """Keep for ever."""
        return cls(VacuumTrigger.NEVER)


@dataclass(frozen=True)
class VacuumConfig:
    """Retention by final status; a policy not given gets its default.

    Attributes:
        keys_days: for so many days after a ScheduledJob has ended, neither it nor another one with its
            ``idempotencyKey`` runs again, whether the row of the job is still there or not.

    Raises:
        ValueError: ``interval_minutes`` is not positive, or ``keys_days`` negative or not whole.
    """

    completed: VacuumPolicy | None = None
    failed: VacuumPolicy | None = None
    cancelled: VacuumPolicy | None = None
    interval_minutes: int = 60
    track_metrics: bool = False
    expired: VacuumPolicy | None = None
    keys_days: int = 90

    def __post_init__(self) -> None:
        if not self.interval_minutes > 0:
            raise ValueError(f"VacuumConfig.interval_minutes is {self.interval_minutes!r}: give a positive number")
        _require_whole("VacuumConfig.keys_days", self.keys_days)
        for name, days in {"completed": 1, "failed": 7, "cancelled": 3, "expired": 3}.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, VacuumPolicy.after_days(days))


def _require_whole(field: str, value: int | None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{field} is {value!r}: give a whole number, 0 or more")
