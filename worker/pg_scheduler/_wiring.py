"""The composition root: which part gets which."""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pg_scheduler._engine.agenda import Agenda
from pg_scheduler._engine.bulk_submission import BulkSubmission
from pg_scheduler._engine.by_hand import HandDriven, Runs, Witness
from pg_scheduler._engine.calls import Calls, Middleware
from pg_scheduler._engine.claim_loop import ClaimLoop
from pg_scheduler._engine.claiming import Claiming
from pg_scheduler._engine.clock import DatabaseClock
from pg_scheduler._engine.completions import Completions
from pg_scheduler._engine.config import POLL_SECONDS, EngineConfig
from pg_scheduler._engine.environment import Environment
from pg_scheduler._engine.executor import Executor
from pg_scheduler._engine.floor import Floor
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.heartbeat import Heartbeat
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.lifecycle import Lifecycle, Service, Services
from pg_scheduler._engine.offloading import Offloading
from pg_scheduler._engine.older_package import OlderPackage
from pg_scheduler._engine.own_worker import OwnWorker
from pg_scheduler._engine.performing import Performer, TimeLimit
from pg_scheduler._engine.periodic_jobs import PeriodicJobs
from pg_scheduler._engine.quarantine import Quarantine
from pg_scheduler._engine.rescuer import Rescuer
from pg_scheduler._engine.results import Results
from pg_scheduler._engine.runtime import JobServices, context_of
from pg_scheduler._engine.runtime_schedules import RuntimeSchedules
from pg_scheduler._engine.slots import HeldJob, Slots
from pg_scheduler._engine.starts import Starts
from pg_scheduler._engine.submission import Submission
from pg_scheduler._engine.suspicion import Suspicion
from pg_scheduler._engine.ticker import Ticker
from pg_scheduler._engine.vacuumer import Vacuumer
from pg_scheduler._engine.vitals import Vitals, look
from pg_scheduler._store import migrator
from pg_scheduler._store.bulk import BulkStore
from pg_scheduler._store.clock import in_haste
from pg_scheduler._store.database import (
    Connection,
    Database,
    Pool,
    Statements,
    connect_like,
    connect_to,
    open_pool,
    open_pool_like,
    place_of,
)
from pg_scheduler._store.demand import DemandStore
from pg_scheduler._store.dsn import checked_dsn, where
from pg_scheduler._store.jobs import Ahead, JobStore
from pg_scheduler._store.kept import KeptConnection
from pg_scheduler._store.limits import LimitStore
from pg_scheduler._store.listing import ListingStore, QueueStore
from pg_scheduler._store.migration_files import Migration
from pg_scheduler._store.older_package import OlderPackageStore
from pg_scheduler._store.operations import OperationsStore
from pg_scheduler._store.pools import PoolStore
from pg_scheduler._store.results import RESULTS_CHANNEL, ResultStore
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler._store.sources import SourceStore
from pg_scheduler._store.transactions import JobTransactions
from pg_scheduler._store.vacuum import VacuumStore
from pg_scheduler._store.wakeups import (
    JOBS_CHANNEL,
    OVERDUE_CHANNEL,
    SCHEDULES_CHANNEL,
    Bell,
    Connect,
    Listening,
    Polling,
    Wakeups,
    choose_wakeups,
)
from pg_scheduler._store.workers import WorkerCard, WorkerStore
from pg_scheduler.context import JobContext
from pg_scheduler.errors import MainLoopStalled
from pg_scheduler.periodic import PeriodicJobConfig
from pg_scheduler.tasks import Registry
from pg_scheduler.vacuum import VacuumConfig

