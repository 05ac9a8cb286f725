"""A worker as a process of its own: apps loaded, database waited for, jobs run until a signal.

Invariant: what the command line names is imported before anything is connected, so that a wrong name is told at once
and no worker ever registers with half of its tasks.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pg_scheduler._store.connections import open_pool, place_of
from pg_scheduler._store.database import Database
from pg_scheduler._store.ledger import LedgerStore
from pg_scheduler._store.tls import secured, secured_dsn
from pg_scheduler.cli import app_loading
from pg_scheduler.cli.exit_codes import EXIT_STALLED
from pg_scheduler.cli.extras import needs_extra
from pg_scheduler.cli.first_contact import first_contact, once_migrated
from pg_scheduler.cli.loops import loop_factory
from pg_scheduler.cli.ping import add_ping
from pg_scheduler.cli.stop_signals import StopSignals
from pg_scheduler.errors import AppNotFound
from pg_scheduler.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pg_scheduler._serving.server import WorkerServer
    from pg_scheduler._store.driver import Pool
    from pg_scheduler._store.tls import Dsn
    from pg_scheduler.cli.app_loading import App
    from pg_scheduler.errors import MainLoopStalled
    from pg_scheduler.vacuum import VacuumConfig

POOL_SIZE = 10
"""Connections for what jobs themselves submit, opened when needed; the engine has its own."""
CLOSE_SECONDS = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What the command line says of a worker."""

    apps: Sequence[str]
    dsn: Dsn
    direct_dsn: str | None
    tenant: str
    queues: Sequence[str]
    slots: int
    lease_seconds: float
    max_stall_seconds: float
    shutdown_seconds: float
    migrates: bool
    retention: VacuumConfig
    database_wait_seconds: float
    http: tuple[str, int] | None
    until_stdin_closes: bool

    @classmethod
    def secured(cls, dsn: Dsn, *, allow_insecure: bool, direct_dsn: str | None, **others: Any) -> WorkerSettings:
        """Settings of a worker that sends its password to no server which does not prove its name.

        Raises:
            InvalidDsn: a connection string asks for less.
        """
        return cls(
            dsn=secured(dsn, allow_insecure=allow_insecure),
            direct_dsn=direct_dsn and secured_dsn(direct_dsn, allow_insecure=allow_insecure),
            **others,
        )


def run(settings: WorkerSettings) -> int:
    """Run a worker to its end; the exit code of the process.

    Raises:
        AppNotFound: something that was named is not there or holds no task.
        DatabaseUnreachable: not within the time to wait for it.
        CannotListen: not where probes and metrics were asked for.
        MissingExtra: probes and metrics were asked for and need a package.
    """
    server = _server(settings)
    apps = [app_loading.load(name) for name in settings.apps]
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(settings, apps, server))


async def _serve(settings: WorkerSettings, apps: Sequence[App], server: WorkerServer | None) -> int:
    signals = StopSignals()
    signals.install()
    if settings.until_stdin_closes:
        signals.stop_when_stdin_closes()
    async with server or nullcontext():  # from before the database answers until the last job has ended
        return await _work(settings, apps, signals, server)


async def _work(
    settings: WorkerSettings, apps: Sequence[App], signals: StopSignals, server: WorkerServer | None
) -> int:
    connecting = first_contact(
        lambda: open_pool(settings.dsn, size=POOL_SIZE, eager=True), wait_seconds=settings.database_wait_seconds
    )
    pool = await signals.unless_asked_to_end(connecting)
    if pool is None:
        return signals.exit_code
    try:
        scheduler = await _scheduler(settings, apps, pool)
        scheduler.on_stall(_end_at_once)
        if server is not None:
            server.watch(scheduler.vitals)
        add_ping(lambda: scheduler.worker_id)
        await signals.unless_asked_to_end(_start(scheduler))
        try:
            await signals.unless_asked_to_end(_until_failed(scheduler, server, pool))
        finally:
            await scheduler.shutdown()
    finally:
        await _close(pool)
    logger.info("worker ended")
    return signals.exit_code


async def _start(scheduler: Scheduler) -> None:
    await once_migrated(scheduler.start)
    keys = sorted(scheduler.task_map)
    logger.info("worker %s started with %d tasks: %s", scheduler.worker_id, len(keys), ", ".join(keys))


async def _until_failed(scheduler: Scheduler, server: WorkerServer | None, pool: Pool) -> None:
    async with asyncio.TaskGroup() as parts:
        parts.create_task(scheduler.wait_failed())
        if server is not None:
            parts.create_task(server.read_ledger(LedgerStore(Database(pool, place=place_of(pool)))))


def _end_at_once(error: MainLoopStalled) -> None:
    """The loop that an orderly end needs is the one that stands still; others have the jobs within seconds."""
    logger.critical("error %s: %s; ending this process", error.code, error)
    os._exit(EXIT_STALLED)


async def _scheduler(settings: WorkerSettings, apps: Sequence[App], pool: Pool) -> Scheduler:
    """The scheduler that a factory among the apps makes, else one as the options say; with the modules' tasks."""
    factories = [app for app in apps if app.factory is not None]
    if len(factories) > 1:
        raise AppNotFound(
            f"two factories: {factories[0].name} and {factories[1].name}",
            fix="a worker has one Scheduler: name one factory",
        )
    scheduler = await _made_by(factories[0], pool) if factories else _as_told(settings, pool)
    scheduler.register(*(app.module for app in apps if app.factory is None))
    return scheduler


def _as_told(settings: WorkerSettings, pool: Pool) -> Scheduler:
    logger.info(
        "tenant %r, queues %s, %d slots, lease %g s",
        settings.tenant, ", ".join(settings.queues), settings.slots, settings.lease_seconds,
    )  # fmt: skip
    return Scheduler(
        pool,
        vacuum_config=settings.retention,
        max_concurrent_jobs=settings.slots,
        tenant=settings.tenant,
        queues=settings.queues,
        lease_seconds=settings.lease_seconds,
        max_stall=settings.max_stall_seconds,
        shutdown_timeout=settings.shutdown_seconds,
        auto_migrate=settings.migrates,
        direct_dsn=settings.direct_dsn,
    )


async def _made_by(app: App, pool: Pool) -> Scheduler:
    if app.factory is None:
        raise TypeError(f"{app.name} is no factory")
    try:
        made = app.factory(pool)
        if inspect.isawaitable(made):
            made = await made
    except Exception as error:
        raise app_loading.fault_of_the_app(f"{app.name} raised", error) from error
    if not isinstance(made, Scheduler):
        raise AppNotFound(
            f"{app.name} returned a {type(made).__name__}, not a Scheduler",
            fix="after the colon stands a function that takes a connection pool and returns a Scheduler",
        )
    return made


def _server(settings: WorkerSettings) -> WorkerServer | None:
    if settings.http is None:
        return None
    with needs_extra("worker"):
        from pg_scheduler._serving.server import WorkerServer  # noqa: PLC0415  (an extra, and only for this option)
    return WorkerServer(*settings.http)


async def _close(pool: Pool) -> None:
    """Close the pool, without waiting for connections that a job does not give back."""
    try:
        await asyncio.wait_for(pool.close(), CLOSE_SECONDS)
    except TimeoutError:
        pool.terminate()
