"""An order is marked as paid, its receipt enqueued and the job completed by one commit, or none of it happens."""

import asyncio
from datetime import UTC, datetime

import asyncpg

from pg_scheduler import JobContext, Scheduler
from pg_scheduler.embedded import EmbeddedPostgres


class PaymentProvider:
    """Stands for a service outside the database, which knows a repetition by its key."""

    async def capture(self, order_id: int, *, idempotency_key: str) -> None:
        print(f"captured order {order_id}, key {len(idempotency_key)} characters")


psp = PaymentProvider()
done = asyncio.Event()


async def send_receipt(order_id: int) -> None:
    print(f"receipt for order {order_id}")
    done.set()


async def charge(order_id: int, ctx: JobContext) -> None:
    await psp.capture(order_id, idempotency_key=ctx.idempotency_key)
    async with ctx.transaction() as connection:
        await connection.execute("UPDATE orders SET paid = true, fence = $2 WHERE id = $1", order_id, ctx.token)
        await ctx.enqueue(send_receipt, kwargs={"order_id": order_id})


async def main(dsn: str) -> None:
    async with asyncpg.create_pool(dsn) as pool, Scheduler(pool) as scheduler:
        await pool.execute("CREATE TABLE orders (id int PRIMARY KEY, paid bool, fence bigint)")
        async with pool.acquire() as connection, connection.transaction():  # the order and its job: one commit too
            await connection.execute("INSERT INTO orders VALUES (4711, false)")
            now = datetime.now(UTC)
            await scheduler.schedule(charge, execution_time=now, args=(4711,), connection=connection)
        await done.wait()
        print("paid:", await pool.fetchval("SELECT paid FROM orders"))


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(main(server.dsn))
