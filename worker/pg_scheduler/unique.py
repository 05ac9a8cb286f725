"""What makes two submissions the same, so that the second one makes no second job."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from pg_scheduler.errors import InvalidArgument

PARTS = ("task", "args", "queue")
WITHIN_MAX = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """A submission that equals an earlier one of the tenant makes no job; it returns the id of the earlier one's.

    Attributes:
        by: what has to be equal: one or more of ``task``, ``args`` (with the keyword arguments, as they were given) and
            ``queue``.
        within: how long the earlier submission counts, up to 366 days and whatever became of its job; None as long as
            its job has not ended.

    Raises:
        InvalidArgument: another part, none, or a time that is none.
    """

    by: Collection[str] = ("task", "args")
    within: timedelta | None = None

    def __post_init__(self) -> None:
        if isinstance(self.by, str) or not self.by or not set(self.by) <= set(PARTS):
            raise InvalidArgument(
                f"unique: by is {str(self.by)[:40]!r}", fix='give one or more of "task", "args" and "queue" in a tuple'
            )
        within: object = self.within
        if within is not None and not (isinstance(within, timedelta) and timedelta() < within <= WITHIN_MAX):
            raise InvalidArgument(
                f"unique: within is {str(within)[:40]!r}",
                fix="give a timedelta of up to 366 days, or None for as long as the job is open",
            )
