"""What is read of a pool in one turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pg_scheduler.demand import PoolRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from pg_scheduler.demand import Demand
    from pg_scheduler.pool_settings import PoolState
    from pg_scheduler_operator.resources import Pod, TargetScale


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """Another pool of the namespace.

    Attributes:
        queues: those that its workers serve, now or before.
        capacity: its slots when it is as great as it may be: by these, pools share what they are both asked for.
    """

    name: str
    uid: str
    created_at: datetime
    target: str
    queues: Collection[str]
    capacity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Everything that a plan is made from.

    Attributes:
        target: None where there is no such object.
        demand: None where the database does not answer.
        settings: what stands of what the pool says of queues and tasks; None where nobody knows.
        autoscaler: a HorizontalPodAutoscaler that scales the target itself.
        now: by the operator's clock; what is compared with pods is.
    """

    target: TargetScale | None
    now: datetime
    pods: Sequence[Pod] = ()
    demand: Demand | None = None
    record: PoolRecord = field(default_factory=PoolRecord)
    settings: PoolState | None = None
    siblings: Sequence[Sibling] = ()
    autoscaler: str | None = None
