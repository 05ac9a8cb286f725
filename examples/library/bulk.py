"""Many jobs in one call, from a generator, in bounded memory; submitted twice, there once."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import asyncpg

from pg_scheduler import JobFilter, JobSpec, Scheduler, task
from pg_scheduler.embedded import EmbeddedPostgres


@task(name="examples.remind")
async def remind(customer: int) -> None:
    print(f"a reminder for {customer}")


def reminders() -> Iterator[JobSpec]:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for customer in range(5_000):
        yield JobSpec(remind, tomorrow, args=(customer,), job_id=f"remind-{customer}", tags=["reminder"])


async def main(dsn: str) -> None:
    async with asyncpg.create_pool(dsn) as pool:
        scheduler = Scheduler(pool)  # not started: this process submits and runs nothing
        await scheduler.initialize_db()
        ids = await scheduler.schedule_bulk(reminders())
        again = await scheduler.schedule_bulk(reminders())  # IGNORE: None where the id is taken
        print(f"{len(ids)} jobs, and {sum(job_id is not None for job_id in again)} more")
        async for job in scheduler.jobs(JobFilter(tags=["reminder"], ids=["remind-7"])):
            print(job.job_id, "is", job.status.value)


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(main(server.dsn))
