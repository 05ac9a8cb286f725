"""An order and its job in one commit, by SQLAlchemy: sync and async sessions alike.

Run it with the tables in place (`pgscheduler migrate`) and PGSCHEDULER_DSN set.
"""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_scheduler.contrib.sqlalchemy import enqueue, enqueue_async


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]


async def send_receipt(order_id: int) -> None:
    """Run by a worker that has registered it."""
    print(f"receipt for order {order_id}")


def place_order(session: Session, item: str) -> str:
    """Both are committed together, or neither is."""
    order = Order(item=item)
    session.add(order)
    session.flush()
    return enqueue(session, send_receipt, args=[order.id], tags=["receipt"])


async def place_order_async(session: AsyncSession, item: str) -> str:
    order = Order(item=item)
    session.add(order)
    await session.flush()
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    return await enqueue_async(session, send_receipt, kwargs={"order_id": order.id}, run_at=in_an_hour)


def main(dsn: str) -> None:
    engine = sa.create_engine(sa.make_url(dsn).set(drivername="postgresql+psycopg"))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        print("enqueued", place_order(session, "book"))
    with Session(engine) as session:
        place_order(session, "never bought")
        session.rollback()
    engine.dispose()


async def main_async(dsn: str) -> None:
    engine = create_async_engine(sa.make_url(dsn).set(drivername="postgresql+asyncpg"))
    async with AsyncSession(engine) as session, session.begin():
        print("enqueued", await place_order_async(session, "pen"))
    await engine.dispose()


if __name__ == "__main__":
    main(os.environ["PGSCHEDULER_DSN"])
    asyncio.run(main_async(os.environ["PGSCHEDULER_DSN"]))
