"""What becomes of a tick's job at its due time while earlier ones of its schedule have not ended.

Invariant: it is what the claim of keyed jobs does (``scheduler_claim_keyed``) under the key of a schedule, whose limit
is 1. A simulation decides by it; ``tests/store/test_overlap.py`` asks both the same questions.
"""

from enum import Enum, auto
from typing import assert_never

from pg_scheduler._domain.policies import Overlap


class Verdict(Enum):
    """What becomes of the job."""

    START = auto()
    """It runs."""
    WAIT = auto()
    """It waits until what is open has ended."""
    SKIP = auto()
    """It ends without having run."""
    REPLACE = auto()
    """What runs is stopped, what else is open is cancelled, and it starts when that has ended."""
    GIVE_WAY = auto()
    """A newer one that is due, too, runs in its place."""


def verdict(overlap: Overlap, *, running: bool, retrying: bool, waiting: bool, newer_due: bool) -> Verdict:
    """The verdict on a job that asks to start for the first time.

    Args:
        overlap: what its schedule wants.
        running: an earlier one runs, or is being stopped.
        retrying: an earlier one has failed and will be tried again, whether that is due or not.
        waiting: one waits already.
        newer_due: a newer one of the schedule asks, too.
    """
    is_open = running or retrying
    match overlap:
        case "allow":
            return Verdict.START
        case "skip":
            return Verdict.SKIP if is_open else Verdict.START
        case "queue" if is_open:
            return Verdict.SKIP if waiting else Verdict.WAIT
        case "queue":
            return Verdict.START
        case "replace" if newer_due:
            return Verdict.GIVE_WAY
        case "replace":
            return Verdict.REPLACE if is_open or waiting else Verdict.START
        case _:
            assert_never(overlap)


def has_its_turn(overlap: Overlap, *, retrying: bool) -> bool:
    """Whether one that waits becomes due again, now that what ran has ended; it may only have ended for now."""
    return overlap != "queue" or not retrying
