"""The settings of one engine, checked when they are made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pg_scheduler._domain import checks
from pg_scheduler._domain.options import NAME_BYTES_MAX
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.polling import PollingConfig

POLL_SECONDS = 5.0
PREFETCH_SECONDS = 0.15
"""How far ahead jobs are claimed (design page 2 §2.5); so much, too, may a job be late when a clock is set forward."""
SLOTS_MAX = 100_000
LEASE_SECONDS_MIN = 1.0
LEASE_SECONDS_MAX = 24 * 3600.0
STALL_SECONDS_MIN = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Who this worker is and at what pace it works.

    Attributes:
        tenant: whose jobs it schedules and runs.
        queues: the queues that it serves, 1 to 100 names.
        pool: name of the WorkerPool, in the namespace that is its tenant, whose settings are for it; None without one.
        slots: how many jobs it runs at the same time.
        claim_limit: how many jobs one claim takes at most.
        lease_seconds: how long the database believes in it without a beat.
        poll_seconds: how often it looks without being woken, and how far ahead it makes the jobs of ticks.
        prefetch_seconds: how far ahead it claims jobs, to start each at its instant.
        shutdown_seconds: how long a shutdown waits for running jobs before it hands them back.
        max_stall_seconds: how long the main loop may stand still before the worker is given up.
        max_interruptions: how many deaths of its worker a job survives.

    Raises:
        InvalidArgument: a value out of its range, with the range.
    """

    tenant: str = ""
    queues: Sequence[str] = ("default",)
    pool: str | None = None
    slots: int = 25
    claim_limit: int = 10
    lease_seconds: float = 60.0
    poll_seconds: float = POLL_SECONDS
    prefetch_seconds: float = PREFETCH_SECONDS
    shutdown_seconds: float = 25.0
    max_stall_seconds: float = 300.0
    max_interruptions: int = 3
    misfire_grace_time: int | None = 300
    polling: PollingConfig = field(default_factory=PollingConfig)

    def __post_init__(self) -> None:
        _whole("max_concurrent_jobs", self.slots, 1, SLOTS_MAX)
        _whole("batch_claim_limit", self.claim_limit, 1, SLOTS_MAX)
        _seconds("lease_seconds", self.lease_seconds, LEASE_SECONDS_MIN, LEASE_SECONDS_MAX)
        _seconds("max_stall", self.max_stall_seconds, STALL_SECONDS_MIN, LEASE_SECONDS_MAX)
        _seconds("shutdown_timeout", self.shutdown_seconds, 0.0, LEASE_SECONDS_MAX)
        if self.misfire_grace_time is not None:
            _whole("misfire_grace_time", self.misfire_grace_time, 0, 2**31 - 1)
        _text("tenant", self.tenant, allow_empty=True)
        if isinstance(self.queues, str) or not 1 <= len(self.queues) <= 100:  # noqa: PLR2004  bound of the design's claim
            raise InvalidArgument("queues is not a list of 1 to 100 names", fix='give for instance queues=("default",)')
        for queue in self.queues:
            _text("queues", queue)

    @property
    def beat_seconds(self) -> float:
        """Time between two beats: two may be lost before the lease runs out."""
        return self.lease_seconds / 3

    @property
    def sweep_seconds(self) -> float:
        """Time between two sweeps; a quarter of the lease bounds how late a death is noticed."""
        return self.lease_seconds / 4

    @property
    def command_seconds(self) -> float:
        """How long one statement may take; asyncpg gives up after twice that on a server that has gone silent."""
        return min(3.0, self.lease_seconds / 6)

    @property
    def connect_seconds(self) -> float:
        """How long a new connection may take: a third of the lease, but always the second that TLS may need."""
        return min(5.0, max(1.0, self.lease_seconds / 3))


def _whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidArgument(f"{name} is {_shown(value)}", fix=f"give a whole number from {low} to {high}")


def _seconds(name: str, value: object, low: float, high: float) -> None:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not low <= value <= high
    ):
        raise InvalidArgument(f"{name} is {_shown(value)}", fix=f"give seconds from {low:g} to {high:g}")


def _text(name: str, value: object, *, allow_empty: bool = False) -> None:
    if value != "" or not allow_empty:
        checks.checked_text(name, value, NAME_BYTES_MAX)


def _shown(value: object) -> str:
    return repr(value)[:40]
