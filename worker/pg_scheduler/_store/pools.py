"""Rows of ``scheduler_pool_settings`` and ``scheduler_queue_settings``: what pools say, and what stands of it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Record
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.pool_settings import PoolSettings, PoolState, QueueSettings, RateLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolKey:
    """Which object a pool is; of two that say something of one queue the first made counts."""

    tenant: str
    name: str
    cluster: str
    uid: str
    generation: int
    made_at: datetime


class PoolStore:
    """The statements of ``sql/pools.sql``."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def set(self, pool: PoolKey, settings: PoolSettings) -> bool:
        """Store what this generation says, but for queues of older pools, and wake the workers.

        False where the name belongs to another cluster, or a newer generation of the object has been stored.
        """
        async with self._db.transaction() as connection:
            stored = await connection.fetchrow(
                QUERIES["upsert_pool"],
                pool.tenant,
                pool.name,
                pool.cluster,
                pool.uid,
                pool.generation,
                pool.made_at,
                settings.allowed_tasks,
            )
            if stored is None:
                return False
            await connection.execute(
                QUERIES["set_queue_settings"],
                pool.tenant,
                pool.name,
                list(settings.queues),
                *_columns(settings.queues.values()),
            )
            await connection.execute(QUERIES["drop_queue_settings"], pool.tenant, pool.name, list(settings.queues))
            await connection.execute(QUERIES["wake_workers"])
        return True

    async def state(self, pool: PoolKey, wanted: Collection[str]) -> PoolState:
        """What stands of a pool that wants to set these queues."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(QUERIES["pool_settings"], pool.tenant, pool.name, pool.cluster, pool.uid)
            queues = await connection.fetch(
                QUERIES["pool_queues"], pool.tenant, pool.name, list(wanted), pool.made_at, pool.uid
            )
        return PoolState(
            settings=None if row is None else _settings(row, [r for r in queues if r["pool"] == pool.name]),
            conflicts={r["queue"]: r["pool"] for r in queues if r["is_an_older_ones"]},
        )

    async def delete(self, tenant: str, name: str, cluster: str, uid: str | None) -> bool:
        """Forget a pool and the settings of its queues; whether there was one. Without ``uid`` whoever has the name."""
        return await self._db.fetchrow(QUERIES["delete_pool"], tenant, name, cluster, uid) is not None


def _columns(queues: Collection[QueueSettings]) -> tuple[list[object], ...]:
    """What is set of the queues, a list for each column."""
    return (
        [queue.weight for queue in queues],
        [queue.concurrency for queue in queues],
        [queue.rate.limit if queue.rate else None for queue in queues],
        [queue.rate.seconds if queue.rate else None for queue in queues],
        [queue.paused for queue in queues],
    )


def _settings(row: Record, queues: list[Record]) -> PoolSettings:
    allowed = row["allowed_tasks"]
    return PoolSettings(
        queues={queue["queue"]: _queue(queue) for queue in queues},
        allowed_tasks=None if allowed is None else tuple(allowed),
    )


def _queue(row: Record) -> QueueSettings:
    limit = row["rate_limit"]
    return QueueSettings(
        weight=row["weight"],
        concurrency=row["concurrency"],
        rate=None if limit is None else RateLimit(limit=limit, seconds=row["rate_seconds"]),
        paused=row["paused"],
    )
