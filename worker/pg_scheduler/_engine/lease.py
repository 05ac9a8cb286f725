"""What a worker knows of its own lease, by its own clock.

Invariant: the worker never believes in its lease longer than the database does: the clock counts suspended time, and
a lease counts from before its beat was sent.
"""

import time
from collections.abc import Callable
from datetime import datetime


def boot_seconds() -> float:
    """Seconds of a clock that goes on while the machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Lease:
    """The last acknowledged beat and since when beats have come without a gap, from one start of the server.

    *Healthy* is a worker whose last beat was answered; *unsure* one whose beats fail, which keeps what it runs and what
    it has finished, and takes nothing new; *dead* one that a sweep has marked, until it is registered anew.

    Attributes:
        worker_id: name of the present incarnation.
        server_started_at: of the server that answered the last beat; a sweep names it.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = boot_seconds) -> None:
        self.seconds = seconds
        self.worker_id = ""
        self.server_started_at: datetime | None = None
        self._clock = clock
        self._acknowledged: float | None = None
        self._unbroken_since: float | None = None

    def begin(self, worker_id: str, sent_at: float, server_started_at: datetime | None = None) -> None:
        """A new incarnation has been registered."""
        self.worker_id = worker_id
        self.server_started_at = server_started_at
        self._acknowledged = self._unbroken_since = sent_at

    def acknowledge(self, sent_at: float, server_started_at: datetime | None = None) -> None:
        """A beat that was sent at ``sent_at`` has been answered."""
        if not self._follows(sent_at) or server_started_at != self.server_started_at:
            self._unbroken_since = sent_at
        self.server_started_at = server_started_at
        self._acknowledged = sent_at

    def miss(self) -> None:
        """A beat has failed, or its connection was lost: unsure until the next answer."""
        self._unbroken_since = None

    def lose(self) -> None:
        """A sweep has marked us dead."""
        self._acknowledged = self._unbroken_since = None

    @property
    def is_valid(self) -> bool:
        """Whether new jobs may start: the last beat was answered, less than a lease ago."""
        return self._follows(self._clock())

    @property
    def seconds_left(self) -> float:
        """How long new jobs may start without another beat; 0 unless it is valid."""
        acknowledged = self._acknowledged
        return self.seconds - (self._clock() - acknowledged) if self.is_valid and acknowledged is not None else 0.0

    @property
    def held_for_one_full_lease(self) -> bool:
        """Whether beats have come without a gap for a whole lease: then who has not beaten meanwhile is really gone."""
        unbroken_since = self._unbroken_since
        return unbroken_since is not None and self._clock() - unbroken_since >= self.seconds and self.is_valid

    def _follows(self, instant: float) -> bool:
        """Whether beats have come without a gap until then: no beat fails while the whole process is frozen."""
        acknowledged = self._acknowledged  # the heartbeat's thread may take it away between two looks
        return self._unbroken_since is not None and acknowledged is not None and instant - acknowledged < self.seconds
