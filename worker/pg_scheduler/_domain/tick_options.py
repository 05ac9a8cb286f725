"""The options that a schedule gives to the job of each tick, checked: the value as the row keeps it.

Invariant: what comes back is stored and read without a further look; what cannot be used is named with its fix.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pg_scheduler._domain import codec
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.retry_policy import RetryPolicy

TEXT_BYTES_MAX = 200
TAGS_MAX = 100
TIMEOUT_SECONDS_MAX = 366 * 24 * 3600
ON_INTERRUPT = ("retry", "fail")


def checked_text(name: str, value: object) -> str:
    """A name of 1 to 200 bytes."""
    if not isinstance(value, str) or "\x00" in value or not 1 <= _bytes(value) <= TEXT_BYTES_MAX:
        raise InvalidArgument(f"{name} is {str(value)[:40]!r}", fix=f"give text of 1 to {TEXT_BYTES_MAX} bytes")
    return value


def checked_timeout(seconds: object) -> float | None:
    """Seconds above 0, or None."""
    if seconds is None:
        return None
    if (
        not isinstance(seconds, int | float)
        or isinstance(seconds, bool)
        or not math.isfinite(seconds)
        or not 0 < seconds <= TIMEOUT_SECONDS_MAX
    ):
        raise InvalidArgument(
            f"timeout is {str(seconds)[:40]!r}", fix=f"give seconds above 0, at most {TIMEOUT_SECONDS_MAX}, or None"
        )
    return float(seconds)


def checked_policy(policy: object) -> str | None:
    """The policy as JSON text, or None."""
    if policy is None:
        return None
    if not isinstance(policy, RetryPolicy):
        raise InvalidArgument(f"retry_policy is a {type(policy).__name__}", fix="give a RetryPolicy, or None")
    return policy.to_json()


def checked_on_interrupt(word: object) -> str:
    """``retry`` or ``fail``."""
    if not isinstance(word, str) or word not in ON_INTERRUPT:
        raise InvalidArgument(f"on_interrupt is {str(word)[:40]!r}", fix='give "retry" or "fail"')
    return word


def checked_tags(tags: object) -> str | None:
    """Words as JSON text; None without any."""
    if isinstance(tags, str) or not isinstance(tags, Sequence) or len(tags) > TAGS_MAX:
        raise InvalidArgument(f"tags is {str(tags)[:40]!r}", fix=f"give a list of at most {TAGS_MAX} words")
    return _json([checked_text("tags", tag) for tag in tags]) if tags else None


def checked_metadata(metadata: object) -> str | None:
    """An object as JSON text; None without one."""
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise InvalidArgument(f"metadata is a {type(metadata).__name__}", fix="give a dict, or None")
    codec.encode((), metadata)  # which refuses what JSON cannot keep exactly, and what is too large
    return _json(dict(metadata))


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True)


def _bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # half a surrogate pair: no text that PostgreSQL stores
        return 0
