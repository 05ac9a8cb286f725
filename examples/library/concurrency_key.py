"""Of the jobs that share a key, at most so many run at a time, over all workers."""

import asyncio
from datetime import UTC, datetime

import asyncpg

from pg_scheduler import Scheduler, task
from pg_scheduler.embedded import EmbeddedPostgres

running: list[int] = []
seen: set[int] = set()


@task(keep_result=True)
async def sync(part: int) -> None:
    running.append(part)
    await asyncio.sleep(0.1)
    seen.add(len(running))
    running.remove(part)


async def main(dsn: str) -> None:
    async with asyncpg.create_pool(dsn) as pool, Scheduler(pool) as scheduler:
        now = datetime.now(UTC)
        ids = [
            await scheduler.schedule(
                sync, execution_time=now, args=(part,), concurrency_key="customer-7", concurrency_limit=2
            )
            for part in range(6)
        ]
        for job_id in ids:
            await scheduler.result(job_id)
        print(f"6 jobs ran, at most {max(seen)} at a time")


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(main(server.dsn))
