"""What the world is told: reasons, conditions, and events.

Invariants: a condition's ``lastTransitionTime`` moves exactly when its ``status`` does; what others have put into a
status stays; nothing is written that already stands there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal

from pg_scheduler_operator.resources import Condition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pg_scheduler.errors import PgSchedulerError
    from pg_scheduler_operator.resources import Meta, Status

MESSAGE_MAX: Final = 1024


class Reason(StrEnum):
    """Every reason of a condition or an event."""

    ACCEPTED = "Accepted"
    ALREADY_FINISHED = "AlreadyFinished"
    ALREADY_STARTED = "AlreadyStarted"
    ARGUMENTS_INEXACT = "ArgumentsInexact"
    CANCELLED = "Cancelled"
    COMPLETE = "Complete"
    CRDS_OUTDATED = "CRDsOutdated"
    DATABASE_ANSWERS = "DatabaseAnswers"
    DATABASE_UNREACHABLE = "DatabaseUnreachable"
    DEMAND_UNKNOWN = "DemandUnknown"
    END_TIME_PASSED = "EndTimePassed"
    EXPIRED = "Expired"
    FAILED = "Failed"
    FOREIGN_AUTOSCALER = "ForeignAutoscaler"
    FOREIGN_DELETION_COST = "ForeignDeletionCost"
    GRACE_TOO_SHORT = "GraceTooShort"
    HEALTHY = "Healthy"
    INVALID_SCHEDULE = "InvalidSchedule"
    INVALID_SPEC = "InvalidSpec"
    KEY_CONFLICT = "KeyConflict"
    MAX_RUNS_REACHED = "MaxRunsReached"
    NO_RUN_YET = "NoRunYet"
    NO_TICK_YET = "NoTickYet"
    NO_WORKER = "NoWorker"
    NOT_EXHAUSTED = "NotExhausted"
    NOT_FINISHED = "NotFinished"
    NOT_STARTED = "NotStarted"
    ON_TIME = "OnTime"
    OWNED_BY_ANOTHER = "OwnedByAnother"
    PERIODIC_JOB_INVALID = "PeriodicJobInvalid"
    PERIODIC_JOB_NOT_FOUND = "PeriodicJobNotFound"
    PODS_CHANGING = "PodsChanging"
    PODS_UNKNOWN = "PodsUnknown"
    QUEUE_CONFLICT = "QueueConflict"
    REPLICAS_CONTESTED = "ReplicasContested"
    REPLICAS_IGNORED = "ReplicasIgnored"
    ROW_CLEANUP_DEFERRED = "RowCleanupDeferred"
    SCALED_DOWN = "ScaledDown"
    SCALED_UP = "ScaledUp"
    SCALING = "Scaling"
    SCALING_OFF = "ScalingOff"
    SCHEMA_CURRENT = "SchemaCurrent"
    SCHEMA_OUTDATED = "SchemaOutdated"
    SPEC = "Spec"
    STARTED = "Started"
    STARTED_LATE = "StartedLate"
    SUSPENDED = "Suspended"
    SUSPENDED_AFTER_FAILURES = "SuspendedAfterFailures"
    SWEEP_HELD = "SweepHeld"
    TARGET_IN_USE = "TargetInUse"
    TARGET_NOT_FOUND = "TargetNotFound"
    TENANT_LIMIT = "TenantLimit"
    TICK_MISSED = "TickMissed"
    TICK_OVERDUE = "TickOverdue"
    UNKNOWN_TASK = "UnknownTask"
    WRONG_VICTIM = "WrongVictim"


@dataclass(frozen=True, slots=True)
class Fact:
    """A condition to be: what holds (None: unknown) and why."""

    type: str
    holds: bool | None
    reason: Reason
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a spec was not taken over; said in Ready and Stalled.

    Attributes:
        heals: whether it may yet be taken over as it is, so that nothing is stalled.
    """

    reason: Reason
    message: str
    heals: bool = False

    @classmethod
    def of(cls, error: PgSchedulerError, reason: Reason) -> Refusal:
        """The refusal that an error means; errors of this project hold no arguments."""
        return cls(reason=reason, message=str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One Event about an object.

    Attributes:
        once: what makes it another event of the same reason; the same one is never told twice.
    """

    about: Meta
    type: Literal["Normal", "Warning"]
    reason: Reason
    note: str
    once: str

    @property
    def name(self) -> str:
        """A name that only this event has, so that telling it again is refused as existing."""
        digest = sha256(f"{self.about.uid}/{self.reason}/{self.once}".encode()).hexdigest()
        return f"{self.about.key.name}.{digest[:16]}"


def readiness(refusal: Refusal | None) -> tuple[Fact, Fact]:
    """Ready and Stalled: a spec that was refused is stalled, unless it may heal by waiting."""
    if refusal is None:
        return Fact("Ready", True, Reason.ACCEPTED), Fact("Stalled", False, Reason.ACCEPTED)
    return (
        Fact("Ready", False, refusal.reason, refusal.message),
        Fact("Stalled", not refusal.heals, refusal.reason, refusal.message),
    )


def conditions(
    facts: Iterable[Fact], *, live: Mapping[str, Any], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The facts as conditions; a time stays where the status has not changed."""
    return tuple(_condition(fact, live_condition(live, fact.type), generation, now) for fact in facts)


def _condition(fact: Fact, before: Mapping[str, Any], generation: int, now: datetime) -> Condition:
    status = _STATUS[fact.holds]
    is_same = before.get("status") == status
    return Condition(
        type=fact.type,
        status=status,
        reason=fact.reason.value,
        message=fact.message[:MESSAGE_MAX],
        observed_generation=generation,
        last_transition_time=datetime.fromisoformat(before["lastTransitionTime"]) if is_same else now,
    )


_STATUS: Final = {True: "True", False: "False", None: "Unknown"}


def live_condition(live: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """One condition of a status as it stands; empty when it is not there."""
    return next((condition for condition in live.get("conditions", ()) if condition["type"] == name), {})


def live_fact(live: Mapping[str, Any], name: str, otherwise: Fact) -> Fact:
    """A condition as it stands, to be said again."""
    before = live_condition(live, name)
    if before.get("reason") not in set(Reason):
        return otherwise
    holds = {status: holds for holds, status in _STATUS.items()}[before["status"]]
    return Fact(name, holds, Reason(before["reason"]), before["message"])


def merged(live: Mapping[str, Any], wanted: Status, *, keeps: Collection[str] = ()) -> dict[str, Any]:
    """The status to be: ours as wanted, what others wrote as it stands, and so what it ``keeps`` unless wanted."""
    ours = {field.alias or name for name, field in type(wanted).model_fields.items()} - set(keeps)
    said = wanted.model_dump(mode="json", by_alias=True, exclude_none=True)
    types = {condition["type"] for condition in said["conditions"]}
    foreign = [condition for condition in live.get("conditions", ()) if condition["type"] not in types]
    said["conditions"] = [*said["conditions"], *foreign]
    return {name: value for name, value in live.items() if name not in ours} | _without_empty(said)


def _without_empty(status: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if value != []}


def is_urgent(live: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Whether somebody may wait for this: a generation acted on, or a condition that changed its status."""
    return live.get("observedGeneration") != desired.get("observedGeneration") or _verdicts(live) != _verdicts(desired)


def _verdicts(status: Mapping[str, Any]) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in status.get("conditions", ())}


def patch(live: Mapping[str, Any], desired: Mapping[str, Any]) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
    """The write from one to the other: a merge patch where there was no status, else a JSON patch.

    The JSON patch tests that the conditions still are what was read, since it replaces the whole list.
    """
    if not live:
        return {"status": dict(desired)}
    steps: list[dict[str, Any]] = []
    if "conditions" in live and live["conditions"] != desired.get("conditions"):
        steps.append({"op": "test", "path": "/status/conditions", "value": live["conditions"]})
    for name in sorted(live.keys() | desired.keys()):
        if name not in desired:
            steps.append({"op": "remove", "path": f"/status/{name}"})
        elif live.get(name) != desired[name]:
            steps.append({"op": "add", "path": f"/status/{name}", "value": desired[name]})
    return steps
