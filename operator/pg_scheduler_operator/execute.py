"""Plans carried out.

Invariant: actions are done in the order of the plan, and an error or a refusal ends the plan: what comes later never
happens without what comes first. Events are a courtesy: one that cannot be told holds nothing up.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pg_scheduler_operator.errors import KubernetesError
from pg_scheduler_operator.execute_pools import PoolExecutor
from pg_scheduler_operator.execute_rows import RowExecutor
from pg_scheduler_operator.metrics import STATUS_WRITES
from pg_scheduler_operator.pacing import Rank, rank_of
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pg_scheduler_operator.gateway import Resources, Targets
    from pg_scheduler_operator.gateway.scheduler import Rows
    from pg_scheduler_operator.metrics import Metrics
    from pg_scheduler_operator.pacing import Pacer
    from pg_scheduler_operator.reconcile.actions import Action, ObjectChange, PoolChange, RowChange
    from pg_scheduler_operator.resources import Key
    from pg_scheduler_operator.status import Notice, Refusal

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What is left to do after a plan.

    Attributes:
        plan_again: a row was changed, or could not be (``refusal``): the plan that follows speaks of what came of it.
        again_in_seconds: when to plan again though nothing happens: time will tell, or a status was held back that is
            not in line.
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
        self._row_changes = RowExecutor(rows)
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
                    if (done := await self._change_row(action)) is not None:
                        return done
                    plan_again = True
                case ExpireJob():
                    plan_again |= await self._rows.expire_job(action.source, action.job_id)
                case SetStatus():
                    again_in_seconds = sooner(again_in_seconds, await self._set_status(action))
                case LookAgain(in_seconds=seconds):
                    again_in_seconds = sooner(again_in_seconds, seconds)
                case _:
                    await self._write(action)
        return Done(plan_again=plan_again, again_in_seconds=again_in_seconds)

    async def _change_row(self, action: RowChange) -> Done | None:
        """What ends the plan: what follows would speak of a row that is not there, or cannot be told yet."""
        refusal = await self._row_changes.execute(action)
        if refusal is not None:
            return Done(plan_again=True, refusal=refusal)
        if isinstance(action, UpsertSchedule) and (wait := self._status_waits(action.key)) != 0:
            return Done(again_in_seconds=wait)
        return None

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
