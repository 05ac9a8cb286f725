"""Which status a caller may give a job, and what that means.

Invariant: only the job itself, under its token, completes or fails; everybody else cancels what is open, or runs again
what has ended without success.
"""

from enum import Enum, auto

from pg_scheduler.errors import IllegalTransition
from pg_scheduler.job_status import JobStatus


class Move(Enum):
    """What ``update_job_status`` does."""

    CANCEL = auto()
    RUN_AGAIN = auto()


def move_to(status: object) -> Move:
    """The move that leads to a status.

    Raises:
        IllegalTransition: no caller may set it.
    """
    match status:
        case JobStatus.CANCELLED:
            return Move.CANCEL
        case JobStatus.PENDING:
            return Move.RUN_AGAIN
        case _:
            raise IllegalTransition(
                f"a job cannot be set to {str(status)[:40]!r} from outside",
                why="running, waiting and the outcomes are written by the worker that holds the job",
                fix="set cancelled to end an open job, or pending to run an ended one again",
            )
