"""What a WorkerPool says of queues and tasks, for all workers of its namespace.

Invariant: what can be read here can be stored: the bounds are those of the library.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from pg_scheduler.pool_settings import (
    CONCURRENCY_MAX,
    RATE_LIMIT_MAX,
    RATE_SECONDS_MAX,
    WEIGHT_MAX,
    PoolSettings,
    QueueSettings,
)
from pg_scheduler.pool_settings import RateLimit as Rate
from pg_scheduler_operator.resources.model import Model

QUEUES_MAX: Final = 100
GLOBS_MAX: Final = 100


class RateLimit(Model):
    """How many jobs of a queue may start in a time."""

    limit: int = Field(ge=1, le=RATE_LIMIT_MAX, description="So many starts at most, retries among them.")
    per_seconds: int = Field(
        ge=1,
        le=RATE_SECONDS_MAX,
        description="In any time of this length, by the database's clock.",
    )


class PoolQueue(Model):
    """What holds for one queue."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$", max_length=63, description="Name of the queue."
    )
    weight: int = Field(
        default=1,
        ge=1,
        le=WEIGHT_MAX,
        description="Its share of what each worker starts, while all queues of that worker have due jobs. A queue that"
        " no pool names has 1.",
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        le=CONCURRENCY_MAX,
        description="So many of its jobs run at a time, over all workers of the namespace. Unset means no limit.",
    )
    rate_limit: RateLimit | None = Field(
        default=None, description="How fast its jobs start, over all workers of the namespace. Unset means no limit."
    )
    paused: bool = Field(
        default=False,
        description="Nothing of it is claimed, and nobody else can resume it. Unset or false leaves pausing to people"
        " and programs.",
    )

    @property
    def settings(self) -> QueueSettings:
        """The same in the library's words."""
        rate = self.rate_limit
        return QueueSettings(
            weight=self.weight,
            concurrency=self.concurrency,
            rate=None if rate is None else Rate(limit=rate.limit, seconds=rate.per_seconds),
            paused=self.paused,
        )


def _once(queues: tuple[PoolQueue, ...]) -> tuple[PoolQueue, ...]:
    names = [queue.name for queue in queues]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the queue {twice} stands twice")
    return queues


_AS_MAP: Final[dict[str, Any]] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}

PoolQueues = Annotated[
    tuple[PoolQueue, ...], Field(max_length=QUEUES_MAX, strict=False, json_schema_extra=_AS_MAP), AfterValidator(_once)
]
TaskGlob = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9_.:*?-]+$")]


def pool_settings(queues: tuple[PoolQueue, ...], allowed_tasks: tuple[str, ...] | None) -> PoolSettings:
    """Both in the library's words."""
    return PoolSettings(queues={queue.name: queue.settings for queue in queues}, allowed_tasks=allowed_tasks)
