"""Enqueue jobs in a SQLAlchemy session's own transaction.

Invariant: the job goes through ``session.execute``. SQLAlchemy sends BEGIN only with its own first statement, so a job
written past it, on the driver's connection, could be committed without the session's other writes.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause, text

from pg_scheduler._domain import codec
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.retry_policy import RetryPolicy
from pg_scheduler.tasks import TaskFunction, key_of, require_async

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session

_TYPES = {
    "run_at": "timestamptz",
    "queue": "text",
    "priority": "text",
    "job_id": "text",
    "on_conflict": "text",
    "tenant": "text",
    "max_retries": "integer",
    "misfire_grace_time": "integer",
    "timeout_seconds": "double precision",
    "retry_policy": "json",
    "concurrency_key": "text",
    "tags": "text[]",
    "metadata": "json",
    "expires_at": "timestamptz",
    "keep_result": "boolean",
    "on_interrupt": "text",
    "max_interruptions": "integer",
    "unique_key": "text",
    "unique_within": "interval",
    "concurrency_limit": "integer",
    "on_full": "text",
}
"""The parameters of ``scheduler_enqueue`` (docs/reference/sql.md) beside the task and what it is given."""


def enqueue(session: "Session | Connection", task: TaskFunction | str, **job: Any) -> str:
    """Enqueue in the transaction of a session or connection; ``statement`` says what a job takes.

    Returns:
        The job id; the job is there once the session commits.
    """
    return str(session.execute(statement(task, **job)).scalar_one())


async def enqueue_async(session: "AsyncSession | AsyncConnection", task: TaskFunction | str, **job: Any) -> str:
    """As ``enqueue``, for an async session or connection."""
    return str((await session.execute(statement(task, **job))).scalar_one())


def statement(
    task: TaskFunction | str, *, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
) -> TextClause:
    """The statement that enqueues a job, for any ``execute`` of SQLAlchemy; its one value is the job id.

    The database checks the values: what it refuses is a ``DataError`` of SQLAlchemy, a taken id an ``IntegrityError``.

    Args:
        task: an async function, or a task's key.
        args: positional arguments, exactly representable as JSON.
        kwargs: keyword arguments, exactly representable as JSON.
        options: parameters of ``scheduler_enqueue`` by their names, such as ``run_at``, ``queue`` or ``unique_key``;
            ``priority`` may be a ``JobPriority``, ``retry_policy`` a ``RetryPolicy``, ``metadata`` a dict.

    Raises:
        TypeError: not an async function.
        InvalidArgument: an option that there is not, or arguments that JSON cannot keep.
    """
    unknown = options.keys() - _TYPES.keys()
    if unknown:
        raise InvalidArgument(f"enqueue has no option {min(unknown)[:40]!r}", fix=f"give of {', '.join(_TYPES)}")
    payload = codec.encode(args, {} if kwargs is None else kwargs)
    named = "".join(f", {name} => CAST(CAST(:{name} AS {_sent_as(name)}) AS {_TYPES[name]})" for name in options)
    sql = (
        "SELECT scheduler_enqueue(task => CAST(:task AS text), args => CAST(:payload AS text)::json -> 'args',"
        f" kwargs => CAST(:payload AS text)::json -> 'kwargs'{named})"
    )
    values = {name: _plain(name, value) for name, value in options.items()}
    return text(sql.replace("::", "\\:\\:")).bindparams(task=_key(task), payload=payload, **values)


def _sent_as(name: str) -> str:
    """JSON goes as text: what a driver makes of a json parameter is the driver's."""
    return "text" if _TYPES[name] == "json" else _TYPES[name]


def _plain(name: str, value: Any) -> Any:
    match value:
        case JobPriority():
            return value.value
        case RetryPolicy():
            return value.to_json()
        case Mapping():
            return codec.encode_object(value, name, codec.MAX_BYTES)
        case _:
            return value


def _key(task: TaskFunction | str) -> str:
    if isinstance(task, str):
        return task
    require_async(task)
    return key_of(task)
