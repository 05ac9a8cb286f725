"""What of a worker takes work in and sees it to its end: the same whether it runs by itself or is driven by hand."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pg_scheduler._engine.calls import Calls
from pg_scheduler._engine.claim_loop import ClaimLoop
from pg_scheduler._engine.claiming import Claiming
from pg_scheduler._engine.clock import DatabaseClock
from pg_scheduler._engine.completions import Completions
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
from pg_scheduler._store.jobs import Ahead, JobStore
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler._store.transactions import JobTransactions
from pg_scheduler._store.workers import WorkerStore
from pg_scheduler._wiring.basis import WorkerBasis
from pg_scheduler._wiring.lines import Lines
from pg_scheduler.context import JobContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Wakes:
    """What ends the sleeps of a worker's claim loop and ticker."""

    claim: asyncio.Event
    overdue: asyncio.Event
    tick: asyncio.Event


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """What sees a job that was taken to its end."""

    clock: DatabaseClock
    slots: Slots
    completions: Completions
    executor: Executor
    starts: Starts
    offloading: Offloading


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimParts:
    """What takes jobs."""

    ghosts: Ghosts
    claiming: Claiming
    quarantine: Quarantine
    loop: ClaimLoop


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkParts:
    """What takes work in and sees it to its end, whoever turns it."""

    runs: RunParts
    claims: ClaimParts
    schedules: ScheduleStore
    ticker: Ticker
    rescuer: Rescuer
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
    completions = Completions(
        lines.outcomes,
        on_tick_failed=lambda: ticker.run_failed(),  # noqa: PLW0108  each needs the other
        on_written=lambda jobs: claims.loop.ended(jobs),  # noqa: PLW0108
    )
    slots = Slots(basis.config.slots, on_release=on_release)
    runs = _wire_runs(basis, lines, lease, slots, completions, make_performer)
    claims = _wire_claims(basis, lines, lease, wakes, runs, on_look)
    schedules = ScheduleStore(lines.database, basis.payloads)
    ticker = _wire_ticker(basis, lines, schedules, lease, wakes.tick)

    async def close() -> None:
        runs.offloading.close()
        await lines.close()

    return WorkParts(
        runs=runs,
        claims=claims,
        schedules=schedules,
        ticker=ticker,
        rescuer=Rescuer(WorkerStore(lines.database), lines.jobs, own_lease=lease, config=basis.config),
        close=close,
    )


def _wire_runs(
    basis: WorkerBasis,
    lines: Lines,
    lease: Lease,
    slots: Slots,
    completions: Completions,
    make_performer: Callable[[Calls], Performer],
) -> RunParts:
    clock, offloading = DatabaseClock(), Offloading(basis.config.slots)
    executor = Executor(make_performer(_wire_calls(basis, lines.jobs, offloading)), slots, completions)
    return RunParts(
        clock=clock,
        slots=slots,
        completions=completions,
        executor=executor,
        starts=Starts(executor, slots, clock, lease=lease),
        offloading=offloading,
    )


def _wire_claims(
    basis: WorkerBasis, lines: Lines, lease: Lease, wakes: Wakes, runs: RunParts, on_look: Callable[[Ahead], None]
) -> ClaimParts:
    config, registry, starts, slots, clock = basis.config, basis.registry, runs.starts, runs.slots, runs.clock
    ghosts = Ghosts()
    claiming = Claiming(starts, slots, registry, lease=lease, ghosts=ghosts, clock=clock, config=config)
    quarantine = Quarantine(lines.claims, slots, registry, lease=lease, ghosts=ghosts, config=config)
    loop = ClaimLoop(
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
        on_idle=runs.completions.hurry,
    )
    return ClaimParts(ghosts=ghosts, claiming=claiming, quarantine=quarantine, loop=loop)


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
