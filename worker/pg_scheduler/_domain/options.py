"""What a job may ask for beyond its time, from the caller's words to the columns.

Invariant: an option that is not used is stored as its default, so that a job without options costs nothing for them.
"""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any, NamedTuple, get_args

from pg_scheduler._domain import checks, codec
from pg_scheduler._domain.jobs import NewJob
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.job_spec import JobSpec, OnFull
from pg_scheduler.retry_policy import RetryPolicy
from pg_scheduler.unique import Unique

TIMEOUT_SECONDS_MAX = 366 * 24 * 3600
TAGS_MAX = 20
TAG_BYTES_MAX = 64
NAME_BYTES_MAX = 200
METADATA_BYTES_MAX = 16 * 1024
LIMIT_MAX = 10_000
INTERRUPTIONS_MAX = 1_000


class Options(NamedTuple):
    """The last columns of a ``NewJob``, in their order."""

    concurrency_key: str | None = None
    timeout_seconds: float | None = None
    retry_policy: str | None = None
    on_interrupt: str = "retry"
    max_interruptions: int | None = None
    expires_at: datetime | None = None
    keep_result: bool = False
    flush_now: bool = False
    tags: str | None = None
    metadata: str | None = None
    on_full: str = "wait"
    concurrency_limit: int | None = None


NO_OPTIONS = Options()


class UniqueKey(NamedTuple):
    """The text that equal submissions share, and how long it counts; None while the job is open."""

    key: str
    within: timedelta | None


def options_of(spec: JobSpec, execution_time: datetime) -> Options:
    """The columns of a job's options; the checked time is what a relative ``expires`` counts from.

    Raises:
        InvalidArgument: one that cannot be used; nothing was written.
    """
    if not _uses_any(spec):
        return NO_OPTIONS
    return Options(
        concurrency_key=_key(spec),
        timeout_seconds=_timeout(spec.timeout),
        retry_policy=_retry_policy(spec.retry_policy),
        on_interrupt=checks.checked_word("on_interrupt", spec.on_interrupt, ("retry", "fail")),
        max_interruptions=_max_interruptions(spec.max_interruptions),
        expires_at=_expires_at(spec.expires, execution_time),
        keep_result=checks.checked_flag("keep_result", spec.keep_result),
        flush_now=checks.checked_word("flush", spec.flush, ("batch", "now")) == "now",
        tags=_tags(spec.tags),
        metadata=_metadata(spec.metadata),
        on_full=checks.checked_word("on_full", spec.on_full, get_args(OnFull)),
        concurrency_limit=spec.concurrency_limit,
    )


def unique_key(unique: Unique | None, job: NewJob) -> UniqueKey | None:
    """What a submission is the same by; None where it is not to be compared.

    Raises:
        InvalidArgument: not a ``Unique``.
    """
    if unique is None:
        return None
    if not isinstance(unique, Unique):
        raise InvalidArgument(
            f"unique is a {type(unique).__name__}", fix='give Unique(by=("task", "args"), within=None)'
        )
    parts = {"task": job.task, "args": json.loads(job.task_data), "queue": job.queue}
    text = json.dumps({part: parts[part] for part in sorted(set(unique.by))}, sort_keys=True)
    return UniqueKey(hashlib.sha256(text.encode()).hexdigest(), unique.within)


def _uses_any(spec: JobSpec) -> bool:
    return not (
        spec.concurrency_key is None
        and spec.concurrency_limit is None
        and spec.on_full == "wait"
        and spec.timeout is None
        and spec.retry_policy is None
        and spec.on_interrupt == "retry"
        and spec.max_interruptions is None
        and spec.expires is None
        and spec.keep_result is False
        and spec.flush == "batch"
        and spec.tags == ()
        and spec.metadata is None
    )


def _key(spec: JobSpec) -> str | None:
    if spec.concurrency_limit is not None:
        checks.checked_whole("concurrency_limit", spec.concurrency_limit, low=1, high=LIMIT_MAX)
    if spec.concurrency_key is None:
        if spec.concurrency_limit is not None or spec.on_full != "wait":
            raise InvalidArgument(
                "concurrency_limit or on_full is given without a key", fix="give concurrency_key as well"
            )
        return None
    return checks.checked_text("concurrency_key", spec.concurrency_key, NAME_BYTES_MAX)


def _timeout(timeout: object) -> float | None:
    if timeout is None:
        return None
    seconds: object = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if (
        not isinstance(seconds, int | float)
        or isinstance(seconds, bool)
        or not 0 < seconds <= TIMEOUT_SECONDS_MAX  # NaN compares false
    ):
        raise InvalidArgument(
            f"timeout is {str(timeout)[:40]!r}", fix="give seconds or a timedelta above 0 and up to 366 days"
        )
    return float(seconds)


def _retry_policy(policy: object) -> str | None:
    if policy is None:
        return None
    if not isinstance(policy, RetryPolicy):
        raise InvalidArgument(
            f"retry_policy is a {type(policy).__name__}", fix="give RetryPolicy(initial=…, maximum=…)"
        )
    return policy.to_json()


def _max_interruptions(value: object) -> int | None:
    return None if value is None else checks.checked_whole("max_interruptions", value, high=INTERRUPTIONS_MAX)


def _expires_at(expires: object, execution_time: datetime) -> datetime | None:
    match expires:
        case None:
            return None
        case timedelta():
            if expires <= timedelta():
                raise InvalidArgument(f"expires is {expires}", fix="give a timedelta above 0")
            try:
                return checks.checked_time(execution_time + expires, "expires")
            except OverflowError as error:
                raise InvalidArgument(f"expires {expires} is too late", fix="give a shorter timedelta") from error
        case _:
            return checks.checked_time(expires, "expires")


def _tags(tags: object) -> str | None:
    if isinstance(tags, str) or not isinstance(tags, list | tuple) or len(tags) > TAGS_MAX:
        raise InvalidArgument(
            f"tags is {str(tags)[:40]!r}", fix=f"give a list of at most {TAGS_MAX} texts of 1 to {TAG_BYTES_MAX} bytes"
        )
    texts = [checks.checked_text("tags", tag, TAG_BYTES_MAX) for tag in tags]
    return json.dumps(list(dict.fromkeys(texts)), separators=(",", ":")) if texts else None


def _metadata(metadata: Any) -> str | None:
    return None if metadata is None else codec.encode_object(metadata, "metadata", METADATA_BYTES_MAX)
