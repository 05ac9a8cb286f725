"""One change of a row, as the triggers of ``job_history`` wrote it, and what is known of a job from its changes.

Invariant: values only, of what was written; the engine's own state is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime


class Broken(AssertionError):
    """An invariant does not hold."""


def require(holds: object, what: str) -> None:
    if not holds:
        raise Broken(what)


class Change(NamedTuple):
    """One row's change; the columns of ``stepper_history``."""

    seq: int
    backend: int
    kind: str
    id: str
    old_status: str | None
    new_status: str | None
    old_token: int | None
    new_token: int | None
    old_worker: str | None
    new_worker: str | None
    old_stopping: str | None
    new_stopping: str | None
    attempt: int
    retry_count: int
    interruptions: int
    started_at: datetime | None
    execution_time: datetime
    schedule_id: int | None
    tick_at: datetime | None
    holder_state: str | None
    holder_lease: datetime | None
    stopping_state: str | None
    stop_asked_at: datetime | None
    concurrency_key: str | None
    on_full: str | None
    new_lease: datetime | None
    at: datetime

    @property
    def move(self) -> tuple[str | None, str | None]:
        return (self.old_status, self.new_status)


@dataclass(slots=True)
class Known:
    """What the history says of a job; ``stopped_token`` is that of the coroutine whose end is waited for."""

    status: str
    token: int
    worker: str | None
    stopping: str | None
    stopped_token: int | None
    execution_time: datetime
    interruptions: int
    key: str | None
    replaces: bool

    @classmethod
    def after(cls, change: Change, before: Known | None) -> Known:
        stopped = None if before is None else before.stopped_token
        if change.old_status == "running" != change.new_status:
            stopped = change.old_token
        return cls(
            status=change.new_status or "",
            token=change.new_token or 0,
            worker=change.new_worker,
            stopping=change.new_stopping,
            stopped_token=None if change.new_stopping is None else stopped,
            execution_time=change.execution_time,
            interruptions=change.interruptions,
            key=change.concurrency_key,
            replaces=change.on_full == "replace" and change.attempt <= 1,
        )
