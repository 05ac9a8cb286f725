"""What a caller gives, checked: the value as it is stored, or an error that names field, value and fix."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pg_scheduler.errors import InvalidArgument
from pg_scheduler.job_priority import JobPriority

RESERVED_PREFIXES = ("sj-", "pj-", "key:")
JOB_ID_BYTES_MAX = 200
LAST_YEAR = 9998
WHOLE_MAX = 2**31 - 1


def checked_id(job_id: object) -> str:
    """A job id of the caller's own."""
    if not isinstance(job_id, str) or not 1 <= _bytes(job_id) <= JOB_ID_BYTES_MAX or "\x00" in job_id:
        raise InvalidArgument(f"job_id is {str(job_id)[:40]!r}", fix=f"give text of 1 to {JOB_ID_BYTES_MAX} bytes")
    if job_id.startswith(RESERVED_PREFIXES):
        raise InvalidArgument(
            f"job_id {job_id[:40]!r} begins with a reserved prefix", why="sj-, pj- and key: belong to custom resources"
        )
    return job_id


def checked_time(execution_time: object) -> datetime:
    """An aware instant, in UTC."""
    if not isinstance(execution_time, datetime):
        raise InvalidArgument(
            f"execution_time is a {type(execution_time).__name__}",
            fix="give an aware datetime, such as datetime.now(UTC)",
        )
    if execution_time.utcoffset() is None:
        raise InvalidArgument(
            f"execution_time {execution_time} has no time zone",
            why="it would be read in whatever zone a machine happens to have",
            fix="use datetime.now(UTC), or .replace(tzinfo=…) with the zone you mean",
        )
    if execution_time.year > LAST_YEAR:
        raise InvalidArgument(f"execution_time {execution_time} is too late", fix=f"give a year up to {LAST_YEAR}")
    return execution_time.astimezone(UTC)


def checked_priority(priority: object) -> JobPriority:
    """One of the four."""
    if not isinstance(priority, JobPriority):
        raise InvalidArgument(f"priority is {str(priority)[:40]!r}", fix="give a JobPriority, such as JobPriority.HIGH")
    return priority


def checked_whole(name: str, value: object, *, low: int = 0, high: int = WHOLE_MAX) -> int:
    """A whole number in a range."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidArgument(f"{name} is {str(value)[:40]!r}", fix=f"give a whole number from {low} to {high}")
    return value


def checked_text(name: str, value: object, most: int) -> str:
    """Text of 1 to so many bytes, as PostgreSQL stores it."""
    if not isinstance(value, str) or not 1 <= _bytes(value) <= most or "\x00" in value:
        raise InvalidArgument(f"{name} is {str(value)[:40]!r}", fix=f"give text of 1 to {most} bytes")
    return value


def require_call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that the function does not take."""
    try:
        _signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidArgument(f"{function.__name__} cannot be called with these arguments: {error}") from error


_signature = lru_cache(maxsize=1024)(inspect.signature)
"""Reading a signature takes 20 µs, binding to it 2; a bulk of jobs is mostly one function."""


def _bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # half a surrogate pair: no text that PostgreSQL stores
        return 0
