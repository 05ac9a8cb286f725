"""Settings of worker pools, in few words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pg_scheduler._store.pools import PoolKey, PoolStore
from pg_scheduler.pool_settings import PoolSettings, QueueSettings

if TYPE_CHECKING:
    from pg_scheduler._store.database import Database

MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)


def pool_key(name: str = "pool", *, tenant: str = "", age: int = 0, generation: int = 1) -> PoolKey:
    """A pool that was made so many days before the others."""
    made_at = MADE_AT - timedelta(days=age)
    return PoolKey(tenant=tenant, name=name, cluster="c", uid=f"u-{name}", generation=generation, made_at=made_at)


async def say(
    database: Database, pool: PoolKey | None = None, allowed: tuple[str, ...] | None = None, **queues: QueueSettings
) -> None:
    """Store what a pool says."""
    assert await PoolStore(database).set(pool or pool_key(), PoolSettings(queues=queues, allowed_tasks=allowed))
