"""The connections of a worker, to the place that the caller's pool connects to or to addresses of its own."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._store.clock import in_haste
from pg_scheduler._store.connections import connect_like, connect_to, open_pool_like, place_of
from pg_scheduler._store.database import Database, Statements
from pg_scheduler._store.driver import Connection, Pool
from pg_scheduler._store.dsn import checked_dsn, where
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.kept import KeptConnection
from pg_scheduler._store.wakeups import Bell, Connect, Polling, Wakeups, choose_wakeups

ENGINE_CONNECTIONS = 4


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
class Lines:
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


async def open_lines(pool: Pool, config: EngineConfig, addresses: Addresses, bells: Mapping[str, Bell]) -> Lines:
    """Those of a worker that runs by itself; a NOTIFY on one of the channels rings its bell."""
    own = await _open_own(pool, config, addresses)
    database = Database(own, place=place_of(own), acquire_seconds=config.connect_seconds)
    connect = partial(connect_like, own, command_timeout=config.command_seconds, connect_timeout=config.connect_seconds)
    kept = [KeptConnection(connect, place=place_of(own)) for _ in range(3)]
    statements: list[Statements] = [database, *kept]
    jobs, claims, beside, outcomes = (JobStore(each, wake_within_seconds=config.poll_seconds) for each in statements)
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
    return Lines(
        pool=own,
        database=database,
        jobs=jobs,
        claims=claims,
        beside=beside,
        outcomes=outcomes,
        wakeups=wakeups,
        kept=kept,
    )


async def open_quiet_lines(pool: Pool, config: EngineConfig, addresses: Addresses) -> Lines:
    """One pool for all, and nobody to wake: whoever drives this worker knows when to look."""
    own = await _open_own(pool, config, addresses, init=in_haste)
    database = Database(own, place=place_of(own), acquire_seconds=config.connect_seconds)
    jobs = JobStore(database, wake_within_seconds=None)
    return Lines(
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


def _listen_connect(own: Pool, config: EngineConfig, addresses: Addresses) -> Connect:
    if addresses.direct:
        return partial(connect_to, addresses.direct, command_timeout=config.command_seconds)
    return partial(connect_like, own, command_timeout=config.command_seconds)
