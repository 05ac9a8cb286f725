"""What a worker says of itself at one moment: for probes and metrics.

Invariant: reading it costs no statement and no lock, since the parts count as they go.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pg_scheduler._engine.clock import DatabaseClock
from pg_scheduler._engine.completions import Completions
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.executor import Executor
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.lifecycle import Lifecycle
from pg_scheduler._engine.rescuer import Rescuer
from pg_scheduler._engine.slots import Slots
from pg_scheduler._engine.ticker import Ticker
from pg_scheduler.job_status import JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """One look at a worker that has been started; counts are since then.

    Attributes:
        tenant: whose jobs it runs.
        dead_part: the part of the engine that has died.
        is_stopping: whether it takes nothing new any more.
        lease_seconds: how long it may start jobs without another beat; 0 when its lease is not held.
        slots: how many jobs it may run at a time.
        running: how many jobs it holds.
        started: attempts begun.
        ended: attempts ended, by outcome.
        ticks: jobs made of ticks.
        rescued: jobs taken from dead workers of every tenant, by the status that they were given.
        clock_ahead_seconds: how far the database's clock is ahead of this machine's; None while it has said nothing.
    """

    tenant: str
    dead_part: str | None
    is_stopping: bool
    lease_seconds: float
    slots: int
    running: int
    started: int
    ended: Mapping[str, int]
    ticks: int
    rescued: Mapping[JobStatus, int]
    clock_ahead_seconds: float | None


def look(
    config: EngineConfig,
    *,
    lease: Lease,
    slots: Slots,
    lifecycle: Lifecycle,
    executor: Executor,
    completions: Completions,
    ticker: Ticker,
    rescuer: Rescuer,
    clock: DatabaseClock,
) -> Vitals:
    """Look at the parts of a worker."""
    return Vitals(
        tenant=config.tenant,
        dead_part=lifecycle.dead_part,
        is_stopping=lifecycle.is_stopping,
        lease_seconds=lease.seconds_left,
        slots=config.slots,
        running=len(slots.held()),
        started=executor.started,
        ended={**completions.ended, "completed": completions.ended["completed"] + executor.settled},
        ticks=ticker.made,
        rescued=dict(rescuer.rescued),
        clock_ahead_seconds=clock.seconds_ahead,
    )
