"""When a job is too late to start at all: nobody who lives served its queue from its time to the end of its grace."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler import ConflictResolution, JobSpec, Scheduler
from pg_scheduler._domain.jobs import start_order
from pg_scheduler._store.bulk import COPY_FROM
from support.waiting import PATIENCE, until
from support.world import LEASE_SECONDS, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.conftest import MakeScheduler
    from pg_scheduler._domain.jobs import ClaimedJob

GRACE = 60


async def note() -> None: ...


async def single(scheduler: Scheduler, job_id: str, time: datetime) -> None:
    await scheduler.schedule(note, execution_time=time, job_id=job_id)


async def replacing(scheduler: Scheduler, job_id: str, time: datetime) -> None:
    await scheduler.schedule(note, execution_time=datetime.now(UTC), job_id=job_id)
    await scheduler.schedule(note, execution_time=time, job_id=job_id, conflict_resolution=ConflictResolution.REPLACE)


async def few(scheduler: Scheduler, job_id: str, time: datetime) -> None:
    assert await scheduler.schedule_bulk([JobSpec(note, time, job_id=job_id)]) == [job_id]


async def many(scheduler: Scheduler, job_id: str, time: datetime) -> None:
    others = [JobSpec(note, datetime.now(UTC)) for _ in range(COPY_FROM)]
    for conflict in ConflictResolution:
        await scheduler.schedule_bulk(others, conflict_resolution=conflict)
    ids = await scheduler.schedule_bulk([*others, JobSpec(note, time, job_id=job_id)])
    assert ids[-1] == job_id


async def all_or_nothing(scheduler: Scheduler, job_id: str, time: datetime) -> None:
    specs = [*[JobSpec(note, datetime.now(UTC))] * COPY_FROM, JobSpec(note, time, job_id=job_id)]
    await scheduler.schedule_bulk(specs, conflict_resolution=ConflictResolution.RAISE)


async def many_replacing(scheduler: Scheduler, job_id: str, time: datetime) -> None:
    await scheduler.schedule_bulk([JobSpec(note, datetime.now(UTC), job_id=job_id)])
    specs = [JobSpec(note, time, job_id=job_id)]
    await scheduler.schedule_bulk(specs, conflict_resolution=ConflictResolution.REPLACE)


@pytest.mark.parametrize("submit", [single, replacing, few, many, all_or_nothing, many_replacing])
@pytest.mark.parametrize(("late_by", "status"), [(GRACE + 5, "expired"), (GRACE - 5, "pending")])
async def test_a_job_past_its_grace_at_submission_is_stored_expired(
    world: World,
    caplog: pytest.LogCaptureFixture,
    submit: Callable[[Scheduler, str, datetime], Awaitable[None]],
    late_by: int,
    status: str,
) -> None:
    scheduler = Scheduler(world.pool, misfire_grace_time=GRACE)

    await submit(scheduler, "j", datetime.now(UTC) - timedelta(seconds=late_by))

    row = await world.row("j")
    assert (row["status"], row["finished_at"] is not None) == (status, status == "expired")
    assert len([text for text in caplog.messages if "stored as expired: j" in text]) == (status == "expired")
    assert (
        await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'expired' AND job_id <> 'j'") == 0
    )


@pytest.mark.parametrize("expires", [timedelta(minutes=1), datetime.now(UTC) - timedelta(seconds=1)])
async def test_a_job_past_its_own_end_at_submission_is_stored_expired(
    world: World, expires: datetime | timedelta
) -> None:
    scheduler = Scheduler(world.pool, misfire_grace_time=None)
    time = datetime.now(UTC) - timedelta(minutes=2)

    await scheduler.schedule(note, execution_time=time, expires=expires, job_id="j")
    await scheduler.schedule_bulk([JobSpec(note, time, expires=expires)] * COPY_FROM)

    statuses = await world.pool.fetch("SELECT DISTINCT status FROM scheduled_jobs")
    assert [row[0] for row in statuses] == ["expired"]


async def serve(world: World, worker: str, start: int, end: int) -> None:
    """Beats of the worker without a gap, from second ``start`` of this database's clock to second ``end``."""
    for seconds in range(start, end + 1, int(LEASE_SECONDS / 2)):
        await world.advance(timedelta(seconds=seconds))
        await world.beat(worker)


async def due(world: World, seconds: int = 0) -> datetime:
    now: datetime = await world.pool.fetchval("SELECT scheduler_now()")
    return now + timedelta(seconds=seconds)


async def outcome(world: World, claimed: list[ClaimedJob]) -> list[str]:
    """What each became, by the row and by the claim's reply alike."""
    statuses = [(await world.row(job.job_id))["status"] for job in claimed]
    assert [status == "running" for status in statuses] == [job.attempt == 1 for job in claimed]
    return statuses


async def test_backlog_behind_busy_slots_never_expires_a_job(world: World) -> None:
    worker = await world.worker()
    await world.pending(execution_time=await due(world, 5), misfire_grace_time=GRACE)
    await serve(world, worker, 0, 20 * GRACE)

    assert await outcome(world, await world.claim(worker)) == ["running"]


async def test_a_job_that_nobody_served_within_its_grace_expires_at_its_first_claim(world: World) -> None:
    worker = await world.worker()
    await world.pending(execution_time=await due(world, 10), misfire_grace_time=GRACE)
    later = await world.pending(execution_time=await due(world, 600), misfire_grace_time=GRACE)
    await world.advance(timedelta(seconds=630))  # no beat came since
    await world.beat(worker)

    claimed = sorted(await world.claim(worker), key=start_order)

    assert await outcome(world, claimed) == ["expired", "running"]
    assert claimed[1].job_id == later
    row = await world.row(claimed[0].job_id)
    assert (row["started_at"], row["error_message"]) == (None, "expired: no worker could start it in time")


