"""Jobs that share a concurrency key, and the slots that they hold."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from support.world import LONG_AGO

if TYPE_CHECKING:
    import asyncpg

    from support.world import World


async def keyed(world: World, count: int = 1, **changes: Any) -> list[str]:
    """Jobs with the key ``k``, due one after the other."""
    first = changes.pop("execution_time", LONG_AGO)
    return [
        await world.pending(**{"concurrency_key": "k", "execution_time": first + timedelta(seconds=number), **changes})
        for number in range(count)
    ]


async def held(world: World) -> list[tuple[str, int]]:
    """Who holds which slot."""
    rows = await world.pool.fetch("SELECT job_id, slot FROM scheduler_slots ORDER BY tenant, key, slot")
    return [(row["job_id"], row["slot"]) for row in rows]


async def somebody_waits_for_a_lock(pool: asyncpg.Pool[asyncpg.Record]) -> bool:
    return bool(
        await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )
