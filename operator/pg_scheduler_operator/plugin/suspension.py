"""What suspending and resuming change in an object.

Invariants: pure; an object that is as it is wished to be gets no patch.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler.errors import IllegalTransition, InvalidArgument
from pg_scheduler_operator.plugin.facts import condition, holds, instant_in, is_halted, reference_to, spec_of, state_of
from pg_scheduler_operator.resources import RESUME_REQUESTED_AT, stamp

if TYPE_CHECKING:
    from pg_scheduler_operator.plugin.facts import Body

REASON_MAX: Final = 256
_SECOND: Final = timedelta(seconds=1)


def suspending(body: Body, reason: str) -> dict[str, Any] | None:
    """The patch that suspends it; None when it is suspended for this reason already.

    Raises:
        InvalidArgument: a reason that it cannot keep.
        IllegalTransition: it is a job that runs, or has ended.
    """
    which = reference_to(body)
    if reason and which.short != "pjob":
        raise InvalidArgument("a ScheduledJob keeps no reason", fix="leave out --reason")
    if len(reason) > REASON_MAX:
        raise InvalidArgument(f"a reason of {len(reason)} characters", fix=f"give at most {REASON_MAX}")
    if which.short == "sjob":
        _require_pending(body)
    spec = spec_of(body)
    wish: dict[str, Any] = {"suspend": True}
    if reason:
        wish["suspendReason"] = reason
    elif not spec.get("suspend") and spec.get("suspendReason"):
        wish["suspendReason"] = None  # of an earlier time
    return None if all(spec.get(name) == value for name, value in wish.items()) else {"spec": wish}


def resuming(body: Body, *, now: datetime) -> dict[str, Any] | None:
    """The patch that resumes it, after a halt too; None when nothing holds it back."""
    spec = spec_of(body)
    patch: dict[str, Any] = {}
    if spec.get("suspend"):
        patch["spec"] = {"suspend": False} | ({"suspendReason": None} if spec.get("suspendReason") else {})
    if is_halted(body):
        patch["metadata"] = {"annotations": {RESUME_REQUESTED_AT: stamp(_after_halt(body, now))}}
    return patch or None


def _after_halt(body: Body, now: datetime) -> datetime:
    """Later than the halt, even by a clock that is behind the database's: an earlier request would not count."""
    halted_at = instant_in(condition(body, "Suspended").get("lastTransitionTime"))
    return now if halted_at is None else max(now, halted_at + _SECOND)


def _require_pending(body: Body) -> None:
    if holds(body, "Finished") or state_of(body) == "Running":
        raise IllegalTransition(
            f"{reference_to(body)} is not pending",
            why=f"it is {state_of(body)}",
            fix="a job is suspended before it starts, or before it is tried again",
        )
