"""What is known when somebody asks why an object does not run, and the form of an answer.

Invariant: pure; the picture holds what the API server told, and nothing is looked up later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pg_scheduler_operator.plugin.facts import of_kind, reference_to, spec_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pg_scheduler_operator.plugin.facts import Body
    from pg_scheduler_operator.plugin.leader import Leader


class Cause(StrEnum):
    """What stands in the way; or, of the last three, that nothing does."""

    REFUSED = "Refused"
    OPERATOR_AWAY = "OperatorAway"
    DATABASE_UNREACHABLE = "DatabaseUnreachable"
    PERIODIC_JOB_MISSING = "PeriodicJobMissing"
    CANCEL_WANTED = "CancelWanted"
    SUSPENDED = "Suspended"
    HALTED = "HaltedAfterFailures"
    EXHAUSTED = "Exhausted"
    NOT_DUE = "NotDue"
    RETRY_WAITS = "RetryWaits"
    RUN_GOES_ON = "RunGoesOn"
    KEY_FULL = "KeyFull"
    QUEUE_PAUSED = "QueuePaused"
    TASK_NOT_ALLOWED = "TaskNotAllowed"
    TASK_UNKNOWN = "TaskUnknown"
    NO_WORKERS = "NoWorkers"
    POOL_AT_MAXIMUM = "PoolAtMaximum"
    SCALING_HELD = "ScalingHeld"
    DEGRADED = "Degraded"
    ENDED = "Ended"
    RUNNING = "Running"
    NOTHING = "Nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One cause, in a sentence, and what to do about it."""

    cause: Cause
    what: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All that is known when somebody asks.

    Attributes:
        body: the object that is asked about.
        objects: those of our kinds in its namespace.
        events: those about the object.
        leaders: None where Leases may not be read.
    """

    body: Body
    objects: Sequence[Body]
    events: Sequence[Body]
    leaders: Sequence[Leader] | None
    now: datetime

    @property
    def short(self) -> str:
        """The short name of the object's kind."""
        return reference_to(self.body).short

    @property
    def name(self) -> str:
        """How a sentence calls the object."""
        return str(reference_to(self.body))

    @property
    def lost_leader(self) -> Leader | None:
        """The operator that has led; None where one leads, and where no Lease tells."""
        known = [each for each in self.leaders or () if each.renewed_at is not None]
        return None if any(each.is_alive for each in known) else next(iter(known), None)

    @property
    def work(self) -> Body:
        """The object whose template it runs: itself, or the PeriodicJob that it names; empty when that is missing."""
        reference = spec_of(self.body).get("periodicJobRef")
        if reference is None:
            return self.body
        named = (each for each in of_kind(self.objects, "pjob") if each["metadata"]["name"] == reference.get("name"))
        return next(named, {})

    @property
    def pools(self) -> list[Body]:
        """Those of its namespace. Which queues their workers serve no object tells."""
        return of_kind(self.objects, "wpool")
