"""What becomes of the jobs of an object that is deleted, of both kinds.

Invariant: every word of a manifest has one of the library.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pg_scheduler.job_template import Deletion


class DeletionPolicy(StrEnum):
    """What becomes of the jobs when their resource is deleted."""

    CANCEL_PENDING = "CancelPending"
    CANCEL = "Cancel"
    ORPHAN = "Orphan"


DELETION: Final = {
    DeletionPolicy.CANCEL_PENDING: Deletion.CANCEL_PENDING,
    DeletionPolicy.CANCEL: Deletion.CANCEL,
    DeletionPolicy.ORPHAN: Deletion.ORPHAN,
}
