"""What a worker knows of its own lease, by its own clock.

Invariant: the worker never believes in its lease longer than the database does: the clock counts suspended time, and
a lease counts from before its beat was sent.
"""

import time
from collections.abc import Callable


def boot_seconds() -> float:
    """Seconds of a clock that goes on while the machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Lease:
    """The last acknowledged beat and since when beats have come without a gap."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = boot_seconds) -> None:
        self.seconds = seconds
        self.worker_id = ""
        self._clock = clock
        self._acknowledged: float | None = None
        self._unbroken_since: float | None = None

    def begin(self, worker_id: str, sent_at: float) -> None:
        """A new incarnation has been registered."""
        self.worker_id = worker_id
        self._acknowledged = self._unbroken_since = sent_at

    def acknowledge(self, sent_at: float) -> None:
        """A beat that was sent at ``sent_at`` has been answered."""
        if not self._follows(sent_at):
            self._unbroken_since = sent_at
        self._acknowledged = sent_at

    def miss(self) -> None:
        """A beat has failed."""
        self._unbroken_since = None

    @property
    def is_valid(self) -> bool:
        """Whether new jobs may start."""
        return self._acknowledged is not None and self._clock() - self._acknowledged < self.seconds

    @property
    def held_for_one_full_lease(self) -> bool:
        """Whether beats have come without a gap for a whole lease: then who has not beaten meanwhile is really gone."""
        return (
            self._unbroken_since is not None
            and self._clock() - self._unbroken_since >= self.seconds
            and self._follows(self._clock())
        )

    def _follows(self, instant: float) -> bool:
        """Whether beats have come without a gap until then: no beat fails while the whole process is frozen."""
        return (
            self._unbroken_since is not None
            and self._acknowledged is not None
            and instant - self._acknowledged < self.seconds
        )
