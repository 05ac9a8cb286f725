"""A PeriodicJob and its schedule.

Invariants: a spec that cannot be used leaves the last good schedule running; the object never makes jobs itself, any
living worker does that from the table.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from pg_scheduler import recurrence
from pg_scheduler.control import DesiredSchedule
from pg_scheduler.errors import InvalidSchedule
from pg_scheduler.job_status import JobStatus
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.actions import DeleteSchedule, EmitEvent, ResumeSchedule, UpsertSchedule
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
from pg_scheduler_operator.resources import PERIODIC_JOB_LABEL, RESUME_REQUESTED_AT, Counts, LastRun, PeriodicJobStatus
from pg_scheduler_operator.status import (
    Fact,
    Notice,
    Reason,
    Refusal,
    conditions,
    live_condition,
    live_fact,
    readiness,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pg_scheduler.control import JobState, ScheduleState
    from pg_scheduler.recurrence import Rule
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.resources import Meta, PeriodicJobSpec, Resource

NEXT_TIMES: Final = 5


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
    elif refusal is None and (row is None or _is_behind(row, desired)):
        return [*hold(job.meta), UpsertSchedule(desired=desired)]
    elif row is not None and _resumes(job.meta, row):
        return [ResumeSchedule(source=job.meta.source)]
    task = None if isinstance(job.spec, InvalidSpec) else job.spec.job_template.spec
    return [
        *(hold(job.meta) if row is not None else []),
        *warnings(job, refusal, task, task_unknown=task_unknown),
        *_told_of_suspension(job, row),
        *set_status(job, _status(job, row, refusal, now)),
    ]


def _desired(job: Resource[PeriodicJobSpec]) -> DesiredSchedule | Refusal:
    spec = job.spec
    if isinstance(spec, InvalidSpec):
        return refused(job) or Refusal.of(spec, Reason.INVALID_SPEC)
    try:
        rule, bounds = spec.schedule.rule, spec.bounds
    except InvalidSchedule as error:
        return Refusal(reason=Reason.INVALID_SCHEDULE, message=f"spec.schedule.{error.field}: {error}")
    return DesiredSchedule(
        source=job.meta.source,
        rule=rule,
        bounds=bounds,
        policy=spec.policy,
        template=spec.job_template.made(**{PERIODIC_JOB_LABEL: job.meta.key.name}),
        suspended=spec.suspend,
        suspend_reason=spec.suspend_reason if spec.suspend else "",
    )


def _is_behind(row: ScheduleState, desired: DesiredSchedule) -> bool:
    """Whether the row is to be written; one of a higher generation was, from a newer object than ours.

    One of this very generation may differ: an older release knew fewer fields, and other defaults.
    """
    has, wants = row.source.generation, desired.source.generation
    return has < wants or (has == wants and _wish(row) != _wish(desired))


def _resumes(meta: Meta, row: ScheduleState) -> bool:
    """Whether somebody has asked for it after its runs had failed."""
    if row.halted_at is None or row.suspended or meta.resume_requested_at is None:
        return False
    return meta.resume_requested_at > row.halted_at


def _wish(of: DesiredSchedule | ScheduleState) -> tuple[object, ...]:
    return of.rule, of.bounds, of.policy, of.suspended, of.suspend_reason


def _status(
    job: Resource[PeriodicJobSpec], row: ScheduleState | None, refusal: Refusal | None, now: datetime
) -> PeriodicJobStatus:
    generation = job.meta.generation
    facts = [*readiness(refusal), _suspended(row), _exhausted(row), _last_run_succeeded(job, row)]
    told = conditions(facts, live=job.status, generation=generation, now=now)
    if row is None:
        return PeriodicJobStatus(observed_generation=generation, conditions=told, schedule=_asked(job))
    return PeriodicJobStatus(
        observed_generation=generation,
        conditions=told,
        schedule=recurrence.shown(row.rule)[:512],
        last_schedule_time=row.last_tick_at or job.status.get("lastScheduleTime"),  # its job may have been cleaned up
        next_schedule_times=tuple(_local(tick, row.rule) for tick in islice(_next_ticks(row), NEXT_TIMES)),
        last_run=None if row.last_job is None else _last_run(row.last_job),
        counts=Counts(planned=row.ticks),
    )


def _asked(job: Resource[PeriodicJobSpec]) -> str | None:
    """What was asked for, for the column, where no schedule runs yet."""
    if isinstance(job.spec, InvalidSpec):
        return None
    return ", ".join(job.spec.schedule.cron or ())[:512] or None


def _next_ticks(row: ScheduleState) -> Iterator[datetime]:
    tick, made = row.next_tick_at, row.runs
    while tick is not None:
        yield tick
        made += 1
        tick = recurrence.next_within(row.rule, row.bounds, tick, anchor=row.anchor_at, made=made)


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
    if row is not None and row.suspended:
        return Fact("Suspended", True, Reason.SUSPENDED, row.suspend_reason)
    if row is not None and row.halted_at is not None:
        how = f"any change of the spec resumes it, or the annotation {RESUME_REQUESTED_AT} with the time of now"
        return Fact("Suspended", True, Reason.SUSPENDED_AFTER_FAILURES, f"{row.halted_reason}; {how}")
    return Fact("Suspended", False, Reason.SPEC)


def _told_of_suspension(job: Resource[PeriodicJobSpec], row: ScheduleState | None) -> list[Action]:
    """What happened to it is told once, beside the condition that says how it stands."""
    fact = _suspended(row)
    if row is None or not fact.holds or fact.reason == live_condition(job.status, fact.type).get("reason"):
        return []
    notice = Notice(
        about=job.meta,
        type="Normal" if fact.reason is Reason.SUSPENDED else "Warning",
        reason=fact.reason,
        note=fact.message or "suspended by its spec",
        once=f"{job.meta.generation}/{row.halted_at or ''}",
    )
    return [EmitEvent(notice=notice)]


def _exhausted(row: ScheduleState | None) -> Fact:
    name = "Exhausted"
    if row is None or not row.is_exhausted:
        return Fact(name, False, Reason.NOT_EXHAUSTED)
    most = row.bounds.max_runs
    if most is not None and row.runs >= most:
        return Fact(name, True, Reason.MAX_RUNS_REACHED, f"it has made its {most} runs")
    return Fact(name, True, Reason.END_TIME_PASSED, "no tick is left before its end")


def _last_run_succeeded(job: Resource[PeriodicJobSpec], row: ScheduleState | None) -> Fact:
    """The verdict of the newest run that has ended, also when its row has been cleaned up."""
    name = "LastRunSucceeded"
    if row is None or row.last_end is None:
        return live_fact(job.status, name, Fact(name, None, Reason.NO_RUN_YET))
    return Fact(name, row.last_end is JobStatus.COMPLETED, ENDS[row.last_end])
