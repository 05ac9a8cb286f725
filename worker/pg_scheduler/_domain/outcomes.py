"""What becomes of a job when its coroutine ends: decided here, written by the store under the job's token."""

import traceback
from dataclasses import dataclass
from typing import assert_never

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._domain.retry import delay_seconds

MAX_ERROR_CHARACTERS = 16_000


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """One failure as ``scheduler_attempts`` keeps it; NUL, which PostgreSQL cannot store, is shown as U+FFFD."""

    type: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> "ErrorRecord":
        """The record of a raised error, also of one that cannot say what it is."""
        return cls(type(error).__name__, _storable(_text(error)), _storable(_trace(error)))


@dataclass(frozen=True, slots=True)
class Returned:
    """The coroutine returned."""


@dataclass(frozen=True, slots=True)
class Raised:
    """The coroutine raised, or could not be called; ``final`` when another attempt cannot end otherwise."""

    error: ErrorRecord
    final: bool = False


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The worker shuts down before the coroutine has ended."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The claim was taken away: cancelled, replaced or rescued while it ran."""


Ending = Returned | Raised | GivenBack | Lost


@dataclass(frozen=True, slots=True)
class Complete:
    """Write ``completed``."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Write ``failed``."""

    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Write ``pending`` again, due after ``seconds``."""

    seconds: int
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Release:
    """Hand the row back; the attempt is not charged."""


@dataclass(frozen=True, slots=True)
class ReportStopped:
    """Write nothing of the job, which others have decided, but that its coroutine has ended."""


Outcome = Complete | Fail | RetryIn | Release | ReportStopped


def decide(job: ClaimedJob, ending: Ending) -> Outcome:
    """What becomes of ``job``. Pure: the store writes it, fenced by the job's token."""
    match ending:
        case Returned():
            return Complete()
        case Raised(error, final=False) if job.retries_left:
            return RetryIn(delay_seconds(job.retry_count), error)
        case Raised(error):
            return Fail(error)
        case GivenBack():
            return Release()
        case Lost():
            return ReportStopped()
        case _:
            assert_never(ending)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001  __str__ is user code too
        return f"<its text raised {type(failure).__name__}>"


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as failure:  # noqa: BLE001  so are __cause__ and __notes__
        return f"<its traceback raised {type(failure).__name__}>"


def _storable(text: str) -> str:
    clean = text.replace("\x00", "\ufffd").encode(errors="replace").decode()
    return clean if len(clean) <= MAX_ERROR_CHARACTERS else "… " + clean[-MAX_ERROR_CHARACTERS:]
