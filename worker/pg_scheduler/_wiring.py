"""The composition root: which part gets which."""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pg_scheduler._engine.bulk_submission import BulkSubmission
from pg_scheduler._engine.calls import Calls, Middleware
from pg_scheduler._engine.claim_loop import ClaimLoop
from pg_scheduler._engine.clock import DatabaseClock
from pg_scheduler._engine.completions import Completions
from pg_scheduler._engine.config import POLL_SECONDS, EngineConfig
from pg_scheduler._engine.executor import Executor
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.heartbeat import Heartbeat
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.lifecycle import Lifecycle, Service, Services
from pg_scheduler._engine.offloading import Offloading
from pg_scheduler._engine.performing import Performer
from pg_scheduler._engine.periodic_jobs import PeriodicJobs
from pg_scheduler._engine.quarantine import Quarantine
from pg_scheduler._engine.rescuer import Rescuer
from pg_scheduler._engine.results import Results
from pg_scheduler._engine.runtime import JobServices, context_of
from pg_scheduler._engine.slots import HeldJob, Slots
from pg_scheduler._engine.starts import Starts
from pg_scheduler._engine.submission import Submission
from pg_scheduler._engine.suspicion import Suspicion
from pg_scheduler._engine.ticker import Ticker
from pg_scheduler._engine.vacuumer import Vacuumer
from pg_scheduler._store.bulk import BulkStore
from pg_scheduler._store.database import Database, Pool, connect_like, open_pool, open_pool_like, place_of
from pg_scheduler._store.dsn import where
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.kept import KeptConnection
from pg_scheduler._store.listing import ListingStore, QueueStore
from pg_scheduler._store.results import RESULTS_CHANNEL, ResultStore
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler._store.sources import SourceStore
from pg_scheduler._store.transactions import JobTransactions
from pg_scheduler._store.vacuum import VacuumStore
from pg_scheduler._store.wakeups import JOBS_CHANNEL, SCHEDULES_CHANNEL, Bell, Listener
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
class SubmissionParts:
    """What a process needs to submit jobs, through the caller's own pool."""

    database: Database
    jobs: JobStore
    submission: Submission
    bulk: BulkSubmission
    periodic: PeriodicJobs
    listing: ListingStore
    queues: QueueStore
    rescuer: Rescuer
    vacuum: VacuumStore
    vacuumer: Vacuumer
    results: Results


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
    close: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlParts:
    """What the operator's side consists of."""

    database: Database
    sources: SourceStore
    schedules: ScheduleStore


def wire_submission(
    pool: Pool,
    registry: Registry,
    config: EngineConfig,
    retention: VacuumConfig,
    bell: Bell,
    declared: Callable[[], Mapping[str, PeriodicJobConfig]],
    *,
    runs_here: Callable[[], bool],
) -> SubmissionParts:
    """Submission through the caller's pool; ``bell`` wakes a worker in the same process after the commit."""
    database = Database(pool, place=place_of(pool))
    jobs = JobStore(database, wake_within_seconds=config.poll_seconds)
    submission = Submission(jobs, registry, config=config, on_submitted=bell.ring, runs_here=runs_here)
    bulk = BulkSubmission(
        submission, BulkStore(database, pool), wake_within_seconds=config.poll_seconds, on_submitted=bell.ring
    )
    vacuum = VacuumStore(database)
    return SubmissionParts(
        database=database,
        jobs=jobs,
        submission=submission,
        bulk=bulk,
        periodic=PeriodicJobs(ScheduleStore(database), declared, tenant=config.tenant, on_triggered=bell.ring),
        listing=ListingStore(database, tenant=config.tenant),
        queues=QueueStore(database, tenant=config.tenant),
        rescuer=Rescuer(WorkerStore(database), jobs, own_lease=Lease(config.lease_seconds), config=config),
        vacuum=vacuum,
        vacuumer=Vacuumer(vacuum, tenant=config.tenant, config=retention),
        results=_wire_results(pool, database, config),
    )


