"""What plans change in the database, carried out.

Invariant: a change that the database or its codec refuses is told as a refusal, which quotes no argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from pg_scheduler.errors import InvalidPayload, OwnedByResource
from pg_scheduler_operator.reconcile.actions import (
    AdoptJob,
    CancelJob,
    DeleteSchedule,
    ReleaseJob,
    ResumeSchedule,
    SettleJob,
    UpsertJob,
    UpsertSchedule,
)
from pg_scheduler_operator.status import Reason, Refusal

if TYPE_CHECKING:
    from pg_scheduler_operator.gateway.scheduler import Rows
    from pg_scheduler_operator.reconcile.actions import JobChange, RowChange, ScheduleChange


class RowExecutor:
    """Changes rows of jobs and schedules."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def execute(self, change: RowChange) -> Refusal | None:
        """Do it, or say why it cannot be done."""
        try:
            match change:
                case UpsertSchedule() | ResumeSchedule() | DeleteSchedule():
                    await self._change_schedule(change)
                case _:
                    await self._change_job(change)
        except InvalidPayload as error:
            return _unkeepable(error)
        except OwnedByResource as error:
            return Refusal.of(error, Reason.OWNED_BY_ANOTHER)
        return None

    async def _change_job(self, change: JobChange) -> None:
        match change:
            case UpsertJob():
                await self._rows.upsert_job(change.desired)
            case CancelJob():
                await self._rows.cancel_job(change.source, change.job_id)
            case AdoptJob():
                await self._rows.adopt_job(
                    change.source, change.job_id, deletion=change.deletion, suspended=change.suspended
                )
            case ReleaseJob():
                await self._rows.release_job(change.source, change.job_id, change.deletion)
            case SettleJob():
                await self._rows.settle_job(
                    change.source,
                    change.job_id,
                    change.status,
                    attempt=change.attempt,
                    worker_id=change.worker_id,
                    started_at=change.started_at,
                    finished_at=change.finished_at,
                )
            case _:
                assert_never(change)

    async def _change_schedule(self, change: ScheduleChange) -> None:
        match change:
            case UpsertSchedule():
                await self._rows.upsert_schedule(change.desired)
            case ResumeSchedule():
                await self._rows.resume_schedule(change.source)
            case DeleteSchedule():
                await self._rows.delete_schedule(change.source, change.deletion)
            case _:
                assert_never(change)


def _unkeepable(error: InvalidPayload) -> Refusal:
    """``error.what`` may quote a key of the arguments: a status that anyone can list must not."""
    parts = ["args, kwargs or labels cannot be kept exactly as JSON", error.why, error.fix]
    return Refusal(reason=Reason.INVALID_SPEC, message=". ".join(part for part in parts if part))
