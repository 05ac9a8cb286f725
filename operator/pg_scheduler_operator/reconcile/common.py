"""Steps that the plans of all kinds share."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler.control import ERROR_TEXT_MAX
from pg_scheduler.errors import code_of
from pg_scheduler.job_status import JobStatus
from pg_scheduler.printable import printable
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.actions import AddFinalizer, EmitEvent, RemoveFinalizer, SetStatus
from pg_scheduler_operator.resources import FINALIZER, ErrorSummary
from pg_scheduler_operator.status import Notice, Reason, Refusal, is_urgent, merged

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from pg_scheduler.control import JobState
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.resources import Meta, Resource, Spec, Status, TaskSpec

CLEANUP_DEFERRED_AFTER: Final = timedelta(seconds=20)
"""How long a deletion waits for an unreachable database: namespaces must not hang on it."""


def hold(meta: Meta) -> list[Action]:
    """Our finalizer, so that a deletion takes the row along."""
    return [] if meta.is_held else [AddFinalizer(meta=meta)]


def held(meta: Meta) -> Meta:
    """As ``hold`` leaves it, for the writes that follow: those that meet anything else have met another writer's."""
    return replace(meta, finalizers=(*meta.finalizers, FINALIZER))


def release(meta: Meta) -> list[Action]:
    """The end of our part in a deletion."""
    return [RemoveFinalizer(meta=meta)] if meta.is_held else []


def let_go_without_database(meta: Meta, now: datetime) -> list[Action]:
    """A deletion that the database has kept waiting too long; the sweep finishes it later."""
    if meta.deletion_at is None or not meta.is_held or now - meta.deletion_at < CLEANUP_DEFERRED_AFTER:
        return []
    note = "the database does not answer; its rows are cleaned up when it does"
    return [_event(meta, Reason.ROW_CLEANUP_DEFERRED, note), *release(meta)]


def refused(resource: Resource[Spec]) -> Refusal | None:
    """The refusal that a bad spec means."""
    spec = resource.spec
    return Refusal.of(spec, Reason.INVALID_SPEC) if isinstance(spec, InvalidSpec) else None


def set_status(resource: Resource[Spec], wanted: Status, *, keeps: Collection[str] = ()) -> list[Action]:
    """The write of a status, when it says something new; what it ``keeps`` stays where it says nothing of it."""
    desired = merged(resource.status, wanted, keeps=keeps)
    if desired == resource.status:
        return []
    urgent = is_urgent(resource.status, desired)
    return [SetStatus(meta=resource.meta, live=resource.status, desired=desired, urgent=urgent)]


def is_news(resource: Resource[Spec]) -> bool:
    """Whether this generation has not been answered yet."""
    return observed_generation(resource.status) != resource.meta.generation


def observed_generation(live: Mapping[str, Any]) -> int | None:
    """The generation that a status as it stands speaks of."""
    return live.get("observedGeneration")


def warnings(
    resource: Resource[Spec], refusal: Refusal | None, task: TaskSpec | None, *, task_unknown: bool
) -> list[Action]:
    """What is told once for each generation beside the conditions."""
    if not is_news(resource):
        return []
    told: list[Action] = []
    if refusal is not None:
        told.append(_event(resource.meta, refusal.reason, refusal.message))
    if task is not None and task_unknown:
        note = f"no living worker of this namespace has registered the task {task.task}; jobs wait until one does"
        told.append(_event(resource.meta, Reason.UNKNOWN_TASK, note))
    if task is not None and task.is_inexact:
        note = "args or kwargs hold integers beyond 2^53 or keys true or false: YAML or JSON may have changed them"
        told.append(_event(resource.meta, Reason.ARGUMENTS_INEXACT, note))
    return told


def already_finished(resource: Resource[Spec]) -> list[Action]:
    """A change that comes after the end."""
    note = "the job has ended and is not run again by a change; make a new ScheduledJob for that"
    return [_event(resource.meta, Reason.ALREADY_FINISHED, note)] if is_news(resource) else []


def _event(meta: Meta, reason: Reason, note: str) -> EmitEvent:
    return EmitEvent(notice=Notice(about=meta, type="Warning", reason=reason, note=note, once=str(meta.generation)))


def shown_state(row: JobState) -> str:
    """A job's state in one word, for people."""
    if row.status is JobStatus.PENDING and row.suspended:
        return "Suspended"
    return _STATES[row.status]


_STATES: Final = {
    JobStatus.PENDING: "Pending",
    JobStatus.WAITING: "Waiting",
    JobStatus.RUNNING: "Running",
    JobStatus.COMPLETED: "Complete",
    JobStatus.FAILED: "Failed",
    JobStatus.CANCELLED: "Cancelled",
    JobStatus.EXPIRED: "Expired",
}


def shown_error(row: JobState) -> ErrorSummary | None:
    """A job's last failure, with its text where the row tells it."""
    if row.error_type is None:
        return None
    text = None if row.error_text is None else printable(row.error_text)[:ERROR_TEXT_MAX]
    return ErrorSummary(type=row.error_type[:256], code=code_of(row.error_type), time=row.error_at, text=text)


ENDS: Final = {
    JobStatus.COMPLETED: Reason.COMPLETE,
    JobStatus.FAILED: Reason.FAILED,
    JobStatus.CANCELLED: Reason.CANCELLED,
    JobStatus.EXPIRED: Reason.EXPIRED,
}
