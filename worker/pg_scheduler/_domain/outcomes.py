"""What becomes of a job when its coroutine ends: decided here, written by the store under the job's token."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._domain.retry import delay_seconds, policy_of
from pg_scheduler.retry_policy import RetryPolicy

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
        return cls(type(error).__name__, storable(_text(error)), storable(_trace(error)))


@dataclass(frozen=True, slots=True)
class KeptResult:
    """What a job returned, as JSON text; ``refused`` says instead why JSON could not keep it."""

    value: str | None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Returned:
    """The coroutine returned; ``result`` where the job keeps it."""

    result: KeptResult | None = None


@dataclass(frozen=True, slots=True)
class Raised:
    """The coroutine raised, or could not be called; ``final`` when another attempt cannot end otherwise."""

    error: ErrorRecord
    final: bool = False


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The job asks to run again after ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class CancelledItself:
    """The job says that there is nothing left to do."""

    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The job was completed in its own transaction; whatever came after that changes nothing."""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The worker shuts down before the coroutine has ended, or has even ``started``."""

    started: bool = True


@dataclass(frozen=True, slots=True)
class Lost:
    """The claim was taken away: cancelled, replaced or rescued while it ran."""


Ending = Returned | Raised | Snoozed | CancelledItself | Settled | GivenBack | Lost


@dataclass(frozen=True, slots=True)
class Complete:
    """Write ``completed``."""


@dataclass(frozen=True, slots=True)
class CompleteWith:
    """Write ``completed`` and the result beside it."""

    result: KeptResult


@dataclass(frozen=True, slots=True)
class Fail:
    """Write ``failed``."""

    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Write ``pending`` again, due after ``seconds``."""

    seconds: float
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class SnoozeFor:
    """Write ``pending`` again, due after ``seconds``, without charging a retry."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """Write ``cancelled``, by the job's own wish."""

    reason: str


@dataclass(frozen=True, slots=True)
class WriteNothing:
    """The outcome is in the database already."""


@dataclass(frozen=True, slots=True)
class Release:
    """Hand the row back; the attempt is not charged."""


@dataclass(frozen=True, slots=True)
class ReportStopped:
    """Write nothing of the job, which others have decided, but that its coroutine has ended."""


Outcome = Complete | CompleteWith | Fail | RetryIn | SnoozeFor | Cancel | Release | ReportStopped | WriteNothing

WORDS: Mapping[type[Outcome], str] = {
    Complete: "completed",
    CompleteWith: "completed",
    Fail: "failed",
    RetryIn: "retried",
    SnoozeFor: "snoozed",
    Cancel: "cancelled",
    Release: "handed_back",
}
"""What an outcome that was written is counted as."""
DISCARDED = "discarded"
"""What one is counted as whose token was no longer current."""

_INTERRUPTED = ErrorRecord("Interrupted", "the worker shut down while the job ran, and on_interrupt is 'fail'", "")


def decide(  # noqa: PLR0911  an arm for each ending
    job: ClaimedJob, ending: Ending, *, task_policy: RetryPolicy | None = None, chance: float = 0.5
) -> Outcome:
    """What becomes of ``job``. Pure: the store writes it, fenced by the job's token.

    Args:
        job: as it was claimed.
        ending: how its coroutine ended.
        task_policy: the task's delays, which those of the job replace.
        chance: 0 to 1, for the jitter of a delay.
    """
    match ending:
        case Returned(result):
            return Complete() if result is None else CompleteWith(result)
        case Raised(error, final=False) if job.retries_left:
            return RetryIn(delay_seconds(policy_of(job.retry_policy, task_policy), job.retry_count, chance), error)
        case Raised(error):
            return Fail(error)
        case Snoozed(seconds):
            return SnoozeFor(seconds)
        case CancelledItself(reason):
            return Cancel(reason)
        case Settled():
            return WriteNothing()
        case GivenBack(started=True) if job.on_interrupt == "fail":
            return Fail(_INTERRUPTED)
        case GivenBack():
            return Release()
        case Lost():
            return ReportStopped()
        case _:
            assert_never(ending)


def storable(text: str) -> str:
    """The text as PostgreSQL can keep it, its end if it is too long."""
    clean = text.replace("\x00", "\ufffd").encode(errors="replace").decode()
    return clean if len(clean) <= MAX_ERROR_CHARACTERS else "… " + clean[-MAX_ERROR_CHARACTERS:]


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
