"""What the probes answer.

Invariant: an answer is true of the moment of the question. Who asks runs in the worker's own event loop, so that one
that stands still gives none.
"""

from pg_scheduler._engine.vitals import Vitals

STARTING = "starting"
DEAD = "dead"
STOPPING = "stopping"
LEASE = "lease"


def why_not_live(vitals: Vitals | None) -> str | None:
    """Why the process should be replaced; None while it should not, at its start too."""
    return DEAD if vitals is not None and vitals.dead_part is not None else None


def why_not_ready(vitals: Vitals | None) -> str | None:
    """Why it takes no jobs now; None when it does."""
    if vitals is None:
        return STARTING
    if reason := why_not_live(vitals):
        return reason
    if vitals.is_stopping:
        return STOPPING
    return None if vitals.lease_seconds > 0 else LEASE
