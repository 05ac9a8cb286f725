"""Plain functions as jobs: in a thread when they wait, in another process when they compute."""

import asyncio
import hashlib
import os
import time
from datetime import UTC, datetime

import asyncpg

from pg_scheduler import JobContext, Scheduler, task
from pg_scheduler.embedded import EmbeddedPostgres


@task(executor="thread", keep_result=True)
def wait_for_printer(pages: int, ctx: JobContext) -> str:
    for page in range(pages):
        time.sleep(0.01)
        if ctx.cancel_requested:  # nothing can stop a thread from outside
            return f"stopped at page {page}"
    return f"{pages} pages printed"


@task(executor="process", keep_result=True, timeout=60)
def digest(text: str) -> tuple[str, int]:
    return hashlib.sha256(text.encode()).hexdigest()[:8], os.getpid()


async def main(dsn: str) -> None:
    async with asyncpg.create_pool(dsn) as pool, Scheduler(pool) as scheduler:
        now = datetime.now(UTC)
        printed = await scheduler.schedule(wait_for_printer, execution_time=now, args=(3,))
        digested = await scheduler.schedule(digest, execution_time=now, args=("hello",))
        print(await scheduler.result(printed))
        sum_, pid = await scheduler.result(digested)
        print(f"{sum_}, in another process: {pid != os.getpid()}")


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(main(server.dsn))
