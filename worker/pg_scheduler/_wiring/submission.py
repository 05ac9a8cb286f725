"""Submission, and whatever else a process asks of the database without ever starting a worker."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from pg_scheduler._domain.payloads import Payloads
from pg_scheduler._engine.bulk_submission import BulkSubmission
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.older_package import OlderPackage
from pg_scheduler._engine.own_worker import OwnWorker
from pg_scheduler._engine.periodic_jobs import PeriodicJobs
from pg_scheduler._engine.queues import Queues
from pg_scheduler._engine.rescuer import Rescuer
from pg_scheduler._engine.results import Results
from pg_scheduler._engine.runtime_schedules import RuntimeSchedules
from pg_scheduler._engine.schedules import Schedules
from pg_scheduler._engine.submission import Submission
from pg_scheduler._engine.vacuumer import Vacuumer
from pg_scheduler._store.bulk import BulkStore
from pg_scheduler._store.connections import connect_like, place_of
from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Pool
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.listing import ListingStore, QueueStore
from pg_scheduler._store.older_package import OlderPackageStore
from pg_scheduler._store.results import RESULTS_CHANNEL, ResultStore
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler._store.vacuum import VacuumStore
from pg_scheduler._store.wakeups import Bell, Listening
from pg_scheduler._store.workers import WorkerStore
from pg_scheduler.periodic import PeriodicJobConfig
from pg_scheduler.tasks import Registry
from pg_scheduler.vacuum import VacuumConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionParts:
    """What a process needs to submit jobs, through the caller's own pool."""

    database: Database
    jobs: JobStore
    submission: Submission
    bulk: BulkSubmission
    periodic: PeriodicJobs
    schedules: Schedules
    listing: ListingStore
    queues: Queues
    rescuer: Rescuer
    vacuumer: Vacuumer
    results: Results
    older_package: OlderPackage


def wire_submission(
    pool: Pool,
    registry: Registry,
    config: EngineConfig,
    retention: VacuumConfig,
    bell: Bell,
    declared: Callable[[], Mapping[str, PeriodicJobConfig]],
    *,
    own_worker: Callable[[], OwnWorker | None],
    notify_workers: bool,
    payloads: Payloads,
) -> SubmissionParts:
    """Submission through the caller's pool; ``bell`` wakes a worker in the same process after the commit."""
    database = Database(pool, place=place_of(pool), repeats=True)
    tenant = config.tenant
    wake_within = config.poll_seconds if notify_workers else None
    jobs, schedules = JobStore(database, wake_within_seconds=wake_within), ScheduleStore(database, payloads)
    submission = Submission(
        jobs, registry, config=config, on_submitted=bell.ring, own_worker=own_worker, payloads=payloads
    )
    bulk_store = BulkStore(database, pool)
    periodic = PeriodicJobs(schedules, declared, tenant=tenant, on_triggered=bell.ring)
    runtime = RuntimeSchedules(schedules, tenant=tenant, on_triggered=bell.ring)
    return SubmissionParts(
        database=database,
        jobs=jobs,
        submission=submission,
        bulk=BulkSubmission(submission, bulk_store, wake_within_seconds=wake_within, on_submitted=bell.ring),
        periodic=periodic,
        schedules=Schedules(periodic, runtime),
        listing=ListingStore(database, tenant=tenant),
        queues=Queues(QueueStore(database, tenant=tenant)),
        rescuer=Rescuer(WorkerStore(database), jobs, own_lease=Lease(config.lease_seconds), config=config),
        vacuumer=Vacuumer(VacuumStore(database), tenant=tenant, config=retention),
        results=_wire_results(pool, database, config, payloads),
        older_package=OlderPackage(OlderPackageStore(database), registry, tenant=tenant),
    )


def _wire_results(pool: Pool, database: Database, config: EngineConfig, payloads: Payloads) -> Results:
    bell = Bell()
    listening = Listening(
        None,
        partial(connect_like, pool, command_timeout=config.command_seconds),
        {RESULTS_CHANNEL: bell},
        place=place_of(pool),
        poll_seconds=config.poll_seconds,
        polling=config.polling,
    )
    return Results(ResultStore(database), bell, listening, payloads)
