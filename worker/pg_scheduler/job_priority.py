"""How urgent a job is: four levels, the lower ``db_value`` first."""

from enum import Enum


class JobPriority(Enum):
    """Urgency of a job among the due ones of its queue; it never delays a job that has a free slot."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def db_value(self) -> int:
        """The number stored in ``scheduled_jobs.priority``: 1, 3, 5 or 8, lower first."""
        return _DB_VALUES[self]

    @classmethod
    def from_db_value(cls, value: int) -> "JobPriority":
        """The priority stored as ``value``; NORMAL for a number that no priority has."""
        return _BY_DB_VALUE.get(value, cls.NORMAL)

    def __str__(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return f"<JobPriority.{self.name}: {self.value} (db_value={self.db_value})>"


_DB_VALUES = {JobPriority.CRITICAL: 1, JobPriority.HIGH: 3, JobPriority.NORMAL: 5, JobPriority.LOW: 8}
_BY_DB_VALUE = {number: priority for priority, number in _DB_VALUES.items()}
