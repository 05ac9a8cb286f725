"""A schedule for each customer, made while the program runs; two seconds of it, and what became of every tick."""

import asyncio
from datetime import timedelta

import asyncpg

from pg_scheduler import JobContext, Scheduler
from pg_scheduler.embedded import EmbeddedPostgres

ran = asyncio.Event()


async def report(customer: str, ctx: JobContext) -> None:
    """What it covers begins where the run before it ended, also after an outage."""
    if ctx.tick is None or ctx.previous_tick is None:
        print(f"report of {customer}: its first")
    else:
        print(f"report of {customer}: {ctx.tick - ctx.previous_tick} after the last")
        ran.set()


async def main(dsn: str) -> None:
    async with asyncpg.create_pool(dsn) as pool, Scheduler(pool) as scheduler:
        await scheduler.upsert_schedule(
            "report-acme",
            report,
            every=timedelta(seconds=1),
            kwargs={"customer": "acme"},
            max_runs=2,
            missed="run_latest",
            overlap="skip",
            suspend_after_failures=3,
        )
        for schedule in await scheduler.schedules():
            print(f"{schedule.uid}: {schedule.description}")
        await ran.wait()
        await scheduler.suspend_schedule("report-acme", reason="the customer is on holiday", by="ops")
        ledger = await scheduler.schedule_ledger("report-acme")
        print("accounted for:", ledger is not None and ledger.unaccounted == 0)


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(main(server.dsn))
