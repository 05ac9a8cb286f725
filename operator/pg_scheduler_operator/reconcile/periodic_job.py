"""A PeriodicJob and its schedule.

Invariants: a spec that cannot be used leaves the last good schedule running; the object never makes jobs itself, any
living worker does that from the table; it is held before it is told to be ready. Its row comes before either, so that
thousands of rows wait for no request: what goes while it is not held yet is told by the watch, else found by the sweep.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
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
    held,
    hold,
    refused,
    release,
    set_status,
    shown_error,
    shown_state,
    warnings,
)
from pg_scheduler_operator.reconcile.punctuality import on_schedule
from pg_scheduler_operator.resources import (
    DELETION,
    PERIODIC_JOB_LABEL,
    RESUME_REQUESTED_AT,
    Counts,
    LastRun,
    PeriodicJobStatus,
)
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

    from pg_scheduler.control import JobState, ScheduleCounts, ScheduleState
    from pg_scheduler.recurrence import Rule
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.resources import Meta, PeriodicJobSpec, Resource

NEXT_TIMES: Final = 5
_KEPT: Final = {"lastRun", "counts"}
"""What was told stays where there is nothing newer to tell: the row that told it has been cleaned up."""


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
        return [_deletion(job), *release(job.meta)] if job.meta.is_held or row is not None else []
    desired = _desired(job)
    if isinstance(desired, Refusal):
        refusal = desired
    elif refusal is None and (row is None or _is_behind(row, desired)):
        return [UpsertSchedule(key=job.meta.key, desired=desired)]
    elif row is not None and _resumes(job.meta, row):
        return [ResumeSchedule(source=job.meta.source)]
    task = None if isinstance(job.spec, InvalidSpec) else job.spec.job_template.spec
    holding = hold(job.meta) if row is not None else []
    if holding:
        job = replace(job, meta=held(job.meta))
    return [
        *holding,
        *warnings(job, refusal, task, task_unknown=task_unknown),
        *_told_of_suspension(job, row),
        *_told_of_schedule(job, row),
        *set_status(job, _status(job, row, refusal, now), keeps=_KEPT),
    ]


def _deletion(job: Resource[PeriodicJobSpec]) -> DeleteSchedule:
    said = None if isinstance(job.spec, InvalidSpec) else DELETION[job.spec.deletion_policy]
    return DeleteSchedule(source=job.meta.source, deletion=said)


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
        history=spec.history,
        deletion=DELETION[spec.deletion_policy],
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
    return of.rule, of.bounds, of.policy, of.history, of.deletion, of.suspended, of.suspend_reason


def _status(
    job: Resource[PeriodicJobSpec], row: ScheduleState | None, refusal: Refusal | None, now: datetime
) -> PeriodicJobStatus:
    generation = job.meta.generation
    facts = [*readiness(refusal), _suspended(row), on_schedule(row), _last_run_succeeded(job, row), _exhausted(row)]
    told = conditions(facts, live=job.status, generation=generation, now=now)
    if row is None:
        return PeriodicJobStatus(observed_generation=generation, conditions=told, schedule=_asked(job))
    return PeriodicJobStatus(
        observed_generation=generation,
        conditions=told,
        schedule=recurrence.shown(row.rule)[:512],
        last_schedule_time=_latest(job.status.get("lastScheduleTime"), row.last_tick_at),
        last_successful_time=_latest(job.status.get("lastSuccessfulTime"), *_ends(row, JobStatus.COMPLETED)),
        last_failure_time=_latest(job.status.get("lastFailureTime"), *_ends(row, JobStatus.FAILED)),
        next_schedule_times=tuple(_local(tick, row.rule) for tick in islice(_next_ticks(row), NEXT_TIMES)),
        last_run=None if row.last_job is None else _last_run(row.last_job),
        counts=None if row.counts is None else _counts(row.ticks, row.counts),
        time_zone_data_version=row.time_zone_data,
    )


def _latest(told: str | None, *instants: datetime | None) -> datetime | None:
    """What was told stays, even when the row that told it has been cleaned up."""
    before = None if told is None else datetime.fromisoformat(told)
    return max((instant.replace(microsecond=0) for instant in (before, *instants) if instant is not None), default=None)


def _ends(row: ScheduleState, end: JobStatus) -> tuple[datetime | None, ...]:
    """When runs have ended like this: the newest that has ended, and the newest that was counted."""
    newest = row.last_end_at if row.last_end is end else None
    if row.counts is None:
        return (newest,)
    return newest, row.counts.succeeded_at if end is JobStatus.COMPLETED else row.counts.failed_at


def _counts(planned: int, counts: ScheduleCounts) -> Counts:
    return Counts(
        planned=planned,
        ran=counts.ran,
        skipped=counts.skipped,
        missed=counts.missed,
        coalesced=counts.coalesced,
        failed=counts.failed,
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
        worker=job.worker_id,
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


def _told_of_schedule(job: Resource[PeriodicJobSpec], row: ScheduleState | None) -> list[Action]:
    """Each time that it falls behind, and not again while it stays behind for the same reason."""
    fact = on_schedule(row)
    if fact.holds is not False or fact.reason == live_condition(job.status, fact.type).get("reason"):
        return []
    notice = Notice(about=job.meta, type="Warning", reason=fact.reason, note=fact.message, once=fact.message)
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
