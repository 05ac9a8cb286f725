"""Queues that are held back, and jobs that are moved, run again and listed."""

from __future__ import annotations

import asyncio
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import JobFilter, JobInfo, JobPriority, JobStatus, QueueInfo, Scheduler
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import IllegalTransition, InvalidArgument, OwnedByResource
from support.waiting import until

if TYPE_CHECKING:
    import asyncpg

    from engine.conftest import MakeScheduler
    from support.world import World

LATER = datetime.now(UTC) + timedelta(days=1)


async def note(n: int = 0) -> None: ...


async def listed(scheduler: Scheduler, **narrowed: Any) -> list[str]:
    return [job.job_id async for job in scheduler.jobs(JobFilter(**narrowed))]


@pytest.mark.usefixtures("unpolled")
async def test_a_paused_queue_starts_nothing_until_it_is_resumed(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler
) -> None:
    scheduler, client = await started(note, queues=["default", "mail"]), Scheduler(pool)
    await client.pause_queue("mail", reason="the provider is down", by="ops")
    held = await client.schedule(note, execution_time=datetime.now(UTC), queue="mail")
    free = await client.schedule(note, execution_time=datetime.now(UTC))

    async def status(job_id: str) -> JobStatus | None:
        job = await client.job(job_id)
        return job.status if job else None

    async def is_done(job_id: str) -> bool:
        return await status(job_id) is JobStatus.COMPLETED

    await until(lambda: is_done(free))
    assert await status(held) is JobStatus.PENDING
    assert await client.resume_queue("mail")
    await until(lambda: is_done(held))
    assert not await client.resume_queue("mail")
    assert scheduler.is_running


async def test_a_pause_leaves_running_jobs_alone(started: MakeScheduler) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()

    scheduler = await started(work)
    job_id = await scheduler.schedule(work, execution_time=datetime.now(UTC))
    await begun.wait()
    await scheduler.pause_queue("default")
    go_on.set()

    async def is_done() -> bool:
        job = await scheduler.job(job_id)
        return job is not None and job.status is JobStatus.COMPLETED

    await until(is_done)


async def test_a_paused_backlog_costs_no_busy_polling(world: World) -> None:
    worker = await world.worker()
    await world.pending()
    await Scheduler(world.pool).pause_queue("default")

    assert await world.claim(worker) == []
    assert (await world.jobs.look_ahead("", ["default"], ["t"])).due_in is None


async def test_queues_are_listed_with_who_holds_them_and_since_when_they_are_served(world: World) -> None:
    scheduler = Scheduler(world.pool)
    await world.worker()
    await scheduler.pause_queue("mail", reason="provider", by="ops")
    await scheduler.pause_queue("mail", reason="still", by="ops")
    await Scheduler(world.pool, tenant="other").pause_queue("theirs")

    default, mail = await scheduler.queues()

    assert (default.queue, default.is_paused, default.served_since is not None) == ("default", False, True)
    assert mail == QueueInfo(
        queue="mail",
        paused_at=mail.paused_at,
        paused_by="ops",
        reason="still",
        served_since=None,
        served_until=None,
    )
    assert mail.is_paused


async def test_a_pause_of_one_tenant_holds_no_other(world: World) -> None:
    worker = await world.worker()
    await world.pending()
    await Scheduler(world.pool, tenant="other").pause_queue("default")
    await world.pool.execute("DELETE FROM scheduler_queues WHERE tenant = ''")

    assert len(await world.claim(worker)) == 1


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
async def test_an_ended_job_is_run_again_now(world: World, status: str) -> None:
    job_id = await world.pending(execution_time=LATER, expires_at=LATER, misfire_grace_time=1)
    await world.pool.execute("UPDATE scheduled_jobs SET status = $1, finished_at = now(), retry_count = 2", status)

    await Scheduler(world.pool).retry_job(job_id)

    (claimed,) = await world.claim(await world.worker())
    assert (claimed.job_id, claimed.attempt, claimed.retry_count) == (job_id, 1, 0)


@pytest.mark.parametrize("status", ["pending", "running", "completed"])
async def test_what_is_open_or_done_is_not_run_again(world: World, status: str) -> None:
    job = await world.running(await world.worker())
    await world.pool.execute(
        "UPDATE scheduled_jobs SET status = $1, finished_at = CASE $1 WHEN 'completed' THEN now() END", status
    )

    with pytest.raises(IllegalTransition, match=status):
        await Scheduler(world.pool).retry_job(job.job_id)


@pytest.mark.usefixtures("unpolled")
async def test_a_job_that_has_not_started_gets_another_time(world: World, started: MakeScheduler) -> None:
    scheduler = Scheduler(world.pool)
    await started(note)

    async def is_done() -> bool:
        return bool((await world.row(job_id))["status"] == "completed")

    for _ in range(3):  # the worker's first look, or its listener's, may by chance come just after one of them
        job_id = await scheduler.schedule(note, execution_time=LATER)
        await scheduler.reschedule(job_id, datetime.now(UTC))
        await until(is_done)
    with pytest.raises(IllegalTransition, match="completed"):
        await scheduler.reschedule(job_id, LATER)
    with pytest.raises(IllegalTransition, match="no job"):
        await scheduler.reschedule("unknown", LATER)
    with pytest.raises(InvalidArgument, match="time zone"):
        await scheduler.reschedule(job_id, datetime(2030, 1, 1))  # noqa: DTZ001  the point


