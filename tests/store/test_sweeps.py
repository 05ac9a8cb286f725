"""Who is dead, and what becomes of what they held."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from pg_scheduler._store.queries import QUERIES
from pg_scheduler.job_status import JobStatus
from support.waiting import PATIENCE, until
from support.world import LEASE_SECONDS, World

if TYPE_CHECKING:
    import asyncpg


async def test_sweep_buries_a_worker_whose_lease_has_run_out(world: World) -> None:
    worker = await world.worker()
    job = await world.running(worker)
    await world.advance(timedelta(seconds=LEASE_SECONDS + 1))

    assert await world.workers.mark_dead() == [worker]
    assert await world.jobs.requeue_orphans(3) == [JobStatus.PENDING]

    row = await world.row(job.job_id)
    assert (row["status"], row["interruptions"]) == ("pending", 1)


async def test_a_late_beat_holds_as_long_as_nobody_has_buried_the_worker(world: World) -> None:
    worker = await world.worker()
    job = await world.running(worker)
    await world.advance(timedelta(seconds=LEASE_SECONDS + 1))

    assert await world.beat(worker) == {job.token}
    assert await world.workers.mark_dead() == []
    assert await world.jobs.requeue_orphans(3) == []


async def test_a_buried_worker_never_lives_again(world: World) -> None:
    worker = await world.worker()
    await world.advance(timedelta(seconds=LEASE_SECONDS + 1))
    await world.workers.mark_dead()

    assert await world.beat(worker) is None


async def test_nobody_is_buried_by_who_has_not_heard_of_the_servers_restart(world: World) -> None:
    await world.worker()
    await world.advance(timedelta(seconds=LEASE_SECONDS + 1))
    started_at = await world.pool.fetchval("SELECT pg_postmaster_start_time()")

    assert await world.workers.mark_dead(started_at - timedelta(seconds=1)) == []
    assert len(await world.workers.mark_dead(started_at)) == 1


async def test_a_missing_worker_row_counts_as_dead(world: World) -> None:
    worker = await world.worker()
    await world.running(worker)
    await world.pool.execute("DELETE FROM scheduler_workers")

    assert await world.jobs.requeue_orphans(3) == [JobStatus.PENDING]


async def test_the_fourth_death_fails_the_job(world: World) -> None:
    job_id = await world.pending()
    outcomes = []
    for _ in range(4):
        worker = await world.worker()
        assert await world.claim(worker) or await world.claim_alone(worker)
        await world.bury(worker)
        outcomes += await world.jobs.requeue_orphans(3)

    assert outcomes == [JobStatus.PENDING] * 3 + [JobStatus.FAILED]
    assert (await world.row(job_id))["error_message"] == "worker died"


async def test_sweep_takes_more_than_one_batch(world: World) -> None:
    worker = await world.worker()
    await world.pool.execute(
        "INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time)"
        " SELECT 'b' || n, 't', 't', '{}', '2020-01-01' FROM generate_series(1, 700) n"
    )
    assert len(await world.claim(worker, limit=1000)) == 700
    await world.pool.execute("UPDATE scheduler_workers SET state = 'dead'")

    assert [len(await world.jobs.requeue_orphans(3)) for _ in range(3)] == [500, 200, 0]


async def test_a_worker_frozen_in_a_transaction_stops_no_sweep(world: World) -> None:
    frozen, dead = await world.worker(), await world.worker()
    await world.advance(timedelta(seconds=LEASE_SECONDS + 1))

    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT 1 FROM scheduler_workers WHERE id = $1 FOR UPDATE", frozen)

        assert await asyncio.wait_for(world.workers.mark_dead(), PATIENCE) == [dead]


async def test_sweep_spares_a_job_that_was_claimed_anew_while_it_waited(world: World) -> None:
    """The sweep sees an orphan; before it has the row's lock, another sweep requeues it and a living worker claims it.

    The lock gate is a third session that holds the row; SKIP LOCKED is taken out so that the statement waits there as
    a plain UPDATE would, and the recheck after the lock is what is tested.
    """
    dead, heir = await world.worker(), await world.worker()
    job = await world.running(dead)
    await world.pool.execute("UPDATE scheduler_workers SET state = 'dead' WHERE id = $1", dead)
    waiting_sweep = QUERIES["requeue_orphans"].replace("SKIP LOCKED", "")

    async with world.pool.acquire() as gate, world.pool.acquire() as sweeper:
        transaction = gate.transaction()
        await transaction.start()
        await gate.execute("UPDATE scheduled_jobs SET status = 'pending' WHERE job_id = $1", job.job_id)
        await gate.execute(
            "UPDATE scheduled_jobs SET status = 'running', worker_id = $2, token = nextval('scheduler_token')"
            " WHERE job_id = $1",
            job.job_id,
            heir,
        )
        sweep = asyncio.create_task(sweeper.fetch(waiting_sweep, 3))
        await until(lambda: _waits_for_a_lock(world.pool), what="the sweep waits at the gate")
        await transaction.commit()

        assert await sweep == []

    assert (await world.row(job.job_id))["worker_id"] == heir


async def test_rows_that_wait_for_the_word_of_a_dead_worker_are_freed(world: World) -> None:
    worker, other = await world.worker(), await world.worker()
    job = await world.running(worker)
    await world.jobs.cancel(job.job_id)
    assert await world.jobs.forget_stopping() == 0
    await world.pool.execute("UPDATE scheduler_workers SET state = 'dead' WHERE id <> $1", other)

    assert await world.jobs.forget_stopping() == 1


async def test_a_worker_that_never_reports_the_end_is_waited_for_30_seconds(world: World) -> None:
    worker = await world.worker(lease_seconds=3600)
    job = await world.running(worker)
    await world.jobs.cancel(job.job_id)
    await world.advance(timedelta(seconds=29))
    assert await world.jobs.forget_stopping() == 0
    await world.advance(timedelta(seconds=31))

    assert await world.jobs.forget_stopping() == 1


async def test_dead_rows_go_after_a_day_and_living_ones_stay(world: World) -> None:
    await world.worker()
    await world.worker(lease_seconds=10 * 24 * 3600)
    await world.advance(timedelta(days=1, seconds=LEASE_SECONDS + 1))
    await world.workers.mark_dead()

    await world.workers.forget_dead()

    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_workers") == 1


async def _waits_for_a_lock(pool: asyncpg.Pool[asyncpg.Record]) -> bool:
    return bool(
        await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )
