"""The side of the operator and the command line."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from pg_scheduler._engine.config import POLL_SECONDS
from pg_scheduler._store import migrator
from pg_scheduler._store.connections import open_pool, place_of
from pg_scheduler._store.database import Database
from pg_scheduler._store.demand import DemandStore
from pg_scheduler._store.limits import LimitStore
from pg_scheduler._store.migration_files import Migration
from pg_scheduler._store.operations import OperationsStore
from pg_scheduler._store.pools import PoolStore
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler._store.sources import SourceStore

CONTROL_CONNECTIONS = 4
COMMAND_SECONDS = 30


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


async def wire_control(dsn: str | Callable[[], str]) -> ControlParts:
    """The operator's side: connections are opened when they are needed, so that it starts without a database."""
    pool = await open_pool(dsn, size=CONTROL_CONNECTIONS, eager=False, command_timeout=COMMAND_SECONDS)
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