async def test_a_gap_shorter_than_a_lease_is_none(world: World) -> None:
    await world.worker()
    await world.pending(execution_time=await due(world, 1), misfire_grace_time=1)
    await world.advance(timedelta(seconds=LEASE_SECONDS - 5))
    heir = await world.worker()

    assert await outcome(world, await world.claim(heir)) == ["running"]


async def test_a_claim_before_the_beat_has_said_so_knows_of_the_gap(world: World) -> None:
    """The lease is renewed, the queue's row is stale: it must not vouch for the time without a worker."""
    worker = await world.worker()
    await world.pending(execution_time=await due(world, 10), misfire_grace_time=GRACE)
    await world.advance(timedelta(hours=2))
    await world.pool.execute("UPDATE scheduler_workers SET lease_until = scheduler_now() + interval '30 seconds'")

    assert await outcome(world, await world.claim(worker)) == ["expired"]


async def test_a_queue_that_never_had_a_worker_is_served_since_the_first(world: World) -> None:
    await world.pending(execution_time=await due(world, 5), misfire_grace_time=GRACE)
    within = await world.pending(execution_time=await due(world, 60), misfire_grace_time=GRACE)
    await world.advance(timedelta(seconds=80))
    worker = await world.worker()

    claimed = await world.claim(worker)

    assert sorted(await outcome(world, claimed)) == ["expired", "running"]
    assert [job.job_id for job in claimed if job.attempt] == [within]


async def test_a_draining_worker_serves_nothing(world: World) -> None:
    worker = await world.worker()
    await world.pool.execute("DELETE FROM scheduler_queues")
    await world.pool.execute("UPDATE scheduler_workers SET drain_until = scheduler_now() + interval '1 hour'")
    await world.beat(worker)

    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_queues") == 0


async def test_a_job_that_once_started_does_not_expire(world: World) -> None:
    """Given back by a shutdown, its attempt is not charged; yet it has started."""
    worker = await world.worker()
    job_id = await world.pending(execution_time=await due(world), misfire_grace_time=GRACE)
    await world.jobs.release(await world.claim(worker), worker)
    await world.advance(timedelta(hours=2))
    heir = await world.worker()

    (claimed,) = await world.claim(heir)

    assert (claimed.job_id, claimed.attempt) == (job_id, 1)


async def test_a_job_past_its_own_end_expires_at_its_first_claim(world: World) -> None:
    worker = await world.worker()
    await world.pending(execution_time=await due(world, 5), expires_at=await due(world, 20))
    await world.pending(execution_time=await due(world, 5), expires_at=await due(world, 200))
    await serve(world, worker, 0, 60)

    assert sorted(await outcome(world, await world.claim(worker))) == ["expired", "running"]


async def test_a_replaced_job_is_judged_anew(world: World) -> None:
    worker = await world.worker()
    job = await world.running(worker)
    scheduler = Scheduler(world.pool, misfire_grace_time=GRACE)
    time = await due(world, 10)
    await scheduler.schedule(
        note, execution_time=time, job_id=job.job_id, conflict_resolution=ConflictResolution.REPLACE
    )
    await world.jobs.report_stopped(job)
    await world.pool.execute("UPDATE scheduled_jobs SET task = 't'")
    await world.advance(timedelta(hours=2))

    assert await outcome(world, await world.claim(await world.worker())) == ["expired"]


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_clock_that_is_ten_minutes_off_expires_and_starts_nothing(
    world: World, started: MakeScheduler, minutes: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The database's clock against everybody else's: what is due by it runs, and nothing earlier or else."""
    await world.advance(timedelta(minutes=minutes))
    ran = asyncio.Event()

    async def run() -> None:
        ran.set()

    scheduler = await started(run, misfire_grace_time=1)
    now = await due(world)
    soon = await scheduler.schedule(run, execution_time=now + timedelta(seconds=0.5))
    later = await scheduler.schedule(run, execution_time=now + timedelta(minutes=5))

    await asyncio.wait_for(ran.wait(), PATIENCE)

    async def ended() -> bool:
        return bool((await world.row(soon))["status"] == "completed")

    await until(ended)
    assert (await world.row(soon))["started_at"] >= now + timedelta(seconds=0.5)
    assert (await world.row(later))["status"] == "pending"
    vitals = scheduler.vitals()
    assert vitals is not None
    assert vitals.clock_ahead_seconds == pytest.approx(60 * minutes, abs=5)
    assert caplog.text.count(f"clock is 600 s {'ahead' if minutes > 0 else 'short'} of this machine's") == 1


async def test_a_worker_warns_of_what_expired_and_runs_the_rest(
    world: World, started: MakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler(world.pool, misfire_grace_time=1)
    in_time = await scheduler.schedule(note, execution_time=datetime.now(UTC), misfire_grace_time=None)
    await scheduler.schedule(note, execution_time=datetime.now(UTC) + timedelta(seconds=0.1), job_id="late")
    await world.advance(timedelta(seconds=5))

    await started(note)

    async def both_ended() -> bool:
        return [(await world.row(job_id))["status"] for job_id in (in_time, "late")] == ["completed", "expired"]

    await until(both_ended)
    assert "1 jobs expired: no worker could start them in time" in caplog.text
