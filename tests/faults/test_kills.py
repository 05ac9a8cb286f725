"""Workers that are killed: at each statement of a job's own transaction, and again and again over many jobs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from engine.test_transactions import BOUNDARIES
from faults import fault_tasks
from faults.conftest import APP, submit
from support.statement_proxy import StatementProxy
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.conftest import MakeScheduler
    from faults.conftest import Record
    from support.commands import Running
    from support.proxy import Wire
    from support.statement_proxy import Moment
    from support.world import World

KILLS: dict[str, tuple[str, Moment]] = {
    **{f"before {name}": (statement, "before") for name, statement in BOUNDARIES.items()},
    "after COMMIT": (BOUNDARIES["COMMIT"], "after"),
}
"""To a server whose client is gone, after one statement and before the next are the same moment."""
ALL_STARTED = "SELECT count(*) = $1 FROM scheduler_workers"


async def test_a_worker_killed_at_any_statement_of_a_transaction_leaves_exactly_one_effect(
    world: World, dsn: str, started: MakeScheduler, start_process: Callable[..., Running], record: Record
) -> None:
    """All at once, each victim with a queue of its own and a proxy before its pool; its engine connects directly."""
    await world.pool.execute("CREATE TABLE effects (what text)")
    async with AsyncExitStack() as stack:
        proxies = {name: await stack.enter_async_context(StatementProxy.to(dsn)) for name in KILLS}
        victims = {
            name: start_process(program=(str(APP), proxy.dsn, "2", name, dsn)) for name, proxy in proxies.items()
        }
        await until(lambda: world.pool.fetchval(ALL_STARTED, len(KILLS)), timeout=30)
        for name, (statement, moment) in KILLS.items():
            proxies[name].arm(statement, moment, killer(victims[name]))
            await submit(world, "charge", name, queue=name)
        for name, proxy in proxies.items():
            await asyncio.wait_for(proxy.struck.wait(), 10)
            assert victims[name].wait() == -9
    assert sorted(record.names("start")) == sorted(KILLS)

    survivor = await started(lease_seconds=2, queues=tuple(KILLS))
    survivor._registry.add(fault_tasks.charge, "fault_tasks:charge")

    async def outcomes() -> bool:
        rows = await world.pool.fetch("SELECT * FROM scheduled_jobs WHERE job_name = 'charge'")
        # Only a commit that took place needs no second attempt.
        assert {row["job_id"]: (row["status"], row["attempt"], row["interruptions"]) for row in rows} == {
            name: ("completed", 1, 0) if name == "after COMMIT" else ("completed", 2, 1) for name in KILLS
        }
        return True

    await until(outcomes, timeout=20)
    effects = await world.pool.fetch("SELECT what FROM effects")
    children = await world.pool.fetch(
        "SELECT task_data->'args'->>0 AS of FROM scheduled_jobs WHERE job_name = 'follow'"
    )
    assert sorted(row["what"] for row in effects) == sorted(KILLS)
    assert sorted(row["of"] for row in children) == sorted(KILLS)


def killer(victim: Running) -> Callable[[Wire], None]:
    """End the process, then its connection, as the kernel does."""

    def kill(wire: Wire) -> None:
        victim.process.kill()
        victim.process.wait()
        wire.cut()

    return kill
