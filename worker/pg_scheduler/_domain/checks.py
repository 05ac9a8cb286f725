"""What a caller gives, checked: the value as it is stored, or an error that names field, value and fix."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeGuard

from pg_scheduler._domain.parameters import signature_of
from pg_scheduler.conflict_resolution import ConflictResolution
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.job_priority import JobPriority

RESERVED_PREFIXES = ("sj-", "pj-", "key:")
JOB_ID_BYTES_MAX = 200
FIRST_YEAR, LAST_YEAR = 2, 9998
"""A year inside of what datetime knows, so that no zone leads out of it."""
WHOLE_MAX = 2**31 - 1


def checked_id(job_id: object) -> str:
    """A job id of the caller's own."""
    if not is_text(job_id, JOB_ID_BYTES_MAX):
        raise InvalidArgument(f"job_id is {str(job_id)[:40]!r}", fix=f"give text of 1 to {JOB_ID_BYTES_MAX} bytes")
    if job_id.startswith(RESERVED_PREFIXES):
        raise InvalidArgument(
            f"job_id {job_id[:40]!r} begins with a reserved prefix", why="sj-, pj- and key: belong to custom resources"
        )
    return job_id


def checked_time(instant: object, name: str = "execution_time") -> datetime:
    """An aware instant, in UTC."""
    if type(instant) is datetime and instant.tzinfo is UTC and FIRST_YEAR <= instant.year <= LAST_YEAR:
        return instant
    if not isinstance(instant, datetime):
        fix = "give datetime.now(UTC) + it" if isinstance(instant, timedelta) else _TIME_FIX
        raise InvalidArgument(f"{name} is a {type(instant).__name__}", why=str(instant)[:40], fix=fix)
    if instant.utcoffset() is None:
        raise InvalidArgument(
            f"{name} {instant} has no time zone",
            why="it would be read in whatever zone a machine happens to have",
            fix="use datetime.now(UTC), or .replace(tzinfo=…) with the zone you mean",
        )
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise InvalidArgument(
            f"{name} {instant} is too {'late' if instant.year > LAST_YEAR else 'early'}",
            fix=f"give a year from {FIRST_YEAR} to {LAST_YEAR}",
        )
    return instant.astimezone(UTC)


def checked_priority(priority: object) -> JobPriority:
    """One of the four."""
    if not isinstance(priority, JobPriority):
        raise InvalidArgument(f"priority is {str(priority)[:40]!r}", fix="give a JobPriority, such as JobPriority.HIGH")
    return priority


def checked_conflict(conflict: object) -> ConflictResolution:
    """One of the three; their values do not stand for them."""
    if not isinstance(conflict, ConflictResolution):
        raise InvalidArgument(
            f"conflict_resolution is {str(conflict)[:40]!r}",
            fix="give ConflictResolution.RAISE, IGNORE or REPLACE",
        )
    return conflict


def checked_whole(name: str, value: object, *, low: int = 0, high: int = WHOLE_MAX) -> int:
    """A whole number in a range."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidArgument(f"{name} is {str(value)[:40]!r}", fix=f"give a whole number from {low} to {high}")
    return value


def checked_text(name: str, value: object, most: int) -> str:
    """Text of 1 to so many bytes, as PostgreSQL stores it."""
    if not is_text(value, most):
        raise InvalidArgument(f"{name} is {str(value)[:40]!r}", fix=f"give text of 1 to {most} bytes")
    return value


def is_text(value: object, most: int) -> TypeGuard[str]:
    """Whether PostgreSQL stores it as text of 1 to so many bytes."""
    return isinstance(value, str) and 1 <= _bytes(value) <= most and "\x00" not in value


def checked_word(name: str, value: object, words: Sequence[str]) -> str:
    """One of a few words."""
    if value not in words:
        raise InvalidArgument(f"{name} is {str(value)[:40]!r}", fix=f"give {' or '.join(map(repr, words))}")
    return str(value)


def checked_flag(name: str, value: object) -> bool:
    """True or False, and nothing that merely counts as one."""
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name} is {str(value)[:40]!r}", fix="give True or False")
    return value


def require_call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that the function does not take."""
    fewest, most = _positional(function)
    if not kwargs and fewest <= len(args) <= most:
        return
    try:
        signature_of(function).bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidArgument(f"{function.__name__} cannot be called with these arguments: {error}") from error


@lru_cache(maxsize=1024)
def _positional(function: Callable[..., Any]) -> tuple[int, float]:
    """How many positional arguments alone are enough, and how many are too many: known without binding them."""
    parameters = signature_of(function).parameters.values()
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        return (1, 0)
    by_place = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    any_more = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return (sum(p.default is p.empty for p in by_place), math.inf if any_more else len(by_place))


_TIME_FIX = "give an aware datetime, such as datetime.now(UTC)"


def _bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # half a surrogate pair: no text that PostgreSQL stores
        return 0
