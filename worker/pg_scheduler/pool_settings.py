"""What a WorkerPool says of queues and tasks, for the whole fleet of its namespace.

Invariant: a value that exists can be stored as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pg_scheduler.errors import InvalidArgument

WEIGHT_MAX = 1000
CONCURRENCY_MAX = 100_000
RATE_LIMIT_MAX = 1_000_000
RATE_SECONDS_MAX = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """At most ``limit`` jobs start in any ``seconds``; a job that is tried again starts again."""

    limit: int
    seconds: int

    def __post_init__(self) -> None:
        _require_within("limit", self.limit, RATE_LIMIT_MAX)
        _require_within("seconds", self.seconds, RATE_SECONDS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What holds for a queue.

    Attributes:
        weight: its share of the starts of each worker, while all of that worker's queues have due jobs.
        concurrency: how many of its jobs run at a time, over all workers; None without a limit.
        rate: how many of them start in a time, over all workers; None without a limit.
        paused: whether nothing of it is claimed; without, people and the library may still pause it.
    """

    weight: int = 1
    concurrency: int | None = None
    rate: RateLimit | None = None
    paused: bool = False

    def __post_init__(self) -> None:
        _require_within("weight", self.weight, WEIGHT_MAX)
        if self.concurrency is not None:
            _require_within("concurrency", self.concurrency, CONCURRENCY_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """What one pool says.

    Attributes:
        queues: settings by queue.
        allowed_tasks: globs of the tasks that the workers of this pool run; None means all.
    """

    queues: Mapping[str, QueueSettings] = field(default_factory=dict)
    allowed_tasks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """What of it stands in the database.

    Attributes:
        settings: what is stored for this pool; None while nothing is.
        conflicts: queues that it wants and that an older pool has set, with that pool's name.
    """

    settings: PoolSettings | None
    conflicts: Mapping[str, str]


def _require_within(name: str, value: int, high: int) -> None:
    if not 1 <= value <= high:
        raise InvalidArgument(f"{name} is {value}", fix=f"give a whole number from 1 to {high}")
