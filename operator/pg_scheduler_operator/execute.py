"""Plans carried out.

Invariant: actions are done in the order of the plan, and an error or a refusal ends the plan: what comes later never
happens without what comes first. Events are a courtesy: one that cannot be told holds nothing up.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from pg_scheduler.errors import InvalidPayload, OwnedByResource
from pg_scheduler_operator.errors import KubernetesError
from pg_scheduler_operator.execute_pools import PoolExecutor
from pg_scheduler_operator.metrics import STATUS_WRITES
from pg_scheduler_operator.pacing import rank_of
from pg_scheduler_operator.reconcile.actions import (
    AddFinalizer,
    AdoptJob,
    CancelJob,
    DeleteObject,
    DeleteSchedule,
    EmitEvent,
    ExpireJob,
    LookAgain,
    ReleaseJob,
    RemoveFinalizer,
    ResumeSchedule,
    SetStatus,
    SettleJob,
    UpsertJob,
    UpsertSchedule,
)
from pg_scheduler_operator.resources import FINALIZER
from pg_scheduler_operator.status import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pg_scheduler_operator.gateway import Resources, Targets
    from pg_scheduler_operator.gateway.scheduler import Rows
    from pg_scheduler_operator.metrics import Metrics
    from pg_scheduler_operator.pacing import Pacer
    from pg_scheduler_operator.reconcile.actions import (
        Action,
        JobChange,
        ObjectChange,
        PoolChange,
        RowChange,
        ScheduleChange,
    )
    from pg_scheduler_operator.resources import Key
    from pg_scheduler_operator.status import Notice

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What is left to do after a plan.

    Attributes:
        plan_again: a row was changed, or could not be (``refusal``): the plan that follows speaks of what came of it.
        again_in_seconds: when to plan again though nothing happens: a status was held back and is not in line, or time
            will tell.
    """

    plan_again: bool = False
    refusal: Refusal | None = None
    again_in_seconds: float | None = None


def sooner(*seconds: float | None) -> float | None:
    """The shortest of some times, None if there is none."""
    return min((value for value in seconds if value is not None), default=None)


class Executor:
    """Does what plans say."""

    def __init__(self, resources: Resources, targets: Targets, rows: Rows, pacer: Pacer[Key], metrics: Metrics) -> None:
        self._pools = PoolExecutor(targets, rows)
        self._resources = resources
        self._rows = rows
        self._pacer = pacer
        self._metrics = metrics

    async def execute(self, actions: Sequence[Action]) -> Done:
        """Do them in order."""
        plan_again = False
        again_in_seconds: float | None = None
        for action in actions:
            match action:
                case (
                    UpsertJob()
                    | AdoptJob()
                    | CancelJob()
                    | ReleaseJob()
                    | SettleJob()
                    | UpsertSchedule()
                    | ResumeSchedule()
                    | DeleteSchedule()
                ):
                    plan_again = True
                    refusal = await self._change(action)
                    if refusal is not None:
                        return Done(plan_again=True, refusal=refusal)
                case ExpireJob():
                    plan_again |= await self._rows.expire_job(action.source, action.job_id)
                case SetStatus():
                    again_in_seconds = sooner(again_in_seconds, await self._set_status(action))
                case LookAgain(in_seconds=seconds):
                    again_in_seconds = sooner(again_in_seconds, seconds)
                case _:
                    await self._write(action)
        return Done(plan_again=plan_again, again_in_seconds=again_in_seconds)

    async def _write(self, action: ObjectChange | PoolChange) -> None:
        match action:
            case DeleteObject(meta=meta):
                await self._resources.remove(meta)
            case AddFinalizer(meta=meta):
                await self._resources.set_finalizers(meta, [*meta.finalizers, FINALIZER])
            case RemoveFinalizer(meta=meta):
                await self._resources.set_finalizers(meta, [name for name in meta.finalizers if name != FINALIZER])
            case EmitEvent(notice=notice):
                await self._tell(notice)
            case _:
                await self._pools.execute(action)

    async def _change(self, change: RowChange) -> Refusal | None:
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
            case AdoptJob():
                await self._rows.adopt_job(
                    change.source, change.job_id, deletion=change.deletion, suspended=change.suspended
                )
            case CancelJob():
                await self._rows.cancel_job(change.source, change.job_id)
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
                await self._rows.delete_schedule(change.source)
            case _:
                assert_never(change)

    async def _set_status(self, action: SetStatus) -> float | None:
        key = action.meta.key
        rank = rank_of(action.live, action.desired)
        wait_seconds = self._pacer.wait_seconds(key, urgent=action.urgent, rank=rank)
        if wait_seconds != 0:
            return wait_seconds
        await self._resources.write_status(action.meta, action.live, action.desired)
        self._pacer.written(key)
        self._metrics.count(STATUS_WRITES, key.kind)
        return None

    async def _tell(self, notice: Notice) -> None:
        try:
            await self._resources.tell(notice)
        except KubernetesError as error:
            about = str(notice.about.key)
            logger.warning("%s: the event %s was not told: %s", about, notice.reason, error, extra={"object": about})


def _unkeepable(error: InvalidPayload) -> Refusal:
    """``error.what`` may quote a key of the arguments: a status that anyone can list must not."""
    parts = ["args, kwargs or labels cannot be kept exactly as JSON", error.why, error.fix]
    return Refusal(reason=Reason.INVALID_SPEC, message=". ".join(part for part in parts if part))
