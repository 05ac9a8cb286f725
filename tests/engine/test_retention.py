"""Finished jobs go when their retention says so, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import JobStatus, Scheduler, VacuumConfig, VacuumPolicy
from pg_scheduler.errors import IllegalTransition, InvalidArgument, OwnedByResource
from support.waiting import until

if TYPE_CHECKING:
    import asyncpg

    from engine.conftest import MakeScheduler
    from support.world import World


async def finished(world: World, status: str, *, days_ago: float = 0, **columns: Any) -> str:
    job_id = await world.pending(**columns)
    await world.pool.execute(
        "UPDATE scheduled_jobs SET status = $2, finished_at = now() - make_interval(secs => $3),"
        " created_at = now() - interval '1 year' WHERE job_id = $1",
        job_id,
        status,
        days_ago * 86400,
    )
    return job_id


async def left(world: World) -> set[str]:
    return {row["job_id"] for row in await world.pool.fetch("SELECT job_id FROM scheduled_jobs")}


async def test_the_defaults_delete_each_status_after_its_days_by_its_end(
    world: World, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    limits = {"completed": 1, "failed": 7, "cancelled": 3, "expired": 3}
    kept = {await finished(world, status, days_ago=days - 0.1) for status, days in limits.items()}
    for status, days in limits.items():
        await finished(world, status, days_ago=days + 0.1)
    kept |= {await world.pending()}

    assert await Scheduler(pool).run_vacuum() == dict.fromkeys(limits, 1)
    assert await left(world) == kept


async def test_immediate_never_and_keep_last(world: World, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    config = VacuumConfig(
        completed=VacuumPolicy.immediate(), failed=VacuumPolicy.never(), cancelled=VacuumPolicy.keep_last(2)
    )
    await finished(world, "completed")
    kept = {await finished(world, "failed", days_ago=1000)}
    for name in ("a", "b"):
        ids = [await finished(world, "cancelled", days_ago=age, job_name=name) for age in (5, 4, 3)]
        kept |= set(ids[1:])

    counts = await Scheduler(pool, vacuum_config=config).run_vacuum()

    assert counts == {"completed": 1, "failed": 0, "cancelled": 2, "expired": 0}
    assert await left(world) == kept


async def test_more_than_one_batch_goes_in_one_run(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await pool.execute(
        "INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time, status, finished_at)"
        " SELECT 'b' || n, 't', 't', '{}', now(), 'completed', now() - interval '2 days'"
        " FROM generate_series(1, 5001) n"
    )

    assert (await Scheduler(pool).run_vacuum())["completed"] == 5001


async def test_other_tenants_keep_theirs(world: World, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    job_id = await finished(world, "completed", days_ago=30, tenant="other")

    await Scheduler(pool).run_vacuum()

    assert await left(world) == {job_id}


async def test_figures_are_kept_by_the_day_and_summed(world: World, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler = Scheduler(pool, vacuum_config=VacuumConfig(track_metrics=True))
    for _ in range(2):
        await finished(world, "completed", days_ago=2)
        await finished(world, "failed", days_ago=8)
        await scheduler.run_vacuum()
    await pool.execute("INSERT INTO vacuum_stats (stat_date, deleted_completed) VALUES (now()::date - 3, 40)")

    stats = await scheduler.get_vacuum_stats()
    total = await scheduler.get_total_vacuum_stats()

    assert [(row["deleted_completed"], row["deleted_failed"]) for row in stats] == [(2, 2), (40, 0)]
    assert len(await scheduler.get_vacuum_stats(days=3)) == 1
    assert (total["total_completed"], total["total_failed"], total["total_cancelled"]) == (42, 2, 0)
    assert total["last_vacuum_run"] == stats[0]["last_run"]


async def test_without_track_metrics_there_are_no_figures(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler = Scheduler(pool)
    await scheduler.run_vacuum()

    assert await scheduler.get_vacuum_stats() == []
    assert await scheduler.get_total_vacuum_stats() == {}
    with pytest.raises(InvalidArgument, match="days"):
        await scheduler.get_vacuum_stats(days=0)


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_running_worker_vacuums_when_it_is_enabled(world: World, started: MakeScheduler, enabled: bool) -> None:
    await finished(world, "completed", days_ago=2)

    async def note() -> None: ...

    scheduler = await started(note, vacuum_enabled=enabled)
    job_id = await scheduler.schedule(note, execution_time=await world.pool.fetchval("SELECT now()"))

    async def only_the_new_one() -> bool:
        return await left(world) == {job_id}

    if enabled:
        await until(only_the_new_one)
    else:
        await until(lambda: not scheduler.active_jobs)
        assert len(await left(world)) == 2


@pytest.mark.parametrize("status", ["pending", "running"])
async def test_an_open_job_can_be_set_to_cancelled(
    world: World, pool: asyncpg.Pool[asyncpg.Record], status: str
) -> None:
    job_id = await world.pending()
    if status == "running":
        await world.claim(await world.worker())

    await Scheduler(pool).update_job_status(job_id, JobStatus.CANCELLED)

    assert (await world.row(job_id))["status"] == "cancelled"


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
async def test_an_ended_job_can_run_again_as_if_it_were_new(
    world: World, pool: asyncpg.Pool[asyncpg.Record], status: str
) -> None:
    job_id = await finished(world, status, days_ago=1)
    await pool.execute("UPDATE scheduled_jobs SET attempt = 3, retry_count = 2, error_message = 'x'")

    await Scheduler(pool).update_job_status(job_id, "pending")

    row = await world.row(job_id)
    assert (row["status"], row["attempt"], row["retry_count"], row["error_message"]) == ("pending", 0, 0, None)
    assert row["execution_time"] > row["created_at"] + timedelta(days=1)


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ("completed", "pending"),
        ("completed", "cancelled"),
        ("cancelled", "cancelled"),
        ("pending", "pending"),
        ("pending", "completed"),
        ("pending", "running"),
        ("pending", "nonsense"),
    ],
)
async def test_other_moves_are_refused_and_change_nothing(
    world: World, pool: asyncpg.Pool[asyncpg.Record], status: str, wanted: str
) -> None:
    job_id = await world.pending() if status == "pending" else await finished(world, status)
    before = dict(await world.row(job_id))

    with pytest.raises(IllegalTransition):
        await Scheduler(pool).update_job_status(job_id, wanted)

    assert dict(await world.row(job_id)) == before


async def test_an_unknown_job_and_one_of_a_resource_are_named(world: World, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    with pytest.raises(IllegalTransition, match="no job 'nobody'"):
        await Scheduler(pool).update_job_status("nobody", "cancelled")
    job_id = await finished(world, "failed")
    await pool.execute("UPDATE scheduled_jobs SET source_uid = 'u', source_kind = 'ScheduledJob', source_name = 'n'")

    with pytest.raises(OwnedByResource, match="ScheduledJob n"):
        await Scheduler(pool).update_job_status(job_id, "pending")
