"""What a job says of its concurrency key, checked.

Invariant: a job without a key is stored with the defaults, so that it is claimed by the statement that knows no keys.
"""

from typing import NamedTuple, get_args

from pg_scheduler._domain import checks
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.job_spec import JobSpec, OnFull

KEY_BYTES_MAX = 200
LIMIT_MAX = 10_000


class Concurrency(NamedTuple):
    """Columns of a ``NewJob``; ``limit`` is what this submission makes the key's limit, None leaves it as it is."""

    key: str | None = None
    limit: int | None = None
    on_full: str = "wait"


UNKEYED = Concurrency()


def concurrency_of(spec: JobSpec) -> Concurrency:
    """The columns.

    Raises:
        InvalidArgument: no text of 1 to 200 bytes, a limit out of range, or a limit or ``on_full`` without a key.
    """
    if spec.concurrency_key is None and spec.concurrency_limit is None and spec.on_full == "wait":
        return UNKEYED
    if spec.concurrency_key is None:
        raise InvalidArgument("concurrency_limit or on_full is given without a key", fix="give concurrency_key as well")
    if spec.on_full not in get_args(OnFull):
        raise InvalidArgument(f"on_full is {str(spec.on_full)[:40]!r}", fix="give 'wait', 'skip' or 'replace'")
    limit = spec.concurrency_limit
    return Concurrency(
        key=checks.checked_text("concurrency_key", spec.concurrency_key, KEY_BYTES_MAX),
        limit=None if limit is None else checks.checked_whole("concurrency_limit", limit, low=1, high=LIMIT_MAX),
        on_full=spec.on_full,
    )