async def test_a_claim_and_a_new_time_have_one_winner(world: World) -> None:
    """The claim holds the row's lock; the new time waits for it and then finds the job running."""
    worker, job_id = await world.worker(), await world.pending()
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        claim = [worker, "", ["default"], ["t"], [1], 1, 0.0, None]
        assert len(await connection.fetch(QUERIES["claim_jobs"], *claim)) == 1
        moving = asyncio.create_task(Scheduler(world.pool).reschedule(job_id, LATER))

        async def waits() -> bool:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(await world.pool.fetchval(waiting))

        await until(waits)
        await transaction.commit()

    with pytest.raises(IllegalTransition, match="running"):
        await moving
    assert (await world.row(job_id))["execution_time"] < LATER


async def test_a_job_of_a_custom_resource_is_not_moved(world: World) -> None:
    job_id = await world.pending(execution_time=LATER)
    await world.pool.execute("UPDATE scheduled_jobs SET source_uid = 'u', source_kind = 'ScheduledJob'")

    with pytest.raises(OwnedByResource):
        await Scheduler(world.pool).reschedule(job_id, datetime.now(UTC))


async def test_jobs_are_listed_newest_first_by_every_filter(world: World) -> None:
    scheduler = Scheduler(world.pool)
    await Scheduler(world.pool, tenant="other").schedule(note, execution_time=LATER)
    a = await scheduler.schedule(note, execution_time=LATER, tags=["x", "y"], metadata={"order": 7})
    b = await scheduler.schedule_job("elsewhere", LATER + timedelta(days=1), {}, queue="mail", tags=["x"])
    c = await scheduler.schedule(note, execution_time=LATER, priority=JobPriority.HIGH)
    await scheduler.cancel_job(c)

    assert [job.job_id async for job in scheduler.jobs()] == [c, b, a]
    assert await listed(scheduler, status="cancelled") == [c]
    assert await listed(scheduler, status=[JobStatus.PENDING, "running"]) == [b, a]
    assert await listed(scheduler, task="elsewhere") == [b]
    assert await listed(scheduler, queue="mail") == [b]
    assert await listed(scheduler, tags=["x"]) == [b, a]
    assert await listed(scheduler, tags=["x", "y"]) == [a]
    assert await listed(scheduler, ids=[a, c, "unknown"]) == [c, a]
    assert await listed(scheduler, ids=[]) == []
    assert await listed(scheduler, due_from=LATER + timedelta(hours=1)) == [b]
    assert await listed(scheduler, due_until=LATER + timedelta(hours=1)) == [c, a]
    assert await listed(scheduler, created_from=datetime.now(UTC) + timedelta(hours=1)) == []
    assert await listed(scheduler, created_until=datetime.now(UTC) + timedelta(hours=1)) == [c, b, a]
    assert await listed(scheduler, schedule="nightly") == []
    assert await listed(scheduler, limit=2) == [c, b]
    job = await scheduler.job(a)
    assert isinstance(job, JobInfo)
    assert (job.tags, job.metadata, job.priority, job.attempt) == (("x", "y"), {"order": 7}, JobPriority.NORMAL, 0)
    assert await listed(scheduler, after=b) == [a]
    assert await scheduler.job("unknown") is None


async def test_jobs_of_a_schedule_are_listed_by_its_name(world: World) -> None:
    await world.pool.execute("""
        INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time, schedule_id, tick_at,
                                    source_name)
        SELECT 'tick' || n, 't', 'periodic_t', '{}', now(), n, now(), CASE n WHEN 1 THEN 'nightly' ELSE 'hourly' END
        FROM generate_series(1, 2) n""")

    assert await listed(Scheduler(world.pool), schedule="nightly") == ["tick1"]


async def test_pages_follow_each_other_whatever_is_made_meanwhile(world: World) -> None:
    scheduler = Scheduler(world.pool)
    await world.pool.execute("""
        INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time)
        SELECT 'j' || n, 't', 't', '{}', now() FROM generate_series(1001, 2234) n""")
    seen: list[str] = []

    async for job in scheduler.jobs():
        seen.append(job.job_id)
        if len(seen) == 1:
            await world.pool.execute("UPDATE scheduled_jobs SET execution_time = now() WHERE job_id = 'j1003'")
            await scheduler.schedule(note, execution_time=LATER, job_id="j9")

    assert seen == [f"j{n}" for n in range(2234, 1000, -1)]


@pytest.mark.newest_postgres
async def test_a_listing_holds_one_page_in_memory(world: World) -> None:
    await world.pool.execute("""
        INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time, error_message)
        SELECT 'j' || n, 't', 't', '{}', now(), repeat('x', 1000) FROM generate_series(1, 20000) n""")
    tracemalloc.start()
    try:
        count = 0
        async for _ in Scheduler(world.pool).jobs():
            count += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert count == 20_000
    assert peak < 8_000_000  # a page is 1 MB; all of it would be 40


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ({"ids": ["j5"]}, "scheduled_jobs_pkey"),
        ({"status": ["running"]}, "scheduled_jobs_running"),
        ({}, "scheduled_jobs_pkey"),
    ],
)
async def test_a_listing_goes_by_an_index(world: World, values: dict[str, Any], index: str) -> None:
    await world.pool.execute("""
        INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time, status, finished_at, worker_id)
        SELECT 'j' || n, 't', 't', '{}', now(), CASE n % 500 WHEN 0 THEN 'running' ELSE 'completed' END,
               CASE WHEN n % 500 > 0 THEN now() END, 'w' FROM generate_series(1, 20000) n""")
    await world.pool.execute("VACUUM ANALYZE scheduled_jobs")
    wanted = JobFilter(**values)
    async with world.pool.acquire() as connection:
        plan = await connection.fetch(
            "EXPLAIN (COSTS OFF) " + QUERIES["list_jobs"],
            *("", None, list(wanted.statuses), wanted.ids, None, None, [], None, None, None, None, None, 500),
        )

    text = "\n".join(row[0] for row in plan)
    assert index in text, text
    assert "Seq Scan on scheduled_jobs" not in text, text
