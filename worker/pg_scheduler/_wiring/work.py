"""What of a worker takes work in and sees it to its end: the same whether it runs by itself or is driven by hand."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pg_scheduler._engine.calls import Calls, Middleware
from pg_scheduler._engine.claim_loop import ClaimLoop
from pg_scheduler._engine.claiming import Claiming
from pg_scheduler._engine.clock import DatabaseClock
from pg_scheduler._engine.completions import Completions
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.executor import Executor
from pg_scheduler._engine.floor import Floor
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.offloading import Offloading
from pg_scheduler._engine.performing import Performer
from pg_scheduler._engine.quarantine import Quarantine
from pg_scheduler._engine.rescuer import Rescuer
from pg_scheduler._engine.runtime import JobServices, context_of
from pg_scheduler._engine.slots import HeldJob, Slots
from pg_scheduler._engine.starts import Starts
from pg_scheduler._engine.ticker import Ticker
from pg_scheduler._store.connections import Pool
from pg_scheduler._store.jobs import Ahead, JobStore
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler._store.transactions import JobTransactions
from pg_scheduler._store.wakeups import Bell
from pg_scheduler._store.workers import WorkerStore
from pg_scheduler._wiring.lines import Addresses, Lines
from pg_scheduler._wiring.submission import SubmissionParts
from pg_scheduler.context import JobContext
from pg_scheduler.tasks import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerBasis:
    """What a worker has from its scheduler, and shares with the next one.

    Attributes:
        pool: the caller's, for what jobs themselves submit and for transactions with their outcome.
        bell: rings when this process has submitted something.
        submitting: how jobs submit, and what this process declares.
    """

    pool: Pool
    registry: Registry
    config: EngineConfig
    bell: Bell
    submitting: SubmissionParts
    middleware: Sequence[Middleware]
    addresses: Addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Wakes:
    """What ends the sleeps of a worker's claim loop and ticker."""

    claim: asyncio.Event
    overdue: asyncio.Event
    tick: asyncio.Event


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkParts:
    """What takes work in and sees it to its end, whoever turns it."""

    clock: DatabaseClock
    ghosts: Ghosts
    claiming: Claiming
    quarantine: Quarantine
    slots: Slots
    completions: Completions
    executor: Executor
    starts: Starts
    schedules: ScheduleStore
    ticker: Ticker
    rescuer: Rescuer
    claim_loop: ClaimLoop
    close: Callable[[], Awaitable[None]]


def wire_work(
    basis: WorkerBasis,
    lines: Lines,
    lease: Lease,
    wakes: Wakes,
    *,
    make_performer: Callable[[Calls], Performer],
    on_release: Callable[[], None],
    on_look: Callable[[Ahead], None],
) -> WorkParts:
    """All of it on these connections; ``on_release`` is told of a slot that became free, ``on_look`` of each look."""
    config, registry = basis.config, basis.registry
    schedules, ghosts, clock = ScheduleStore(lines.database), Ghosts(), DatabaseClock()
    completions = Completions(
        lines.outcomes,
        on_tick_failed=lambda: ticker.run_failed(),  # noqa: PLW0108  each needs the other
        on_written=lambda jobs: claim_loop.ended(jobs),  # noqa: PLW0108
    )
    slots = Slots(config.slots, on_release=on_release)
    offloading = Offloading(config.slots)
    executor = Executor(make_performer(_wire_calls(basis, lines.jobs, offloading)), slots, completions)
    starts = Starts(executor, slots, clock, lease=lease)
    ticker = _wire_ticker(basis, lines, schedules, lease, wakes.tick)
    claiming = Claiming(starts, slots, registry, lease=lease, ghosts=ghosts, clock=clock, config=config)
    quarantine = Quarantine(lines.claims, slots, registry, lease=lease, ghosts=ghosts, config=config)
    claim_loop = ClaimLoop(
        claiming,
        lines.claims,
        starts,
        slots,
        registry,
        beside=lines.beside,
        lease=lease,
        clock=clock,
        floor=Floor(),
        quarantine=quarantine,
        config=config,
        wakeups=lines.wakeups,
        wake=wakes.claim,
        overdue=wakes.overdue,
        on_look=on_look,
        on_idle=completions.hurry,
    )

    async def close() -> None:
        offloading.close()
        await lines.close()

    return WorkParts(
        clock=clock,
        ghosts=ghosts,
        claiming=claiming,
        quarantine=quarantine,
        slots=slots,
        completions=completions,
        executor=executor,
        starts=starts,
        schedules=schedules,
        ticker=ticker,
        rescuer=Rescuer(WorkerStore(lines.database), lines.jobs, own_lease=lease, config=config),
        claim_loop=claim_loop,
        close=close,
    )


def _wire_ticker(
    basis: WorkerBasis, lines: Lines, schedules: ScheduleStore, lease: Lease, wake: asyncio.Event
) -> Ticker:
    return Ticker(
        lines.database,
        schedules,
        basis.submitting.periodic,
        lease=lease,
        config=basis.config,
        wake=wake,
        on_ticked=basis.bell.ring,
    )


def _wire_calls(basis: WorkerBasis, jobs: JobStore, offloading: Offloading) -> Calls:
    config, submitting = basis.config, basis.submitting
    services = JobServices(
        submission=submitting.submission,
        database=submitting.database,
        jobs=submitting.jobs,
        transactions=JobTransactions(
            basis.pool, jobs, lease_seconds=config.lease_seconds, command_seconds=config.command_seconds
        ),
        on_submitted=basis.bell.ring,
    )

    def make_context(held: HeldJob, deadline: float | None) -> JobContext:
        return context_of(held, services, deadline)

    return Calls(basis.registry, make_context=make_context, offloading=offloading, middleware=basis.middleware)
