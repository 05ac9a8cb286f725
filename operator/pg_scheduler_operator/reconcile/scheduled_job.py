"""A ScheduledJob and its row.

Invariants: one object is one row for ever (the id is made of the uid, or of the idempotency key); what a started row
runs is never changed; an object that has finished never makes a row again, whatever has become of the old one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from pg_scheduler.control import KEY_PREFIX, DesiredJob
from pg_scheduler.job_status import JobStatus
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.actions import (
    AdoptJob,
    CancelJob,
    DeleteObject,
    ExpireJob,
    LookAgain,
    ReleaseJob,
    UpsertJob,
)
from pg_scheduler_operator.reconcile.common import already_finished, hold, release, set_status, warnings
from pg_scheduler_operator.reconcile.restored import settle
from pg_scheduler_operator.reconcile.scheduled_job_status import status_of
from pg_scheduler_operator.resources import PERIODIC_JOB_LABEL, SAME_KEY, ConflictPolicy, JobTemplate
from pg_scheduler_operator.status import Reason, Refusal, live_condition

if TYPE_CHECKING:
    from pg_scheduler.control import JobState
    from pg_scheduler_operator.reconcile.actions import Action
    from pg_scheduler_operator.resources import Meta, PeriodicJobSpec, Resource, ScheduledJobSpec

FOLLOW_SECONDS: Final = 5.0
"""How often to look at what tells nobody here of its changes: another object's job, a PeriodicJob that is not there."""
LIMIT_SECONDS: Final = 30.0
"""Between tries to make a job that a tenant's limit refuses: there may be thousands of them."""
SERVED_SECONDS: Final = 60.0
"""How often to look at a job that is past its deadline and waits behind others of a queue that is served."""

_STARTED_TOO_EARLY: Final = Refusal(
    reason=Reason.ALREADY_STARTED,
    message="the job had started before this change; make a new ScheduledJob for it",
)
_OTHER_KEY: Final = Refusal(reason=Reason.INVALID_SPEC, message=SAME_KEY["message"])
_KEY_TAKEN: Final = Refusal(
    reason=Reason.KEY_CONFLICT,
    message="the job of this idempotencyKey was made from another template, runAt or startingDeadlineSeconds; take"
    " another key, or let conflictPolicy Ignore show that job",
)


def job_id(job: Resource[ScheduledJobSpec]) -> str:
    """The id of the row of an object: the one that it has once it has one."""
    known, namespace = job.status.get("jobID"), job.meta.key.namespace
    if isinstance(known, str) and known.startswith(f"{KEY_PREFIX}{namespace}/"):  # never into another namespace
        return known
    return _wanted_id(job)


def template_of(job: Resource[ScheduledJobSpec], referred: Resource[PeriodicJobSpec] | None) -> JobTemplate | Refusal:
    """What the job is made from; ``referred`` is the PeriodicJob that it names, if there is one."""
    spec = job.spec
    if isinstance(spec, InvalidSpec):
        return Refusal.of(spec, Reason.INVALID_SPEC)
    if spec.template is not None:
        return spec.template
    name = spec.periodic_job_ref.name if spec.periodic_job_ref is not None else ""
    if referred is None:
        message = f"there is no PeriodicJob {name} in this namespace; the job is made when there is one"
        return Refusal(reason=Reason.PERIODIC_JOB_NOT_FOUND, message=message, heals=True)
    if isinstance(referred.spec, InvalidSpec):
        message = f"the spec of PeriodicJob {name} cannot be used; the job is made when it can"
        return Refusal(reason=Reason.PERIODIC_JOB_INVALID, message=message, heals=True)
    return referred.spec.job_template


