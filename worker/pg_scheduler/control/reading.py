"""Rows as the operator and the command line are told of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pg_scheduler._store.schedule_rows import stored_schedule
from pg_scheduler._store.sources import JOB_KIND
from pg_scheduler.control.desired import Source
from pg_scheduler.control.states import JobState, ScheduleCounts, ScheduleState, ScheduleTrace
from pg_scheduler.job_status import JobStatus
from pg_scheduler.job_template import Deletion

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from pg_scheduler._store.driver import Record


def source_of(row: Record, cluster: str) -> Source:
    """Who owns the row."""
    return Source(
        cluster=cluster,
        kind=row["source_kind"],
        tenant=row["tenant"],
        name=row["source_name"],
        uid=row["source_uid"],
        generation=row["source_generation"],
    )


def job_state(row: Record) -> JobState:
    """A job's row."""
    return JobState(
        job_id=row["job_id"],
        source=source_of(row, row["source_cluster"]) if row["source_kind"] == JOB_KIND else None,
        status=JobStatus(row["status"]),
        task=row["task"],
        queue=row["queue"],
        suspended=row["suspended"],
        run_at=row["execution_time"],
        tick_at=row["tick_at"],
        attempt=row["attempt"],
        worker_id=row["worker_id"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error_type=row["error_type"],
        error_text=row["error_text"] or None,
        error_at=row["error_at"],
        stopping=row["stopping_worker"] is not None,
        deletion=deletion_of(row),
        digest=row["source_digest"],
        result=row["result"],
        result_bytes=row["result_bytes"],
        result_refused=row["result_refused"],
    )


def deletion_of(row: Record) -> Deletion:
    """What becomes of the row when its source is gone."""
    return Deletion(row["source_deletion"] or Deletion.CANCEL_PENDING)  # release 0.3 says nothing


def buried_job(row: Record) -> JobState:
    """What the tombstone of a job says, whose row is gone."""
    return JobState(
        job_id=row["job_id"],
        source=None,
        status=JobStatus(row["status"]),
        task=row["task"],
        queue=row["queue"],
        suspended=False,
        run_at=row["execution_time"],
        tick_at=None,
        attempt=row["attempt"],
        worker_id=None,
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error_type=None,
        error_at=None,
        stopping=False,
        digest=row["source_digest"],
    )


def schedule_state(row: Record, last_job: JobState | None) -> ScheduleState:
    """A schedule's row, with the job of its newest due tick."""
    stored = stored_schedule(row)
    definition = stored.definition
    return ScheduleState(
        source=source_of(row, row["source_cluster"]),
        rule=definition.rule,
        bounds=definition.bounds,
        policy=definition.policy,
        history=definition.history,
        deletion=definition.deletion,
        task=definition.template.task,
        queue=definition.template.queue,
        suspended=definition.suspended,
        suspend_reason=definition.suspend_reason,
        halted_at=row["halted_at"],
        halted_reason=row["halted_reason"],
        anchor_at=stored.anchor_at,
        last_tick_at=row["due_tick_at"],
        next_tick_at=row["ahead_tick_at"] or stored.next_tick_at,
        ticks=stored.ticks - row["ahead_ticks"],
        runs=stored.runs - row["ahead_ticks"],
        last_job=last_job,
        last_end=None if row["ended_status"] is None else JobStatus(row["ended_status"]),
        last_end_at=row["ended_at"],
        missed_at=_newest_missed(row),
        is_overdue=bool(row["is_overdue"]),
        is_served=row["is_served"],
        time_zone_data=row["time_zone_data"],
        counts=None if row["ran"] is None else _counts(row),
    )


def _newest_missed(row: Record) -> datetime | None:
    """What the rule before the anchor has missed is no concern of this one."""
    missed: datetime | None = row["missed_at"]
    if missed is None or missed <= row["anchor_at"] or (row["due_tick_at"] and missed < row["due_tick_at"]):
        return None
    return missed


def _counts(row: Record) -> ScheduleCounts:
    return ScheduleCounts(
        ran=row["ran"],
        failed=row["failed"],
        skipped=row["skipped"],
        missed=row["missed_ticks"],
        coalesced=row["coalesced"],
        succeeded_at=row["succeeded_at"],
        failed_at=row["failed_at"],
    )


def schedule_traces(rows: Iterable[Record]) -> list[ScheduleTrace]:
    """One for each schedule of the rows."""
    by_schedule: defaultdict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for row in rows:
        by_schedule[row["source_kind"], row["tenant"], row["source_name"]].append(row)
    return [
        ScheduleTrace(
            kind=kind,
            tenant=tenant,
            name=name,
            traces=frozenset(row["trace"] for row in rows),
            runs=any(row["runs"] for row in rows),
        )
        for (kind, tenant, name), rows in by_schedule.items()
    ]
