"""What a ScheduledJob says of its job.

Invariant: a result is shown only where the spec asks for it, and only one that is short.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pg_scheduler.control import RESULT_BYTES_MAX
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.common import ENDS, shown_error, shown_state
from pg_scheduler_operator.resources import ReadyWhen, ResultPolicy, ScheduledJobStatus
from pg_scheduler_operator.status import Fact, Reason, Refusal, conditions, readiness

if TYPE_CHECKING:
    from datetime import datetime

    from pg_scheduler.control import JobState
    from pg_scheduler_operator.resources import Resource, ScheduledJobSpec, TaskSpec


def status_of(
    job: Resource[ScheduledJobSpec],
    row: JobState | None,
    task: TaskSpec | None,
    refusal: Refusal | None,
    now: datetime,
) -> ScheduledJobStatus:
    """The status to be; ``task`` is what the job runs, where that is known."""
    generation = job.meta.generation
    shows_result = task is not None and task.result_policy is ResultPolicy.STATUS
    facts = [*_ready(job, row, refusal), *_facts(row, shows_result=shows_result)]
    told = conditions(facts, live=job.status, generation=generation, now=now)
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
        result=_result(row) if shows_result else None,
        last_error=shown_error(row),
    )


def _ready(job: Resource[ScheduledJobSpec], row: JobState | None, refusal: Refusal | None) -> tuple[Fact, Fact]:
    if refusal is not None or row is None or isinstance(job.spec, InvalidSpec):
        return readiness(refusal)
    if job.spec.ready_when is ReadyWhen.ACCEPTED:
        message = "" if row.source is None or row.source.uid == job.meta.uid else _shared(row)
        return Fact("Ready", True, Reason.ACCEPTED, message), Fact("Stalled", False, Reason.ACCEPTED)
    end = ENDS.get(row.status)
    reason = end or Reason.NOT_FINISHED
    failed = end is not None and end is not Reason.COMPLETE
    return Fact("Ready", end is Reason.COMPLETE, reason), Fact("Stalled", failed, reason)


def _shared(row: JobState) -> str:
    owner = row.source
    return "" if owner is None else f"its idempotencyKey is that of the {owner.kind} {owner.name}, whose job it shows"


def _facts(row: JobState | None, *, shows_result: bool) -> list[Fact]:
    end = None if row is None else ENDS.get(row.status)
    started = row is not None and row.attempt > 0
    suspended = row is not None and row.suspended and end is None
    missing = _why_no_result(row) if row is not None and shows_result else ""
    return [
        Fact("Suspended", suspended, Reason.SPEC),
        Fact("Started", started, Reason.STARTED if started else Reason.NOT_STARTED),
        Fact("Complete", end is Reason.COMPLETE, end or Reason.NOT_FINISHED, missing),
        Fact("Failed", end in {Reason.FAILED, Reason.EXPIRED}, end or Reason.NOT_FINISHED),
        Fact("Finished", end is not None, end or Reason.NOT_FINISHED),
    ]


def _result(row: JobState) -> Any:
    return None if row.result is None else json.loads(row.result)


def _why_no_result(row: JobState) -> str:
    if row.result_refused:
        return "what it returned cannot be kept exactly as JSON"
    if row.result_bytes is not None and row.result_bytes > RESULT_BYTES_MAX:
        return (
            f"its result of {row.result_bytes:,} bytes is in the database only: a status holds at most"
            f" {RESULT_BYTES_MAX:,}"
        )
    return ""