def plan(
    job: Resource[ScheduledJobSpec],
    row: JobState | None,
    *,
    now: datetime,
    referred: Resource[PeriodicJobSpec] | None = None,
    refusal: Refusal | None = None,
    task_unknown: bool = False,
) -> list[Action]:
    """What is to be done; ``refusal`` is why the last attempt to write this generation's row failed."""
    if job.meta.is_deleting:
        return [*_let_go(job, row), *release(job.meta)]
    if row is None and _has_finished(job):
        return [*already_finished(job), *_after_the_end(job, _completed_at(job), now)]
    if settling := settle(job, row):
        return [*settling]
    template = template_of(job, referred)
    step = _step(job, row, template)
    if isinstance(step, Refusal):
        refusal = step
    elif step and refusal is None:
        return [*hold(job.meta), *step]
    shown = None if isinstance(template, Refusal) else template.spec
    return [
        *(hold(job.meta) if _is_own(job.meta, row) and not _has_ended(row) else []),
        *warnings(job, refusal, shown, task_unknown=task_unknown),
        *(already_finished(job) if _comes_too_late(job, row) else []),
        *set_status(job, status_of(job, row, shown, refusal, now)),
        *_watch_the_clock(job, row, refusal, now),
    ]


def _let_go(job: Resource[ScheduledJobSpec], row: JobState | None) -> list[Action]:
    if row is None or not job.meta.is_held or not _is_own(job.meta, row) or row.status.is_final:
        return []
    deletion = row.deletion if isinstance(job.spec, InvalidSpec) else job.spec.deletion
    return [ReleaseJob(source=job.meta.source, job_id=row.job_id, deletion=deletion)]


def _step(
    job: Resource[ScheduledJobSpec], row: JobState | None, template: JobTemplate | Refusal
) -> list[Action] | Refusal:
    """How the row comes nearer to what is wanted; nothing when there is nothing to do."""
    spec = job.spec
    if isinstance(spec, InvalidSpec):
        return Refusal.of(spec, Reason.INVALID_SPEC)
    if job_id(job) != _wanted_id(job):
        return _OTHER_KEY
    if row is None:
        return _make(job.meta, spec, job_id(job), template)
    if not _is_own(job.meta, row):
        return _share(job, spec, row, template)
    return [] if row.status.is_final else _change(job.meta, spec, row, template)


def _change(
    meta: Meta, spec: ScheduledJobSpec, row: JobState, template: JobTemplate | Refusal
) -> list[Action] | Refusal:
    """Our own row, while it is open."""
    if spec.cancel:
        return [] if row.stopping else [CancelJob(source=meta.source, job_id=row.job_id)]
    if not _is_behind(meta, row):
        return []
    if row.attempt == 0 or row.digest == spec.digest:
        return _make(meta, spec, row.job_id, template)
    return _STARTED_TOO_EARLY


def _make(meta: Meta, spec: ScheduledJobSpec, id_: str, template: JobTemplate | Refusal) -> list[Action] | Refusal:
    if isinstance(template, Refusal):
        return template
    ref = spec.periodic_job_ref
    labels = {} if ref is None else {PERIODIC_JOB_LABEL: ref.name}
    desired = DesiredJob(
        source=meta.source,
        job_id=id_,
        template=template.made(**labels),
        run_at=spec.run_at,
        suspended=_is_held_back(spec),
        starting_deadline_seconds=spec.starting_deadline_seconds,
        deletion=spec.deletion,
        digest=spec.digest,
    )
    return [UpsertJob(desired=desired)]


def _is_held_back(spec: ScheduledJobSpec) -> bool:
    """Made with cancel set, nobody may claim it before it is cancelled."""
    return spec.suspend or bool(spec.cancel)


def _share(
    job: Resource[ScheduledJobSpec], spec: ScheduledJobSpec, row: JobState, template: JobTemplate | Refusal
) -> list[Action] | Refusal:
    """The job of our key is another's, or nobody's; without a key it is what is left of our own, which has ended."""
    if spec.idempotency_key is None:
        return []
    if _was_never_begun(row) and not _has_finished(job):
        return _make(job.meta, spec, row.job_id, template)
    if row.digest != spec.digest and spec.conflict_policy is ConflictPolicy.RAISE:
        return _KEY_TAKEN
    if row.status.is_final or not _is_ownerless(job.meta, row):
        return []
    return [AdoptJob(source=job.meta.source, job_id=row.job_id, deletion=spec.deletion, suspended=_is_held_back(spec))]


def _was_never_begun(row: JobState) -> bool:
    """Nothing has been done under this key: it is free."""
    return row.status is JobStatus.CANCELLED and row.attempt == 0


def _is_ownerless(meta: Meta, row: JobState) -> bool:
    """A row's owner is gone when another object has its name."""
    owner = row.source
    return owner is None or (owner.cluster == meta.cluster and owner.name == meta.key.name)


def _watch_the_clock(
    job: Resource[ScheduledJobSpec], row: JobState | None, refusal: Refusal | None, now: datetime
) -> list[Action]:
    """What time alone may change."""
    if refusal is not None and refusal.heals:
        return [LookAgain(in_seconds=LIMIT_SECONDS if refusal.reason is Reason.TENANT_LIMIT else FOLLOW_SECONDS)]
    if row is None or isinstance(job.spec, InvalidSpec):
        return []
    if row.status.is_final:
        return _after_the_end(job, row.finished_at, now)
    if not _is_own(job.meta, row):
        return [LookAgain(in_seconds=FOLLOW_SECONDS)]
    return _until_the_deadline(job.meta, job.spec, row, now)


def _until_the_deadline(meta: Meta, spec: ScheduledJobSpec, row: JobState, now: datetime) -> list[Action]:
    seconds = spec.starting_deadline_seconds
    if seconds is None or row.attempt > 0 or row.suspended or row.status is not JobStatus.PENDING:
        return []
    left = (row.run_at + timedelta(seconds=seconds) - now).total_seconds()
    if left > 0:
        return [LookAgain(in_seconds=left + 1)]
    return [ExpireJob(source=meta.source, job_id=row.job_id), LookAgain(in_seconds=SERVED_SECONDS)]


def _after_the_end(job: Resource[ScheduledJobSpec], ended_at: datetime | None, now: datetime) -> list[Action]:
    """The object goes when its time to live has passed, and not before it has said how its job ended."""
    if isinstance(job.spec, InvalidSpec) or job.spec.ttl_seconds_after_finished is None or ended_at is None:
        return []
    left = (ended_at + timedelta(seconds=job.spec.ttl_seconds_after_finished) - now).total_seconds()
    if left <= 0 and _has_finished(job):
        return [DeleteObject(meta=job.meta)]
    return [LookAgain(in_seconds=max(left, 1.0))]


def _wanted_id(job: Resource[ScheduledJobSpec]) -> str:
    key = None if isinstance(job.spec, InvalidSpec) else job.spec.idempotency_key
    return f"sj-{job.meta.uid}" if key is None else f"{KEY_PREFIX}{job.meta.key.namespace}/{key}"


def _has_finished(job: Resource[ScheduledJobSpec]) -> bool:
    return live_condition(job.status, "Finished").get("status") == "True"


def _completed_at(job: Resource[ScheduledJobSpec]) -> datetime | None:
    told = job.status.get("completionTime")
    return None if told is None else datetime.fromisoformat(told)


def _is_own(meta: Meta, row: JobState | None) -> bool:
    return row is not None and row.source is not None and row.source.uid == meta.uid


def _has_ended(row: JobState | None) -> bool:
    return row is not None and row.status.is_final


def _is_behind(meta: Meta, row: JobState) -> bool:
    return row.source is not None and row.source.generation < meta.generation


def _comes_too_late(job: Resource[ScheduledJobSpec], row: JobState | None) -> bool:
    """Another job was asked for after this one had ended."""
    if row is None or isinstance(job.spec, InvalidSpec) or job.spec.cancel or not _is_own(job.meta, row):
        return False
    return row.status.is_final and _is_behind(job.meta, row) and row.digest != job.spec.digest