ENGINE_CONNECTIONS = 4
CONTROL_CONNECTIONS = 4
WORKER_ID_LENGTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where else than the caller's pool a scheduler connects; None where it goes the pool's way.

    Attributes:
        own: of the engine's own connections.
        direct: of LISTEN and migrations, past a pooler; ``own`` if not given.
    """

    own: str | None = field(default=None, repr=False)
    direct: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for dsn in filter(None, (self.own, self.direct)):
            checked_dsn(dsn)

    @property
    def for_migrations(self) -> str | None:
        """The most direct one."""
        return self.direct or self.own


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionParts:
    """What a process needs to submit jobs, through the caller's own pool."""

    database: Database
    jobs: JobStore
    submission: Submission
    bulk: BulkSubmission
    periodic: PeriodicJobs
    runtime_schedules: RuntimeSchedules
    listing: ListingStore
    queues: QueueStore
    rescuer: Rescuer
    vacuum: VacuumStore
    vacuumer: Vacuumer
    results: Results
    older_package: OlderPackage


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """What a running worker consists of, on connections of its own."""

    lease: Lease
    slots: Slots
    rescuer: Rescuer
    heartbeat: Heartbeat
    schedules: ScheduleStore
    lifecycle: Lifecycle
    executor: Executor
    own_worker: OwnWorker
    vitals: Callable[[], Vitals]
    close: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlParts:
    """What the operator's side consists of."""

    database: Database
    sources: SourceStore
    schedules: ScheduleStore
    operations: OperationsStore
    limits: LimitStore
    pools: PoolStore
    demand: DemandStore
    migrate: Callable[..., Awaitable[list[Migration]]]


def wire_submission(
    pool: Pool,
    registry: Registry,
    config: EngineConfig,
    retention: VacuumConfig,
    bell: Bell,
    declared: Callable[[], Mapping[str, PeriodicJobConfig]],
    *,
    own_worker: Callable[[], OwnWorker | None],
    notify_workers: bool = True,
) -> SubmissionParts:
    """Submission through the caller's pool; ``bell`` wakes a worker in the same process after the commit."""
    database = Database(pool, place=place_of(pool), repeats=True)
    wake_within = config.poll_seconds if notify_workers else None
    jobs = JobStore(database, wake_within_seconds=wake_within)
    submission = Submission(jobs, registry, config=config, on_submitted=bell.ring, own_worker=own_worker)
    bulk = BulkSubmission(
        submission, BulkStore(database, pool), wake_within_seconds=wake_within, on_submitted=bell.ring
    )
    vacuum = VacuumStore(database)
    return SubmissionParts(
        database=database,
        jobs=jobs,
        submission=submission,
        bulk=bulk,
        periodic=PeriodicJobs(ScheduleStore(database), declared, tenant=config.tenant, on_triggered=bell.ring),
        runtime_schedules=RuntimeSchedules(ScheduleStore(database), tenant=config.tenant, on_triggered=bell.ring),
        listing=ListingStore(database, tenant=config.tenant),
        queues=QueueStore(database, tenant=config.tenant),
        rescuer=Rescuer(WorkerStore(database), jobs, own_lease=Lease(config.lease_seconds), config=config),
        vacuum=vacuum,
        vacuumer=Vacuumer(vacuum, tenant=config.tenant, config=retention),
        results=_wire_results(pool, database, config),
        older_package=OlderPackage(OlderPackageStore(database), registry, tenant=config.tenant),
    )


def _wire_results(pool: Pool, database: Database, config: EngineConfig) -> Results:
    bell = Bell()
    listening = Listening(
        None,
        partial(connect_like, pool, command_timeout=config.command_seconds),
        {RESULTS_CHANNEL: bell},
        place=place_of(pool),
        poll_seconds=config.poll_seconds,
        polling=config.polling,
    )
    return Results(ResultStore(database), bell, listening)


