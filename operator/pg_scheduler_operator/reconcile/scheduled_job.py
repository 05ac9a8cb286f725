"""A ScheduledJob and its row.

Invariants: one object is one row for ever (the id is made of the uid); a row that has started is never changed; an
object that has finished never makes a row again, whatever has become of the old one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pg_scheduler.control import DesiredJob
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.actions import CancelJob, UpsertJob, WithdrawJob
from pg_scheduler_operator.reconcile.common import (
    ENDS,
    already_finished,
    hold,
    refused,
    release,
    set_status,
    shown_error,
    shown_state,
    warnings,
)
from pg_scheduler_operator.reconcile.restored import settle
from pg_scheduler_operator.resources import ScheduledJobStatus
from pg_scheduler_operator.status import Fact, Reason, Refusal, conditions, live_condition, readiness

if TYPE_CHECKING:
    from datetime import datetime

    from pg_scheduler.control import JobState
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.resources import Meta, Resource, ScheduledJobSpec

_STARTED_TOO_EARLY: Final = Refusal(
    reason=Reason.ALREADY_STARTED,
    message="the job had started before this change; make a new ScheduledJob for it",
)


def job_id(uid: str) -> str:
    """The id of the row of an object."""
    return f"sj-{uid}"


def plan(
    job: Resource[ScheduledJobSpec],
    row: JobState | None,
    *,
    now: datetime,
    refusal: Refusal | None = None,
    task_unknown: bool = False,
) -> list[Action]:
    """What is to be done; ``refusal`` is why the last attempt to write this generation's row failed."""
    if job.meta.is_deleting:
        return [*_withdraw(job.meta, row), *release(job.meta)]
    if row is None and _has_finished(job):
        return already_finished(job)
    if settling := settle(job, row):
        return [*settling]
    refusal = refused(job) or refusal
    task = None if isinstance(job.spec, InvalidSpec) else job.spec.template.spec
    if refusal is None and not isinstance(job.spec, InvalidSpec):
        changes = _row_changes(job.meta, job.spec, row)
        if changes:
            return [*hold(job.meta), *changes]
        refusal = _refusal(job.meta, job.spec, row)
    return [
        *(hold(job.meta) if row is not None and not row.status.is_final else []),
        *warnings(job, refusal, task, task_unknown=task_unknown),
        *(already_finished(job) if _ignores(job, row) else []),
        *set_status(job, _status(job, row, refusal, now)),
    ]


def _withdraw(meta: Meta, row: JobState | None) -> list[Action]:
    """A deletion takes a job along that has not started; a running one finishes."""
    if not meta.is_held or row is None or row.status.is_final:
        return []
    return [WithdrawJob(source=meta.source, job_id=row.job_id)]


def _has_finished(job: Resource[ScheduledJobSpec]) -> bool:
    return live_condition(job.status, "Finished").get("status") == "True"


def _row_changes(meta: Meta, spec: ScheduledJobSpec, row: JobState | None) -> list[Action]:
    if row is None:
        return [UpsertJob(desired=_desired(meta, spec))]
    if row.status.is_final:
        return []
    if spec.cancel:
        return [] if row.stopping else [CancelJob(source=meta.source, job_id=row.job_id)]
    return [UpsertJob(desired=_desired(meta, spec))] if _is_behind(meta, row) and row.attempt == 0 else []


def _desired(meta: Meta, spec: ScheduledJobSpec) -> DesiredJob:
    return DesiredJob(
        source=meta.source,
        job_id=job_id(meta.uid),
        template=spec.template.spec.template,
        run_at=spec.run_at,
        suspended=spec.suspend or bool(spec.cancel),  # made with cancel set: nobody may claim it in between
    )


def _is_behind(meta: Meta, row: JobState) -> bool:
    return row.source is not None and row.source.generation < meta.generation


def _refusal(meta: Meta, spec: ScheduledJobSpec, row: JobState | None) -> Refusal | None:
    """Started, and then changed: the row stays as it started, unless the change only asks to stop it."""
    too_late = row is not None and not row.status.is_final and not spec.cancel and _is_behind(meta, row)
    return _STARTED_TOO_EARLY if too_late else None


def _ignores(job: Resource[ScheduledJobSpec], row: JobState | None) -> bool:
    if row is None or isinstance(job.spec, InvalidSpec) or job.spec.cancel:
        return False
    return row.status.is_final and _is_behind(job.meta, row)


def _status(
    job: Resource[ScheduledJobSpec], row: JobState | None, refusal: Refusal | None, now: datetime
) -> ScheduledJobStatus:
    generation = job.meta.generation
    told = conditions([*readiness(refusal), *_facts(row)], live=job.status, generation=generation, now=now)
    if row is None:
        return ScheduledJobStatus(observed_generation=generation, conditions=told)
    return ScheduledJobStatus(
        observed_generation=generation,
        conditions=told,
        job_id=row.job_id,
        state=shown_state(row),
        attempt=row.attempt,
        worker=row.worker_id,
        start_time=job.status.get("startTime") or row.started_at,  # the first start, as of a batch/v1 Job
        completion_time=row.finished_at,
        last_error=shown_error(row),
    )


def _facts(row: JobState | None) -> list[Fact]:
    end = None if row is None else ENDS.get(row.status)
    started = row is not None and row.attempt > 0
    suspended = row is not None and row.suspended and end is None
    return [
        Fact("Suspended", suspended, Reason.SPEC),
        Fact("Started", started, Reason.STARTED if started else Reason.NOT_STARTED),
        Fact("Complete", end is Reason.COMPLETE, end or Reason.NOT_FINISHED),
        Fact("Failed", end in {Reason.FAILED, Reason.EXPIRED}, end or Reason.NOT_FINISHED),
        Fact("Finished", end is not None, end or Reason.NOT_FINISHED),
    ]
