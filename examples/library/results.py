"""Wait for what a job returns, in any process; a failure comes back with its record."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from pg_scheduler import Fail, Scheduler, task
from pg_scheduler.embedded import EmbeddedPostgres
from pg_scheduler.errors import JobFailed


@dataclass
class Order:
    id: int
    cents: int


@task(keep_result=True)
async def quote(order: Order) -> dict[str, int]:
    if order.cents < 0:
        raise Fail("an order cannot cost less than nothing")  # no further attempt can help
    return {"order": order.id, "cents": order.cents * 119 // 100}


async def main(dsn: str) -> None:
    async with asyncpg.create_pool(dsn) as pool, Scheduler(pool) as scheduler:
        now = datetime.now(UTC)
        good = await scheduler.schedule(quote, execution_time=now, args=(Order(1, 1000),))
        bad = await scheduler.schedule(quote, execution_time=now, args=(Order(2, -5),), max_retries=3)
        print(await scheduler.result(good, timeout=30))
        try:
            await scheduler.result(bad, timeout=30)
        except JobFailed as error:
            print(f"{error.error_message} (attempt {error.attempt})")


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(main(server.dsn))
