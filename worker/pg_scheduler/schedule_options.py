"""What Python code may say of a schedule beside its task, and the checked values that come of it.

Invariant: a refusal names the argument as the caller has written it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict, TypeVar

from pg_scheduler._domain.policies import Missed, Overlap, Policy
from pg_scheduler._domain.rules import Ambiguous, Bounds, Nonexistent, Rule
from pg_scheduler.errors import InvalidArgument, InvalidSchedule
from pg_scheduler.job_spec import OnInterrupt
from pg_scheduler.recurrence import cron as cron_rule
from pg_scheduler.recurrence import every as every_rule
from pg_scheduler.retry_policy import RetryPolicy

T = TypeVar("T")

_OWN_NAMES = {
    "timeZone": "timezone",
    "phaseSeconds": "phase",
    "jitterSeconds": "jitter",
    "startAt": "start_at",
    "endAt": "end_at",
    "maxRuns": "max_runs",
    "maxCatchUp": "max_catch_up",
    "startingDeadlineSeconds": "starting_deadline",
    "suspendAfterFailures": "suspend_after_failures",
}
"""How an argument is called here that is called otherwise in a resource."""


class ScheduleOptions(TypedDict, total=False):
    """What a schedule takes by keyword; ``PeriodicJobConfig`` says what each means."""

    phase: timedelta
    seconds: str
    nonexistent: Nonexistent
    ambiguous: Ambiguous
    jitter: float | timedelta
    start_at: datetime | None
    end_at: datetime | None
    max_runs: int | None
    missed: Missed
    max_catch_up: int
    starting_deadline: float | timedelta | None
    overlap: Overlap
    suspend_after_failures: int | None
    queue: str
    timeout: float | timedelta | None
    retry_policy: RetryPolicy | None
    on_interrupt: OnInterrupt
    tags: Sequence[str]
    metadata: Mapping[str, Any] | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any] | None


def rule_of(
    every: timedelta | None,
    cron: str | Sequence[str] | None,
    timezone: str | None,
    *,
    phase: timedelta,
    seconds: str,
    nonexistent: Nonexistent,
    ambiguous: Ambiguous,
) -> Rule:
    """The rule of an interval or of cron expressions.

    Raises:
        InvalidArgument: neither or both of them, or what belongs to the other one.
        InvalidSchedule: the rule is refused.
    """
    if (every is None) == (cron is None):
        raise InvalidArgument("Either every or cron is needed, and not both", fix="give exactly one of them")
    if every is not None:
        if timezone is not None:
            raise InvalidArgument("timezone is for cron only", fix="leave it out: an interval is the same everywhere")
        if (seconds, nonexistent, ambiguous) != ("0", "shift_forward", "first"):
            raise InvalidArgument("seconds, nonexistent and ambiguous are for cron only", fix="leave them out")
        return _named_as_here(lambda: every_rule(every, phase=phase))
    if phase:
        raise InvalidArgument("phase is for every only", fix="leave it out: cron says at which minute it runs")
    return _cron_rule(cron, timezone, seconds, nonexistent, ambiguous)


def bounds_of(
    jitter: float | timedelta, start_at: datetime | None, end_at: datetime | None, max_runs: int | None
) -> Bounds:
    """What holds beside the rule.

    Raises:
        InvalidSchedule: a value out of its range.
    """
    whole = _whole_seconds("jitter", jitter)
    return _named_as_here(lambda: Bounds(jitter_seconds=whole, start_at=start_at, end_at=end_at, max_runs=max_runs))


def policy_of(
    missed: Missed,
    max_catch_up: int,
    starting_deadline: float | timedelta | None,
    overlap: Overlap,
    suspend_after_failures: int | None,
) -> Policy:
    """What becomes of missed and overlapping runs, and of failures.

    Raises:
        InvalidSchedule: a value out of its range.
    """
    deadline = None if starting_deadline is None else _whole_seconds("starting_deadline", starting_deadline)
    return _named_as_here(
        lambda: Policy(
            missed=missed,
            max_catch_up=max_catch_up,
            starting_deadline_seconds=deadline,
            overlap=overlap,
            suspend_after_failures=suspend_after_failures,
        )
    )


def _cron_rule(
    cron: object, timezone: str | None, seconds: str, nonexistent: Nonexistent, ambiguous: Ambiguous
) -> Rule:
    if not isinstance(cron, str | Sequence) or isinstance(cron, bytes):
        raise InvalidSchedule(f"cron is a {type(cron).__name__}", field="cron", fix='give text, such as "30 2 * * *"')
    zone = "Etc/UTC" if timezone is None else timezone
    try:
        return cron_rule(cron, time_zone=zone, seconds=seconds, nonexistent=nonexistent, ambiguous=ambiguous)
    except InvalidSchedule as error:
        if error.field != "timeZone":
            raise
        raise InvalidSchedule(
            f"Invalid timezone {str(timezone)[:64]!r}: {error.what}", field="timezone", why=error.why, fix=error.fix
        ) from error


def _whole_seconds(field: str, duration: object) -> int:
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds != seconds // 1:
        raise InvalidSchedule(
            f"{field} is {str(duration)[:40]!r}",
            field=field,
            fix="give a whole number of seconds, or a timedelta of them",
        )
    return int(seconds)


def _named_as_here(make: Callable[[], T]) -> T:
    try:
        return make()
    except InvalidSchedule as error:
        if error.field not in _OWN_NAMES:
            raise
        own = _OWN_NAMES[error.field]
        raise InvalidSchedule(
            f"{own}: {error.what.replace(error.field, own)}", field=own, why=error.why, fix=error.fix
        ) from error