def _wire_results(pool: Pool, database: Database, config: EngineConfig) -> Results:
    bell = Bell()
    listener = Listener(pool, {RESULTS_CHANNEL: bell}, command_timeout=config.command_seconds)
    return Results(ResultStore(database), bell, listener)


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
) -> EngineParts:
    """A worker on connections of its own, to the place that the caller's pool connects to; nothing runs yet."""
    own = await open_pool_like(pool, size=ENGINE_CONNECTIONS, command_timeout=config.command_seconds)
    database = Database(own, place=place_of(pool))
    jobs = JobStore(database, wake_within_seconds=config.poll_seconds)
    connect = partial(connect_like, pool, command_timeout=config.command_seconds)
    claiming, finishing = (KeptConnection(connect, place=place_of(pool)) for _ in range(2))
    schedules = ScheduleStore(database)
    lease = Lease(config.lease_seconds)
    completions = Completions(JobStore(finishing, wake_within_seconds=config.poll_seconds))
    schedules_bell = Bell()
    claim_wake, tick_wake = bell.subscribe(), schedules_bell.subscribe()
    ticker = Ticker(database, schedules, periodic, lease=lease, config=config, wake=tick_wake, on_ticked=bell.ring)
    slots = Slots(config.slots, on_release=lambda: claim_loop.slot_released())  # noqa: PLW0108  each needs the other
    ghosts, clock = Ghosts(), DatabaseClock()
    offloading = Offloading(config.slots)
    services = _wire_job_services(pool, registry, config, bell, jobs, submitting)

    def make_context(held: HeldJob, deadline: float | None) -> JobContext:
        return context_of(held, services, deadline)

    calls = Calls(registry, make_context=make_context, offloading=offloading, middleware=middleware)
    executor = Executor(Performer(calls), slots, completions)
    starts = Starts(executor, slots, clock)
    claims = JobStore(claiming, wake_within_seconds=config.poll_seconds)
    claim_loop = ClaimLoop(
        claims,
        starts,
        slots,
        registry,
        lease=lease,
        ghosts=ghosts,
        clock=clock,
        quarantine=Quarantine(claims, slots, registry, lease=lease, ghosts=ghosts, config=config),
        config=config,
        wake=claim_wake,
        on_look=lambda ahead: ticker.expect(ahead.tick_in),
    )
    workers = WorkerStore(database)
    rescuer = Rescuer(workers, jobs, own_lease=lease, config=config)
    suspicion = Suspicion(workers, own_lease=lease, config=config, sweep_in=rescuer.sweep_in)
    listener = Listener(
        pool, {JOBS_CHANNEL: bell, SCHEDULES_CHANNEL: schedules_bell}, command_timeout=config.command_seconds
    )
    heartbeat = Heartbeat(
        pool,
        card,
        registry.keys,
        lease=lease,
        slots=slots,
        known_tokens=lambda: slots.tokens() | completions.tokens(),
        finished_tokens=completions.tokens,
        flush=completions.wake,
        ghosts=ghosts,
        config=config,
        new_worker_id=new_worker_id,
        on_stall=on_stall,
    )

    taking: dict[str, Service] = {
        "starts": starts.run,
        "claim loop": claim_loop.run,
        "ticker": ticker.run,
        "rescuer": rescuer.run,
        "suspicion": suspicion.run,
        "listener": listener.run,
    }
    wakes = [claim_wake.set, tick_wake.set, rescuer.wake, suspicion.wake, completions.wake]
    if retention is not None:
        vacuumer = Vacuumer(VacuumStore(database), tenant=config.tenant, config=retention)
        taking["vacuumer"] = vacuumer.run
        wakes.append(vacuumer.wake)

    def wake_all() -> None:
        for wake in wakes:
            wake()

    running = Services(
        taking=taking,
        completions=completions,
        heartbeat=heartbeat,
        slots=slots,
        wake=wake_all,
    )

    async def close() -> None:
        bell.unsubscribe(claim_wake)
        await claiming.close()
        await finishing.close()
        offloading.close()
        await database.close()

    return EngineParts(
        lease=lease,
        slots=slots,
        rescuer=rescuer,
        heartbeat=heartbeat,
        schedules=schedules,
        lifecycle=Lifecycle(running, config),
        executor=executor,
        close=close,
    )


def _wire_job_services(
    pool: Pool, registry: Registry, config: EngineConfig, bell: Bell, engine_jobs: JobStore, submitting: SubmissionParts
) -> JobServices:
    def submission_on(database: Database) -> Submission:
        """On the connection of a transaction nobody is told before the commit."""
        if database is submitting.database:
            return submitting.submission
        jobs = JobStore(database, wake_within_seconds=config.poll_seconds)
        return Submission(jobs, registry, config=config, on_submitted=_tell_nobody, runs_here=_yes)

    return JobServices(
        database=submitting.database,
        jobs=submitting.jobs,
        transactions=JobTransactions(
            pool, engine_jobs, lease_seconds=config.lease_seconds, command_seconds=config.command_seconds
        ),
        submission_on=submission_on,
        on_submitted=bell.ring,
    )


def _yes() -> bool:
    """A job that submits runs in a worker."""
    return True


def _tell_nobody() -> None:
    """The job is part of a transaction; its end tells."""


async def wire_control(dsn: str) -> ControlParts:
    """The operator's side: connections are opened when they are needed, so that it starts without a database."""
    pool = await open_pool(dsn, size=CONTROL_CONNECTIONS, eager=False, command_timeout=30)
    database = Database(pool, place=where(dsn))
    return ControlParts(
        database=database,
        sources=SourceStore(database, wake_within_seconds=POLL_SECONDS),
        schedules=ScheduleStore(database),
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
    )
