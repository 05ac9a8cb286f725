"""However much one tenant has waiting, another's worker reads none of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler._store.queries import QUERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from support.world import World

FEW, MANY = 200, 20_000
LEVELS = 20
"""Blocks that a larger table may cost: its indexes are a level deeper, and a look goes down some fifteen times."""
LOOKS: dict[str, list[object]] = {
    "look_ahead": ["b", ["default"], ["t"], None, "w", None, None],
    "claim_jobs": ["w", "b", ["default"], ["t"], [10], 10, 0.15, None],
    "claim_poison_job": ["w", "b", ["default"], ["t"]],
    "must_make_room": ["w", "b", ["default"], ["t"]],
    "claim_keyed_jobs": ["w", "b", ["default"], ["t"], 10, False, 0.15],
    "claim_limited_jobs": ["w", "b", ["default"], ["t"], 10, False],
    "due_schedules": ["b", 5.0, 500, "2026a"],
    "next_tick": ["b", "2026a"],
}
"""What a worker asks between two jobs."""


@pytest.mark.parametrize("plan_cache_mode", ["force_custom_plan", "force_generic_plan"])
async def test_what_another_tenant_has_waiting_costs_a_worker_nothing(world: World, plan_cache_mode: str) -> None:
    await _worker_of_b(world)
    await _jobs_of(world, "b", 5)
    await _jobs_of(world, "a", FEW)
    beside_few = {name: await _blocks_of(world, name, plan_cache_mode) for name in LOOKS}

    await _jobs_of(world, "a", MANY)

    beside_many = {name: await _blocks_of(world, name, plan_cache_mode) for name in LOOKS}
    dearer = {name: blocks for name, blocks in beside_many.items() if blocks > beside_few[name] + LEVELS}
    assert dearer == {}


async def test_the_first_job_of_a_tenant_is_claimed_before_a_long_backlog_of_another(world: World) -> None:
    """Those of the other were due earlier, and by priority too; order is a matter of each tenant's own."""
    await _worker_of_b(world)
    await _jobs_of(world, "a", MANY)
    await world.pending(tenant="b")

    (claimed,) = await world.jobs.claim("w", "b", ["default"], ["t"], 10)

    assert claimed.worker_id == "w"
    touched = "SELECT count(*) FROM scheduled_jobs WHERE tenant = 'a' AND (status <> 'pending' OR token <> 0)"
    assert await world.pool.fetchval(touched) == 0


async def _worker_of_b(world: World) -> None:
    await world.pool.execute(
        "INSERT INTO scheduler_workers (id, tenant, queues, tasks, schedules, slots, lease_until, version)"
        " VALUES ('w', 'b', '{default}', '{t}', '{}', 10, now() + interval '1 day', '0')"
    )


async def _jobs_of(world: World, tenant: str, number: int) -> None:
    """So many due jobs, a quarter of them of each kind that is claimed by itself, and as many due schedules."""
    await world.pool.execute(
        "INSERT INTO scheduled_jobs (job_id, tenant, priority, task, job_name, task_data, execution_time,"
        " concurrency_key, interruptions)"
        " SELECT $1::text || '-' || n || '-' || $2::int, $1, 1, 't', 't', '{}', now() - make_interval(secs => n),"
        " CASE n % 4 WHEN 0 THEN 'k' || n END, CASE n % 4 WHEN 1 THEN 2 ELSE 0 END FROM generate_series(1, $2::int) n",
        tenant,
        number,
    )
    await world.pool.execute(
        "INSERT INTO scheduler_schedules (tenant, source_kind, source_uid, source_name, interval_seconds, anchor_at,"
        " next_tick_at, task, job_name, task_data)"
        " SELECT $1, 'runtime', 'u' || n || '-' || $2, 'n', 60, now(), now(), 't', 't', '{}'"
        " FROM generate_series(1, $2::int) n",
        tenant,
        number // 4,
    )
    await world.pool.execute("VACUUM ANALYZE scheduled_jobs, scheduler_schedules")


async def _blocks_of(world: World, name: str, plan_cache_mode: str) -> int:
    """Blocks that the statement reads the second time, functions that it calls included; nothing of it stays."""
    async with world.pool.acquire() as connection:
        await connection.execute(f"SET plan_cache_mode = {plan_cache_mode}")
        statement = await connection.prepare(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {QUERIES[name]}")
        return [await _run(connection, statement, LOOKS[name]) for _ in range(2)][-1]


async def _run(
    connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record],
    statement: asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record],
    values: Sequence[object],
) -> int:
    transaction = connection.transaction()
    await transaction.start()
    try:
        ((told,),) = await statement.fetch(*values)
    finally:
        await transaction.rollback()
    plan: dict[str, Any] = json.loads(told)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
