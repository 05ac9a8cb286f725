"""What a tenant may ask for, as whoever runs the operator says it.

Invariant: a value that exists can be stored as it is.
"""

from dataclasses import dataclass

from pg_scheduler.errors import InvalidArgument
from pg_scheduler.pool_settings import RateLimit

EVERY_OTHER_TENANT = "*"
"""The limits under this name hold for each tenant that has none under its own."""
PENDING_MAX = 10_000_000
MIN_INTERVAL_SECONDS_MAX = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """What holds for one tenant; None is no limit.

    Attributes:
        max_pending: how many jobs may wait to run when one more is submitted; suspended ones are not counted.
        max_rate: how many jobs may be submitted in a time; ticks of schedules and retries are none of them.
        min_interval_seconds: from tick to tick of a schedule it is at least so long.
    """

    max_pending: int | None = None
    max_rate: RateLimit | None = None
    min_interval_seconds: int | None = None

    def __post_init__(self) -> None:
        _require_within("max_pending", self.max_pending, PENDING_MAX)
        _require_within("min_interval_seconds", self.min_interval_seconds, MIN_INTERVAL_SECONDS_MAX)


def _require_within(name: str, value: int | None, high: int) -> None:
    if value is not None and not 1 <= value <= high:
        raise InvalidArgument(f"{name} is {value}", fix=f"give a whole number from 1 to {high}, or None")
