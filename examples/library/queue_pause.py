"""A queue is paused while a service is down: its jobs wait, and those of other queues run."""

import asyncio
from datetime import UTC, datetime

import asyncpg

from pg_scheduler import Scheduler, task
from pg_scheduler.embedded import EmbeddedPostgres


@task(keep_result=True)
async def send(what: str) -> str:
    return f"{what} is sent"


async def main(dsn: str) -> None:
    async with asyncpg.create_pool(dsn) as pool, Scheduler(pool, queues=("default", "mail")) as scheduler:
        await scheduler.pause_queue("mail", reason="the mail server is down", by="ops")
        now = datetime.now(UTC)
        mail = await scheduler.schedule(send, execution_time=now, args=("mail",), queue="mail")
        text = await scheduler.schedule(send, execution_time=now, args=("text",))
        print(await scheduler.result(text))
        for queue in await scheduler.queues():
            if queue.paused_at is not None:
                print(queue.queue, "is paused:", queue.reason)
        await scheduler.resume_queue("mail")
        print(await scheduler.result(mail))


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(main(server.dsn))
