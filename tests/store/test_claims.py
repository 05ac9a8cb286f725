"""Claims, outcomes and the fence between them."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from pg_scheduler._domain.jobs import start_order
from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler.job_status import JobStatus
from support.world import LONG_AGO, World, new_job

ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")


async def test_claim_takes_due_jobs_by_priority_and_time(world: World) -> None:
    worker = await world.worker()
    later = LONG_AGO + timedelta(hours=1)
    low = await world.pending(priority=8)
    second = await world.pending(execution_time=later)
    first = await world.pending()
    urgent = await world.pending(priority=1, execution_time=later)
    await world.pending(execution_time=datetime.now(UTC) + timedelta(hours=1))

    claimed = await world.claim(worker)

    assert [job.job_id for job in sorted(claimed, key=start_order)] == [urgent, first, second, low]


async def test_claim_never_takes_more_than_asked_for_over_all_queues(world: World) -> None:
    worker = await world.worker()
    for queue in ("a", "b"):
        for _ in range(5):
            await world.pending(queue=queue)

    claimed = await world.claim(worker, limit=3, queues=["a", "b"])

    assert len(claimed) == 3


async def test_claims_leave_alone_what_is_not_theirs(world: World) -> None:
    worker = await world.worker()
    await world.pending(task="unknown")
    await world.pending(queue="other")
    await world.pending(tenant="other")
    await world.pending(suspended=True)

    assert await world.claim(worker) == []


async def test_claims_of_a_worker_without_a_lease_get_nothing(world: World) -> None:
    await world.pending()
    dead, late, draining = [await world.worker() for _ in range(3)]
    await world.pool.execute("UPDATE scheduler_workers SET state = 'dead' WHERE id = $1", dead)
    await world.pool.execute("UPDATE scheduler_workers SET lease_until = now() - interval '1s' WHERE id = $1", late)
    await world.pool.execute("UPDATE scheduler_workers SET drain_until = now() + interval '1m' WHERE id = $1", draining)

    for worker in (dead, late, draining, "nobody"):
        assert await world.claim(worker) == [], worker


async def test_each_claim_draws_a_higher_token(world: World) -> None:
    worker = await world.worker()
    first = await world.running(worker)
    await world.jobs.release([first], worker)

    (second,) = await world.claim(worker)

    assert second.token > first.token


async def test_only_the_holder_of_the_token_can_end_a_job(world: World) -> None:
    killed, heir = await world.worker(), await world.worker()
    stale = await world.running(killed)
    await world.pool.execute("UPDATE scheduler_workers SET state = 'dead' WHERE id = $1", killed)
    assert await world.jobs.requeue_orphans(3) == [JobStatus.PENDING]
    (current,) = await world.claim(heir)

    assert await world.jobs.complete([stale], killed) == set()
    assert await world.jobs.release([stale], killed) == set()
    assert not await world.jobs.fail(stale, ERROR)
    assert not await world.jobs.retry(stale, ERROR, 1)
    assert (await world.row(stale.job_id))["token"] == current.token
    assert await world.jobs.complete([current], heir) == {current.token}
    assert await world.jobs.complete([current], heir) == set()


async def test_failure_keeps_the_record_of_the_attempt(world: World) -> None:
    worker = await world.worker()
    job = await world.running(worker)

    assert await world.jobs.fail(job, ERROR)

    row = await world.row(job.job_id)
    attempt = await world.pool.fetchrow("SELECT * FROM scheduler_attempts WHERE job_id = $1", job.job_id)
    assert (row["status"], row["error_message"], row["worker_id"]) == ("failed", "'x'", worker)
    assert attempt is not None
    assert (attempt["error_type"], attempt["token"], attempt["attempt"]) == ("KeyError", job.token, 1)


async def test_retry_puts_the_job_off_and_counts_it(world: World) -> None:
    worker = await world.worker()
    job = await world.running(worker)

    assert await world.jobs.retry(job, ERROR, 60)

    row = await world.row(job.job_id)
    assert (row["status"], row["retry_count"]) == ("pending", 1)
    assert await world.claim(worker) == []
    await world.advance(timedelta(seconds=61))
    await world.beat(worker)
    assert len(await world.claim(worker)) == 1


async def test_release_does_not_charge_the_attempt(world: World) -> None:
    worker = await world.worker()
    job = await world.running(worker)

    assert await world.jobs.release([job], worker) == {job.token}

    row = await world.row(job.job_id)
    assert (row["status"], row["attempt"], row["worker_id"]) == ("pending", 0, None)


async def test_insert_leaves_a_taken_id_untouched(world: World) -> None:
    job_id = await world.pending()
    before = dict(await world.row(job_id))

    assert not await world.jobs.insert(new_job(job_id=job_id))
    assert dict(await world.row(job_id)) == before


async def test_replace_of_a_running_job_fences_it_off_and_waits_for_its_end(world: World) -> None:
    worker = await world.worker()
    old = await world.running(worker)

    assert await world.jobs.replace(new_job(job_id=old.job_id))

    assert await world.jobs.complete([old], worker) == set()
    assert await world.claim(worker) == []
    await world.jobs.report_stopped(old)
    (new,) = await world.claim(worker)
    assert (new.job_id, new.attempt) == (old.job_id, 1)


async def test_replace_brings_an_ended_job_back_with_zeroed_counters(world: World) -> None:
    worker = await world.worker()
    job = await world.running(worker)
    await world.jobs.fail(job, ERROR)

    assert await world.jobs.replace(new_job(job_id=job.job_id))

    row = await world.row(job.job_id)
    assert (row["status"], row["attempt"], row["retry_count"], row["finished_at"]) == ("pending", 0, 0, None)


async def test_cancel_has_one_winner(world: World) -> None:
    worker = await world.worker()
    pending = await world.pending(execution_time=datetime.now(UTC) + timedelta(hours=1))
    running = await world.running(worker)
    done = await world.running(worker)
    await world.jobs.complete([done], worker)

    assert [await world.jobs.cancel(j) for j in (pending, running.job_id, done.job_id, "unknown")] == [
        True,
        True,
        False,
        False,
    ]
    assert not await world.jobs.cancel(pending)
    assert await world.jobs.complete([running], worker) == set()
    assert (await world.row(running.job_id))["stopping_worker"] == worker


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", "done"),
        ("priority", 2),
        ("execution_time", datetime(9999, 1, 1, tzinfo=UTC)),
        ("status", "running"),
        ("status", "completed"),
        ("finished_at", LONG_AGO),
        ("on_interrupt", "ask"),
    ],
)
async def test_schema_refuses_rows_that_break_an_invariant(world: World, column: str, value: object) -> None:
    job_id = await world.pending()

    with pytest.raises(asyncpg.CheckViolationError):
        await world.pool.execute(
            f"UPDATE scheduled_jobs SET {column} = $2 WHERE job_id = $1",  # noqa: S608  names from the table above
            job_id,
            value,
        )


async def test_look_ahead_counts_to_the_first_job_that_this_worker_could_run(world: World) -> None:
    assert (await world.jobs.look_ahead("", ["default"], ["t"])).due_in is None
    await world.pending(task="unknown")
    await world.pending(execution_time=datetime.now(UTC) + timedelta(seconds=100))

    ahead = await world.jobs.look_ahead("", ["default"], ["t"])

    assert ahead.keyed_in is None
    assert ahead.due_in is not None
    assert 95 < ahead.due_in <= 100


async def test_claim_takes_no_job_before_its_time_but_what_it_was_told_to_prefetch(world: World) -> None:
    worker = await world.worker()
    soon = await world.pending(execution_time=datetime.now(UTC) + timedelta(seconds=30))
    await world.pending(execution_time=datetime.now(UTC) + timedelta(seconds=90))

    assert await world.claim(worker) == []
    (claimed,) = await world.jobs.claim(worker, "", ["default"], ["t"], 10, within_seconds=60)

    assert claimed.job_id == soon
    assert (await world.row(soon))["started_at"] == claimed.execution_time


async def test_claim_looks_at_nothing_below_its_floor(world: World) -> None:
    worker = await world.worker()
    await world.pending()
    late = await world.pending(execution_time=datetime.now(UTC) - timedelta(seconds=1))

    floor = datetime.now(UTC) - timedelta(seconds=5)
    claimed = await world.jobs.claim(worker, "", ["default"], ["t"], 10, floor=floor)

    assert [job.job_id for job in claimed] == [late]
