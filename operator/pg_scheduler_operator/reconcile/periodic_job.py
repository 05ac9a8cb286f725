"""A PeriodicJob and its schedule.

Invariants: a spec that cannot be used leaves the last good schedule running; the object never makes jobs itself, any
living worker does that from the table.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pg_scheduler import recurrence
from pg_scheduler.control import DesiredSchedule
from pg_scheduler.errors import InvalidSchedule
from pg_scheduler.job_status import JobStatus
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.actions import DeleteSchedule, UpsertSchedule
from pg_scheduler_operator.reconcile.common import (
    ENDS,
    hold,
    refused,
    release,
    set_status,
    shown_error,
    shown_state,
    warnings,
)
from pg_scheduler_operator.resources import Counts, LastRun, PeriodicJobStatus
from pg_scheduler_operator.status import Fact, Reason, Refusal, conditions, live_fact, readiness

if TYPE_CHECKING:
    from datetime import datetime

    from pg_scheduler.control import JobState, ScheduleState
    from pg_scheduler.recurrence import Rule
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.resources import PeriodicJobSpec, Resource, ScheduleSpec


def plan(
    job: Resource[PeriodicJobSpec],
    row: ScheduleState | None,
    *,
    now: datetime,
    refusal: Refusal | None = None,
    task_unknown: bool = False,
) -> list[Action]:
    """What is to be done; ``refusal`` is why the last attempt to write this generation's row failed."""
    if job.meta.is_deleting:
        return [DeleteSchedule(source=job.meta.source), *release(job.meta)] if job.meta.is_held else []
    desired = _desired(job)
    if isinstance(desired, Refusal):
        refusal = desired
    elif refusal is None and (row is None or row.source.generation < job.meta.generation):
        return [*hold(job.meta), UpsertSchedule(desired=desired)]
    task = None if isinstance(job.spec, InvalidSpec) else job.spec.job_template.spec
    return [
        *(hold(job.meta) if row is not None else []),
        *warnings(job, refusal, task, task_unknown=task_unknown),
        *set_status(job, _status(job, row, refusal, now)),
    ]


def _desired(job: Resource[PeriodicJobSpec]) -> DesiredSchedule | Refusal:
    spec = job.spec
    if isinstance(spec, InvalidSpec):
        return refused(job) or Refusal.of(spec, Reason.INVALID_SPEC)
    try:
        rule = _rule(spec.schedule)
    except InvalidSchedule as error:
        return Refusal(reason=Reason.INVALID_SCHEDULE, message=f"spec.schedule.{error.field}: {error}")
    return DesiredSchedule(
        source=job.meta.source, rule=rule, template=spec.job_template.spec.template, suspended=spec.suspend
    )


def _rule(schedule: ScheduleSpec) -> Rule:
    if schedule.cron is not None:
        return recurrence.cron(schedule.cron, time_zone=schedule.time_zone)
    return recurrence.every(timedelta(seconds=schedule.interval_seconds or 0))


def _status(
    job: Resource[PeriodicJobSpec], row: ScheduleState | None, refusal: Refusal | None, now: datetime
) -> PeriodicJobStatus:
    generation = job.meta.generation
    facts = [*readiness(refusal), _suspended(row), _last_run_succeeded(job, row)]
    told = conditions(facts, live=job.status, generation=generation, now=now)
    if row is None:
        return PeriodicJobStatus(observed_generation=generation, conditions=told, schedule=_asked(job))
    return PeriodicJobStatus(
        observed_generation=generation,
        conditions=told,
        schedule=recurrence.shown(row.rule)[:512],
        last_schedule_time=row.last_tick_at or job.status.get("lastScheduleTime"),  # its job may have been cleaned up
        next_schedule_times=() if row.next_tick_at is None else (_local(row.next_tick_at, row.rule),),
        last_run=None if row.last_job is None else _last_run(row.last_job),
        counts=Counts(planned=row.ticks),
    )


def _asked(job: Resource[PeriodicJobSpec]) -> str | None:
    """What was asked for, for the column, where no schedule runs yet."""
    if isinstance(job.spec, InvalidSpec):
        return None
    return ", ".join(job.spec.schedule.cron or ())[:512] or None


def _local(instant: datetime, rule: Rule) -> str:
    return recurrence.local(rule, instant).isoformat(timespec="seconds")


def _last_run(job: JobState) -> LastRun:
    return LastRun(
        job_id=job.job_id,
        scheduled_time=job.tick_at,
        state=shown_state(job),
        attempt=job.attempt,
        error=shown_error(job),
    )


def _suspended(row: ScheduleState | None) -> Fact:
    return Fact("Suspended", row is not None and row.suspended, Reason.SPEC)


def _last_run_succeeded(job: Resource[PeriodicJobSpec], row: ScheduleState | None) -> Fact:
    """The verdict of the newest run that has ended; while one runs, that of the one before."""
    name, last = "LastRunSucceeded", None if row is None else row.last_job
    end = None if last is None else ENDS.get(last.status)
    if last is None or end is None:
        return live_fact(job.status, name, Fact(name, None, Reason.NO_RUN_YET))
    return Fact(name, last.status is JobStatus.COMPLETED, end)
