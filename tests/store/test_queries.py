"""Every statement is valid at head, and the hot ones go by their index however large the table is."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pg_scheduler._store.kept import KeptConnection
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.pool_settings import QueueSettings, RateLimit
from support.pools import say

if TYPE_CHECKING:
    from support.world import World

HOT: dict[str, tuple[str, list[object]]] = {
    "look_ahead": ("scheduled_jobs_due", ["", ["default"], ["t"], "2020-01-01", "w", "2020-01-01", "p"]),
    "promote_waiting": ("scheduled_jobs_waiting_in_order", []),
    "claim_jobs": ("scheduled_jobs_due", ["w", "", ["default"], ["t"], [10], 10, 0.15, "2020-01-01"]),
    "claim_poison_job": ("scheduled_jobs_poison", ["w", "", ["default"], ["t"]]),
    "must_make_room": ("scheduled_jobs_poison", ["w", "", ["default"], ["t"]]),
    "complete_jobs": ("scheduled_jobs_running", [[1, 2, 3], [4, 5, 6], "w"]),
    "requeue_orphans": ("scheduled_jobs_running", [3]),
    "sweep_needs": ("scheduled_jobs_running", []),
    "held_tokens": ("scheduled_jobs_running", ["w"]),
    "changed_jobs": ("scheduled_jobs_finished", ["c", None]),
    "schedule_views": ("scheduled_jobs_tick", ["", ["code1"]]),
    "ledger_totals": ("scheduled_jobs_tick", [""]),
    "schedule_states": ("scheduled_jobs_tick", [[""], ["PeriodicJob"], [""], ["u1"], [True], 60.0]),
    "delete_history_beyond": ("scheduled_jobs_tick", [[1, 2, 3], 5000]),
    "jobs_of_sources": ("scheduled_jobs_open_by_source", ["c", ["u1"]]),
    "demand": ("scheduled_jobs_due", ["", 30.0]),
    "schedules_ahead": ("scheduler_schedules_due", ["", 30.0]),
    "due_schedules": ("scheduler_schedules_due", ["", 5.0, 500, "2026a"]),
}
KEPT = (
    *("look_ahead", "claim_jobs", "claim_poison_job", "must_make_room"),
    *("complete_jobs", "release_jobs", "fail_job", "retry_job", "snooze_job", "cancel_running_job"),
    *("complete_job_with_result", "report_stopped"),
)
"""What claims and completions send; the claim of keyed jobs is a function, which plans its statements itself."""
FETCHED = "SELECT sum(idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables WHERE relname = 'scheduled_jobs'"
SCANS = "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_xact_user_tables WHERE relname = 'scheduled_jobs'"


@pytest.mark.parametrize("name", sorted(QUERIES))
async def test_statement_prepares(pool: asyncpg.Pool[asyncpg.Record], name: str) -> None:
    async with pool.acquire() as connection:
        await connection.prepare(QUERIES[name])


@pytest.mark.parametrize("plan_cache_mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", sorted(HOT))
async def test_hot_statement_uses_its_index(world: World, name: str, plan_cache_mode: str) -> None:
    index, values = HOT[name]
    await _fill(world)
    async with world.pool.acquire() as connection:
        now = await connection.fetchval("SELECT now()")
        await connection.execute(f"SET plan_cache_mode = {plan_cache_mode}")
        statement = await connection.prepare(QUERIES[name])
        plan = await _plan(connection, statement, [now if value is None else value for value in values])

    assert re.search(rf"(using|on) ({index})\b", plan), plan
    assert "Seq Scan on scheduled_jobs" not in plan, plan


@pytest.mark.parametrize("plan_cache_mode", ["force_custom_plan", "force_generic_plan"])
async def test_look_for_changed_schedules_reads_nothing_but_ranges_of_indexes(
    world: World, plan_cache_mode: str
) -> None:
    await _fill(world)
    await world.pool.execute("""
        INSERT INTO scheduler_occurrences (schedule_id, outcome, first_tick_at, last_tick_at, ticks, recorded_at)
        SELECT s.id, 'missed', now(), now(), 1, now() - make_interval(hours => s.id::int)
        FROM scheduler_schedules s""")
    await world.pool.execute("VACUUM ANALYZE scheduler_occurrences")
    async with world.pool.acquire() as connection:
        now = await connection.fetchval("SELECT now()")
        await connection.execute(f"SET plan_cache_mode = {plan_cache_mode}")
        statement = await connection.prepare(QUERIES["changed_schedules"])
        plan = await _plan(connection, statement, ["c", now, 60.0])

    for index in (
        *("scheduled_jobs_finished", "scheduled_jobs_running", "scheduler_occurrences_recorded"),
        *("scheduler_schedules_halted", "scheduler_schedules_overdue"),
    ):
        assert re.search(rf"(using|on) {index}\b", plan), plan
    assert "Seq Scan" not in plan, plan


@pytest.mark.parametrize("plan_cache_mode", ["force_custom_plan", "force_generic_plan"])
async def test_state_of_a_schedule_costs_the_same_however_many_jobs_it_has(world: World, plan_cache_mode: str) -> None:
    await _fill(world)
    async with world.pool.acquire() as connection:
        await connection.execute(f"SET plan_cache_mode = {plan_cache_mode}")
        read = {}
        for is_counted in (False, True):
            async with connection.transaction():
                before = await connection.fetchval(FETCHED)
                keys = [[""], ["code"], [""], ["code1"]]
                assert await connection.fetch(QUERIES["schedule_states"], *keys, [is_counted], 60.0)
                read[is_counted] = await connection.fetchval(FETCHED) - before

    assert read[False] < 10
    assert read[True] > 200  # it is for this that the counts are asked for once a minute at most


@pytest.mark.parametrize("is_vacuumed", [False, True])
@pytest.mark.parametrize("name", KEPT)
async def test_kept_connection_plans_by_an_index_while_the_table_is_empty(
    world: World, dsn: str, name: str, is_vacuumed: bool
) -> None:
    """The plan is made once, and may be older than the first job."""
    if is_vacuumed:
        await world.pool.execute("VACUUM scheduled_jobs")
    kept = KeptConnection(lambda: asyncpg.connect(dsn), place="")
    parameters = ", ".join("NULL" for _ in set(re.findall(r"\$\d+", QUERIES[name])))
    try:
        await kept.fetch(f"PREPARE once AS {QUERIES[name]}")
        plan = "\n".join(row[0] for row in await kept.fetch(f"EXPLAIN (COSTS OFF) EXECUTE once({parameters})"))
    finally:
        await kept.close()

    assert "on scheduled_jobs" in plan, plan
    assert "Seq Scan on scheduled_jobs" not in plan, plan


@pytest.mark.parametrize("plan_cache_mode", ["force_custom_plan", "force_generic_plan"])
async def test_no_statement_of_the_keys_functions_scans_the_jobs(world: World, plan_cache_mode: str) -> None:
    """EXPLAIN does not look into functions; the counters of the transaction do. No index of the id helps."""
    await _fill(world)
    await world.pool.execute(
        "UPDATE scheduled_jobs SET concurrency_key = 'k' || id / 10 % 40,"
        " on_full = CASE id / 400 % 4 WHEN 0 THEN 'replace' WHEN 1 THEN 'skip' WHEN 2 THEN 'queue' ELSE 'wait' END,"
        " expires_at = CASE id % 7 WHEN 0 THEN now() END,"
        " interruptions = CASE id WHEN 500 THEN 2 ELSE 0 END"
        " WHERE status = 'pending'"
    )
    await world.pool.execute("ALTER TABLE scheduled_jobs DROP CONSTRAINT IF EXISTS scheduled_jobs_id_key")
    await world.pool.execute("VACUUM ANALYZE scheduled_jobs")
    await world.advance(timedelta(hours=1))
    worker = await world.worker()
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = {plan_cache_mode}")
        before = await connection.fetchval(SCANS)  # of this session's earlier transactions
        claim = (QUERIES["claim_keyed_jobs"], worker, "", ["default"], ["t"], 20)
        rows = [row for row in await connection.fetch(*claim, False, 0.15) if row["attempt"]]
        ids, tokens = [row["id"] for row in rows], [row["token"] for row in rows]
        assert len(await connection.fetch(QUERIES["complete_jobs"], ids, tokens, worker)) == 20
        await connection.execute("SELECT scheduler_set_limits(ARRAY[''], ARRAY['k1'], ARRAY[3])")
        await connection.fetch(*claim, True, 0.15)
        while await connection.fetch(*claim, False, 10_000.0):
            pass  # the last finds every key full, and parks, skips or replaces what is due
        scans = await connection.fetchval(SCANS) - before
        statuses = {row["status"] for row in await connection.fetch("SELECT DISTINCT status FROM scheduled_jobs")}

    assert scans == 0
    assert {"waiting", "expired"} <= statuses


@pytest.mark.parametrize("plan_cache_mode", ["force_custom_plan", "force_generic_plan"])
async def test_no_statement_of_the_limits_functions_scans_the_jobs(world: World, plan_cache_mode: str) -> None:
    """As above."""
    await _fill(world)
    await world.pool.execute(
        "UPDATE scheduled_jobs SET concurrency_key = CASE id % 3 WHEN 0 THEN 'k' || id END,"
        " expires_at = CASE id % 7 WHEN 0 THEN now() END, interruptions = CASE id WHEN 500 THEN 2 ELSE 0 END"
        " WHERE status = 'pending'"
    )
    await world.pool.execute("VACUUM ANALYZE scheduled_jobs")
    await say(world.db, default=QueueSettings(concurrency=100_000, rate=RateLimit(limit=40, seconds=60)))
    await world.advance(timedelta(hours=1))
    worker = await world.worker()
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = {plan_cache_mode}")
        before = await connection.fetchval(SCANS)
        claim = (QUERIES["claim_limited_jobs"], worker, "", ["default"], ["t"])
        started = [row for _ in range(3) for row in await connection.fetch(*claim, 30, False) if row["attempt"]]
        await connection.fetch(*claim, 1, True)
        await connection.fetch(QUERIES["look_ahead"], "", ["default"], ["t"], None, worker, None, None)
        scans = await connection.fetchval(SCANS) - before

    assert scans == 0
    assert len(started) == 40


async def _plan(
    connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record],
    statement: asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record],
    values: list[object],
) -> str:
    arguments = f"({', '.join(_literal(value) for value in values)})" if values else ""
    text = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE {statement.get_name()}{arguments}")
    return "\n".join(row[0] for row in text)


def _literal(value: object) -> str:
    if isinstance(value, list):
        return "ARRAY[" + ", ".join(_literal(item) for item in value) + "]"
    return str(value) if isinstance(value, int | float) else f"'{value}'"


async def _fill(world: World) -> None:
    await world.pool.execute("""
        INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time, status, finished_at, worker_id)
        SELECT 'j' || n, 't', 't', '{}', now() + make_interval(secs => n),
               CASE n % 10 WHEN 0 THEN 'pending' WHEN 1 THEN 'running' ELSE 'completed' END,
               CASE WHEN n % 10 > 1 THEN now() - make_interval(secs => n) END, 'w'
        FROM generate_series(1, 20000) n""")
    await world.pool.execute("""
        INSERT INTO scheduler_schedules (source_kind, source_uid, source_name, interval_seconds, anchor_at,
                                         next_tick_at, task, job_name, task_data)
        SELECT 'PeriodicJob', 'u' || n, 'n', 60, now(), now() + make_interval(secs => n), 't', 't', '{}'
        FROM generate_series(1, 5000) n""")
    await world.pool.execute("""
        INSERT INTO scheduler_schedules (source_kind, source_uid, source_name, interval_seconds, anchor_at,
                                         next_tick_at, task, job_name, task_data)
        SELECT 'code', 'code' || n, 'n', 60, now(), now() + make_interval(secs => n), 't', 't', '{}'
        FROM generate_series(1, 100) n""")
    await world.pool.execute("""
        UPDATE scheduled_jobs j SET tick_at = execution_time, schedule_id = s.id, started_at = j.finished_at
        FROM scheduler_schedules s WHERE s.source_uid = 'code' || (j.id % 100)""")
    await world.pool.execute("VACUUM ANALYZE scheduled_jobs, scheduler_schedules")
