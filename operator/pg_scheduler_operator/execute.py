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
from pg_scheduler_operator.pacing import Rank, rank_of
from pg_scheduler_operator.reconcile.actions import (
    AddFinalizer,
    CancelJob,
    DeleteSchedule,
    EmitEvent,
    RemoveFinalizer,
    ResumeSchedule,
    SetStatus,
    SettleJob,
    UpsertJob,
    UpsertSchedule,
    WithdrawJob,
)
from pg_scheduler_operator.resources import FINALIZER
from pg_scheduler_operator.status import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pg_scheduler_operator.gateway import Resources, Targets
    from pg_scheduler_operator.gateway.scheduler import Rows
    from pg_scheduler_operator.metrics import Metrics
    from pg_scheduler_operator.pacing import Pacer
    from pg_scheduler_operator.reconcile.actions import Action, PoolChange, RowChange
    from pg_scheduler_operator.resources import Key
    from pg_scheduler_operator.status import Notice

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What is left to do after a plan.

    Attributes:
        plan_again: a row was changed, or could not be (``refusal``): the plan that follows speaks of what came of it.
        status_in_seconds: when the status may be written that was held back, if one was; None too where it is in line.
    """

    plan_again: bool = False
    refusal: Refusal | None = None
    status_in_seconds: float | None = None


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
        plan_again, status_in_seconds = False, None
        for action in actions:
            match action:
                case (
                    UpsertJob()
                    | CancelJob()
                    | WithdrawJob()
                    | SettleJob()
                    | UpsertSchedule()
                    | ResumeSchedule()
                    | DeleteSchedule()
                ):
                    plan_again = True
                    refusal = await self._change(action)
                    if refusal is not None:
                        return Done(plan_again=True, refusal=refusal)
                    if isinstance(action, UpsertSchedule) and (wait := self._status_waits(action.key)) != 0:
                        return Done(status_in_seconds=wait)
                case SetStatus():
                    status_in_seconds = await self._set_status(action)
                case _:
                    await self._write(action)
        return Done(plan_again=plan_again, status_in_seconds=status_in_seconds)

    async def _write(self, action: AddFinalizer | RemoveFinalizer | EmitEvent | PoolChange) -> None:
        match action:
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
                case UpsertJob():
                    await self._rows.upsert_job(change.desired)
                case CancelJob():
                    await self._rows.cancel_job(change.source, change.job_id)
                case WithdrawJob():
                    await self._rows.withdraw_job(change.source, change.job_id)
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
                case UpsertSchedule():
                    await self._rows.upsert_schedule(change.desired)
                case ResumeSchedule():
                    await self._rows.resume_schedule(change.source)
                case DeleteSchedule():
                    await self._rows.delete_schedule(change.source, change.deletion)
                case _:
                    assert_never(change)
        except InvalidPayload as error:
            return _unkeepable(error)
        except OwnedByResource as error:
            return Refusal.of(error, Reason.OWNED_BY_ANOTHER)
        return None

    def _status_waits(self, key: Key) -> float | None:
        """As the pacer says: 0 where it is worth planning at once what to say of a new row, which wants no more."""
        return self._pacer.wait_seconds(key, urgent=True, rank=Rank.READY)

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
    parts = ["args or kwargs cannot be kept exactly as JSON", error.why, error.fix]
    return Refusal(reason=Reason.INVALID_SPEC, message=". ".join(part for part in parts if part))
