"""Tasks and a worker's main program, for tests that need a process to kill."""

from __future__ import annotations

import asyncio
import sys

import asyncpg

from pg_scheduler import Scheduler


async def hang() -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


async def main(dsn: str, lease_seconds: float) -> None:
    async with asyncpg.create_pool(dsn, min_size=1) as pool:
        scheduler = Scheduler(pool, lease_seconds=lease_seconds)
        scheduler.register(hang)
        await scheduler.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