async def wire_engine(
    pool: Pool,
    registry: Registry,
    config: EngineConfig,
    bell: Bell,
    card: WorkerCard,
    retention: VacuumConfig | None,
    periodic: PeriodicJobs,
    *,
    submitting: SubmissionParts,
    middleware: Sequence[Middleware] = (),
    new_worker_id: Callable[[], str],
    on_stall: Callable[[MainLoopStalled], None],
    addresses: Addresses = Addresses(),
) -> EngineParts:
    """A worker on connections of its own, to the place that the caller's pool connects to; nothing runs yet."""
    schedules_bell, overdue_bell = Bell(), Bell()
    bells = {JOBS_CHANNEL: bell, OVERDUE_CHANNEL: overdue_bell, SCHEDULES_CHANNEL: schedules_bell}
    lines = await _open_lines(pool, config, addresses, bells)
    claim_wake, tick_wake = bell.subscribe(), schedules_bell.subscribe()
    overdue_bell.subscribe(claim_wake)
    lease = Lease(config.lease_seconds)

    def seen(ahead: Ahead) -> None:
        own_worker.observe(ahead)
        work.ticker.expect(ahead.tick_in)
        if registry.restrict(ahead.settings.allowed_tasks):
            overdue_bell.ring()  # this look was for other tasks
            heartbeat.beat_soon()  # which tells the others what may be claimed here
        if ahead.missing:
            suspicion.wake()

    work = _wire_work(
        pool,
        registry,
        config,
        bell,
        periodic,
        lines,
        submitting,
        middleware,
        lease=lease,
        make_performer=partial(Performer, environment=Environment(os.environ)),
        wakes=_Wakes(claim=claim_wake, overdue=overdue_bell.subscribe(), tick=tick_wake),
        on_release=lambda: work.claim_loop.slot_released(),  # noqa: PLW0108  each needs the other
        on_look=seen,
    )
    own_worker = _wire_own_worker(work, lease, config)
    suspicion = Suspicion(WorkerStore(lines.database), own_lease=lease, sweep_in=work.rescuer.sweep_in)
    heartbeat = Heartbeat(
        lines.pool,
        card,
        registry.claimable,
        lease=lease,
        slots=work.slots,
        known_tokens=lambda: work.slots.tokens() | work.completions.tokens(),
        finished_tokens=work.completions.tokens,
        flush=work.completions.wake,
        ghosts=work.ghosts,
        config=config,
        new_worker_id=new_worker_id,
        on_stall=on_stall,
    )
    taking: dict[str, Service] = {
        "starts": work.starts.run,
        "claim loop": work.claim_loop.run,
        "second claim": work.claim_loop.run_beside,
        "own submissions": own_worker.run,
        "ticker": work.ticker.run,
        "rescuer": work.rescuer.run,
        "suspicion": suspicion.run,
        "wakeups": lines.wakeups.run,
    }
    wakes = [
        *(claim_wake.set, work.claim_loop.wake_beside, tick_wake.set),
        *(work.rescuer.wake, suspicion.wake, work.completions.wake),
    ]
    if retention is not None:
        vacuumer = Vacuumer(VacuumStore(lines.database), tenant=config.tenant, config=retention)
        taking["vacuumer"] = vacuumer.run
        wakes.append(vacuumer.wake)

    async def close() -> None:
        bell.unsubscribe(claim_wake)
        await work.close()

    running = Services(
        taking=taking,
        completions=work.completions,
        heartbeat=heartbeat,
        slots=work.slots,
        wake=partial(_call_all, wakes),
    )
    lifecycle = Lifecycle(running, config)
    return EngineParts(
        lease=lease,
        slots=work.slots,
        rescuer=work.rescuer,
        heartbeat=heartbeat,
        schedules=work.schedules,
        lifecycle=lifecycle,
        executor=work.executor,
        own_worker=own_worker,
        vitals=_wire_vitals(work, lease, lifecycle, config),
        close=close,
    )


def _wire_own_worker(work: "_WorkParts", lease: Lease, config: EngineConfig) -> OwnWorker:
    return OwnWorker(
        work.claiming,
        work.starts,
        work.slots,
        quarantine=work.quarantine,
        lease=lease,
        ghosts=work.ghosts,
        clock=work.clock,
        config=config,
        on_idle=work.completions.hurry,
    )


def _wire_vitals(work: "_WorkParts", lease: Lease, lifecycle: Lifecycle, config: EngineConfig) -> Callable[[], Vitals]:
    return partial(
        look,
        config,
        lease=lease,
        slots=work.slots,
        lifecycle=lifecycle,
        executor=work.executor,
        completions=work.completions,
        ticker=work.ticker,
        rescuer=work.rescuer,
    )


async def wire_by_hand(
    pool: Pool,
    registry: Registry,
    config: EngineConfig,
    bell: Bell,
    card: WorkerCard,
    periodic: PeriodicJobs,
    *,
    submitting: SubmissionParts,
    middleware: Sequence[Middleware],
    agenda: Agenda,
    time_limit: TimeLimit,
    addresses: Addresses,
) -> HandDriven:
    """A worker of which nothing runs by itself. It looks at every instant that matters, and needs nothing before."""
    config = replace(config, poll_seconds=0.0, prefetch_seconds=0.0)
    lines = await _open_quiet_lines(pool, config, addresses)
    lease = Lease(config.lease_seconds, clock=lambda: 0.0)  # held by construction: renewed before the clock is moved
    runs = Runs()
    work = _wire_work(
        pool,
        registry,
        config,
        bell,
        periodic,
        lines,
        submitting,
        middleware,
        lease=lease,
        make_performer=partial(
            Witness, environment=Environment(os.environ), runs=runs, agenda=agenda, time_limit=time_limit
        ),
        wakes=_Wakes(claim=asyncio.Event(), overdue=asyncio.Event(), tick=asyncio.Event()),
        on_release=agenda.stirred.set,
        on_look=_ignore,
    )
    return HandDriven(
        lines.database,
        card,
        registry,
        agenda=agenda,
        runs=runs,
        lease=lease,
        slots=work.slots,
        claim_loop=work.claim_loop,
        ticker=work.ticker,
        completions=work.completions,
        rescuer=work.rescuer,
        jobs=lines.jobs,
        schedules=work.schedules,
        periodic=periodic,
        close=work.close,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wakes:
    """What ends the sleeps of a worker's claim loop and ticker."""

    claim: asyncio.Event
    overdue: asyncio.Event
    tick: asyncio.Event


@dataclass(frozen=True, slots=True, kw_only=True)
class _WorkParts:
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


def _wire_work(
    pool: Pool,
    registry: Registry,
    config: EngineConfig,
    bell: Bell,
    periodic: PeriodicJobs,
    lines: "_Lines",
    submitting: SubmissionParts,
    middleware: Sequence[Middleware],
    *,
    lease: Lease,
    make_performer: Callable[[Calls], Performer],
    wakes: _Wakes,
    on_release: Callable[[], None],
    on_look: Callable[[Ahead], None],
) -> _WorkParts:
    schedules, ghosts, clock = ScheduleStore(lines.database), Ghosts(), DatabaseClock()
    completions = Completions(
        lines.outcomes,
        on_tick_failed=lambda: ticker.run_failed(),  # noqa: PLW0108  each needs the other
        on_written=lambda jobs: claim_loop.ended(jobs),  # noqa: PLW0108
    )
    slots = Slots(config.slots, on_release=on_release)
    offloading = Offloading(config.slots)
    calls = _wire_calls(pool, registry, config, bell, lines.jobs, offloading, submitting, middleware)
    executor = Executor(make_performer(calls), slots, completions)
    starts = Starts(executor, slots, clock, lease=lease)
    ticker = Ticker(
        lines.database, schedules, periodic, lease=lease, config=config, wake=wakes.tick, on_ticked=bell.ring
    )
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

    return _WorkParts(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    """The connections of one worker: a pool, two kept for claims, one for outcomes, and one that is woken."""

    pool: Pool
    database: Database
    jobs: JobStore
    claims: JobStore
    beside: JobStore
    outcomes: JobStore
    wakeups: Wakeups
    kept: Sequence[KeptConnection]

    async def close(self) -> None:
        """Close them all."""
        for line in self.kept:
            await line.close()
        await self.wakeups.close()
        await self.database.close()


async def _open_lines(pool: Pool, config: EngineConfig, addresses: Addresses, bells: Mapping[str, Bell]) -> _Lines:
    own = await _open_own(pool, config, addresses)
    database = Database(own, place=place_of(own), acquire_seconds=config.connect_seconds)
    connect = partial(connect_like, own, command_timeout=config.command_seconds, connect_timeout=config.connect_seconds)
    kept = [KeptConnection(connect, place=place_of(own)) for _ in range(3)]
    lines: list[Statements] = [database, *kept]
    jobs, claims, beside, outcomes = (JobStore(line, wake_within_seconds=config.poll_seconds) for line in lines)
    try:
        wakeups = await choose_wakeups(
            _listen_connect(own, config, addresses),
            database,
            bells,
            place=where(addresses.direct) if addresses.direct else place_of(own),
            poll_seconds=config.poll_seconds,
            polling=config.polling,
        )
    except BaseException:
        await database.close()
        raise
    return _Lines(
        pool=own,
        database=database,
        jobs=jobs,
        claims=claims,
        beside=beside,
        outcomes=outcomes,
        wakeups=wakeups,
        kept=kept,
    )


async def _open_quiet_lines(pool: Pool, config: EngineConfig, addresses: Addresses) -> _Lines:
    """One pool for all, and nobody to wake: whoever drives this worker knows when to look."""
    own = await _open_own(pool, config, addresses, init=in_haste)
    database = Database(own, place=place_of(own), acquire_seconds=config.connect_seconds)
    jobs = JobStore(database, wake_within_seconds=None)
    return _Lines(
        pool=own,
        database=database,
        jobs=jobs,
        claims=jobs,
        beside=jobs,
        outcomes=jobs,
        wakeups=Polling(config.polling),
        kept=(),
    )


async def _open_own(
    pool: Pool,
    config: EngineConfig,
    addresses: Addresses,
    init: Callable[[Connection], Coroutine[Any, Any, None]] | None = None,
) -> Pool:
    return await open_pool_like(
        pool,
        size=ENGINE_CONNECTIONS,
        command_timeout=config.command_seconds,
        connect_timeout=config.connect_seconds,
        dsn=addresses.own,
        init=init,
    )


def _wire_calls(
    pool: Pool,
    registry: Registry,
    config: EngineConfig,
    bell: Bell,
    jobs: JobStore,
    offloading: Offloading,
    submitting: SubmissionParts,
    middleware: Sequence[Middleware],
) -> Calls:
    services = JobServices(
        submission=submitting.submission,
        database=submitting.database,
        jobs=submitting.jobs,
        transactions=JobTransactions(
            pool, jobs, lease_seconds=config.lease_seconds, command_seconds=config.command_seconds
        ),
        on_submitted=bell.ring,
    )

    def make_context(held: HeldJob, deadline: float | None) -> JobContext:
        return context_of(held, services, deadline)

    return Calls(registry, make_context=make_context, offloading=offloading, middleware=middleware)


def _ignore(_: object) -> None:
    """Nobody asks."""


def _call_all(functions: Sequence[Callable[[], None]]) -> None:
    for function in functions:
        function()


def _listen_connect(own: Pool, config: EngineConfig, addresses: Addresses) -> Connect:
    if addresses.direct:
        return partial(connect_to, addresses.direct, command_timeout=config.command_seconds)
    return partial(connect_like, own, command_timeout=config.command_seconds)


async def wire_control(dsn: str | Callable[[], str]) -> ControlParts:
    """The operator's side: connections are opened when they are needed, so that it starts without a database."""
    pool = await open_pool(dsn, size=CONTROL_CONNECTIONS, eager=False, command_timeout=30)
    database = Database(pool, place=place_of(pool))
    return ControlParts(
        database=database,
        sources=SourceStore(database, wake_within_seconds=POLL_SECONDS),
        schedules=ScheduleStore(database),
        operations=OperationsStore(database),
        limits=LimitStore(database),
        pools=PoolStore(database),
        demand=DemandStore(database),
        migrate=partial(migrator.migrate_place_of, pool),
    )


def new_worker_id(length: int = WORKER_ID_LENGTH) -> str:
    """A random name, new for each incarnation."""
    return secrets.token_hex(length)[:length]


def worker_card(
    config: EngineConfig, *, version: str, schedules: Sequence[str], environment: Mapping[str, str]
) -> WorkerCard:
    """What a worker says of itself; the name is new for each incarnation and filled in then."""
    return WorkerCard(
        worker_id="",
        tenant=config.tenant,
        queues=config.queues,
        schedules=schedules,
        slots=config.slots,
        version=version,
        pod=environment.get("PGSCHEDULER_POD_NAME"),
        pod_uid=environment.get("PGSCHEDULER_POD_UID"),
        pod_namespace=environment.get("PGSCHEDULER_POD_NAMESPACE"),
        node=environment.get("PGSCHEDULER_NODE_NAME"),
        pool=config.pool,
    )
