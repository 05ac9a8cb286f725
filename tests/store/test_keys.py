"""Jobs that share a concurrency key: how many run, who waits, and who goes on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._store.queries import QUERIES
from pg_scheduler._store.workers import LeaseStore
from support.keyed_jobs import held, keyed, somebody_waits_for_a_lock
from support.waiting import PATIENCE, until
from support.world import LONG_AGO, World, new_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pg_scheduler._domain.jobs import ClaimedJob

ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")


async def test_a_key_without_a_limit_runs_one_at_a_time(world: World) -> None:
    worker = await world.worker()
    first, second, third = await keyed(world, 3)

    assert [job.job_id for job in await world.claim_keyed(worker)] == [first]
    assert await world.statuses(first, second, third) == ["running", "waiting", "waiting"]
    assert await held(world) == [(first, 1)]


async def test_a_limit_holds_over_workers_and_leaves_other_keys_alone(world: World) -> None:
    one, other = await world.worker(), await world.worker()
    await keyed(world, 3, concurrency_limit=2)
    (alone,) = await keyed(world, concurrency_key="l")

    claimed = await world.claim_keyed(one, limit=1) + await world.claim_keyed(other) + await world.claim_keyed(one)

    assert len(claimed) == 3
    assert alone in {job.job_id for job in claimed}
    assert [job.concurrency_key for job in claimed].count("k") == 2


async def test_claims_of_keyed_jobs_are_refused_as_those_of_others(world: World) -> None:
    await keyed(world, task="unknown")
    await keyed(world, queue="other")
    await keyed(world, tenant="other")
    await keyed(world, suspended=True)
    await keyed(world, execution_time=datetime.now(UTC) + timedelta(hours=1))
    assert await world.claim_keyed(await world.worker()) == []

    await keyed(world)
    dead, late, draining = [await world.worker() for _ in range(3)]
    await world.pool.execute("UPDATE scheduler_workers SET state = 'dead' WHERE id = $1", dead)
    await world.pool.execute("UPDATE scheduler_workers SET lease_until = now() - interval '1s' WHERE id = $1", late)
    await world.pool.execute("UPDATE scheduler_workers SET drain_until = now() + interval '1m' WHERE id = $1", draining)
    for worker in (dead, late, draining, "nobody"):
        assert await world.claim_keyed(worker) == [], worker


async def test_a_claim_takes_no_more_than_asked_for_and_parks_nothing_that_could_run(world: World) -> None:
    worker = await world.worker()
    jobs = await keyed(world, 3, concurrency_limit=5)

    assert [job.job_id for job in await world.claim_keyed(worker, limit=2)] == jobs[:2]
    assert await world.statuses(*jobs) == ["running", "running", "pending"]


async def test_the_many_jobs_of_a_full_key_do_not_hide_the_others(world: World) -> None:
    worker = await world.worker()
    await keyed(world)
    await world.claim_keyed(worker)
    await world.pool.execute(
        "INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time, concurrency_key)"
        " SELECT 'b' || n, 't', 't', '{}', '2020-01-01', 'k' FROM generate_series(1, 1000) n"
    )
    (other,) = await keyed(world, concurrency_key="l", execution_time=LONG_AGO + timedelta(hours=1))

    assert [job.job_id for job in await world.claim_keyed(worker, limit=5)] == [other]


async def _complete(world: World, job: ClaimedJob) -> None:
    assert await world.jobs.complete([job], job.worker_id)


async def _fail(world: World, job: ClaimedJob) -> None:
    assert await world.jobs.fail(job, ERROR)


async def _retry(world: World, job: ClaimedJob) -> None:
    assert await world.jobs.retry(job, ERROR, 60)


async def _release(world: World, job: ClaimedJob) -> None:
    assert await world.jobs.release([job], job.worker_id)


async def _release_ghost(world: World, job: ClaimedJob) -> None:
    async with world.pool.acquire() as connection:
        assert await LeaseStore(connection, place="").release_ghosts(job.worker_id, [job.token])


async def _die(world: World, job: ClaimedJob) -> None:
    await world.pool.execute("UPDATE scheduler_workers SET state = 'dead' WHERE id = $1", job.worker_id)
    assert await world.jobs.requeue_orphans(3)


async def _die_for_good(world: World, job: ClaimedJob) -> None:
    await world.pool.execute("UPDATE scheduler_workers SET state = 'dead' WHERE id = $1", job.worker_id)
    assert await world.jobs.requeue_orphans(0)


async def _cancel(world: World, job: ClaimedJob) -> None:
    assert await world.jobs.cancel(job.job_id)
    await world.jobs.report_stopped(job)


async def _cancel_and_die(world: World, job: ClaimedJob) -> None:
    assert await world.jobs.cancel(job.job_id)
    await world.pool.execute("UPDATE scheduler_workers SET state = 'dead' WHERE id = $1", job.worker_id)
    assert await world.jobs.forget_stopping() == 1


async def _replace(world: World, job: ClaimedJob) -> None:
    assert await world.jobs.replace(new_job(job_id=job.job_id, execution_time=datetime.now(UTC) + timedelta(hours=1)))
    await world.jobs.report_stopped(job)


async def _delete(world: World, job: ClaimedJob) -> None:
    await world.pool.execute("DELETE FROM scheduled_jobs WHERE job_id = $1", job.job_id)


WAYS_OUT = [
    _complete,
    _fail,
    _retry,
    _release,
    _release_ghost,
    _die,
    _die_for_good,
    _cancel,
    _cancel_and_die,
    _replace,
    _delete,
]


@pytest.mark.parametrize("leave", WAYS_OUT, ids=lambda way: way.__name__.strip("_"))
async def test_a_way_out_of_running_gives_the_slot_to_the_first_that_waits(
    world: World, leave: Callable[[World, ClaimedJob], Awaitable[None]]
) -> None:
    worker = await world.worker()
    (running,) = await world.claim_keyed(worker) or await _after(keyed(world), world, worker)
    later, second, urgent = [
        *await keyed(world, 2, execution_time=LONG_AGO + timedelta(hours=1)),
        *await keyed(world, priority=1, execution_time=LONG_AGO + timedelta(hours=2)),
    ]
    assert await world.claim_keyed(worker) == []
    assert await world.statuses(later, second, urgent) == ["waiting"] * 3

    await leave(world, running)

    assert await held(world) == []
    assert await world.statuses(later, second, urgent) == ["waiting", "waiting", "pending"]


async def _after(made: Awaitable[object], world: World, worker: str) -> list[ClaimedJob]:
    await made
    return await world.claim_keyed(worker)


async def test_a_cancelled_job_keeps_its_slot_until_its_coroutine_has_ended(world: World) -> None:
    worker = await world.worker(lease_seconds=3600)
    running, second = await keyed(world, 2)
    (job,) = await world.claim_keyed(worker)
    await world.jobs.cancel(running)
    assert await held(world) == [(running, 1)]
    assert await world.claim_keyed(worker) == []
    assert await world.statuses(second) == ["waiting"]

    await world.jobs.report_stopped(job)

    assert [job.job_id for job in await world.claim_keyed(worker)] == [second]


async def test_a_silent_worker_keeps_the_slot_of_a_cancelled_job_for_thirty_seconds(world: World) -> None:
    worker = await world.worker(lease_seconds=3600)
    running, second = await keyed(world, 2)
    await world.claim_keyed(worker)
    await world.jobs.cancel(running)
    await world.advance(timedelta(seconds=29))
    await world.jobs.forget_stopping()
    assert await world.statuses(second) == ["waiting"]

    await world.advance(timedelta(seconds=31))
    await world.jobs.forget_stopping()

    assert await world.statuses(second) == ["pending"]


@pytest.mark.parametrize("query", ["delete_finished_before", "delete_finished_beyond"])
async def test_retention_spares_a_job_that_is_being_stopped(world: World, query: str) -> None:
    worker = await world.worker()
    (running,) = await keyed(world)
    (job,) = await world.claim_keyed(worker)
    await world.jobs.cancel(running)

    assert await world.pool.fetch(QUERIES[query], "", "cancelled", 0, 100) == []
    assert await held(world) == [(running, 1)]
    await world.jobs.report_stopped(job)

    assert len(await world.pool.fetch(QUERIES[query], "", "cancelled", 0, 100)) == 1


async def test_a_replaced_job_that_leaves_its_key_gives_back_the_slot_it_held(world: World) -> None:
    worker = await world.worker()
    running, second = await keyed(world, 2)
    (job,) = await world.claim_keyed(worker)

    await world.jobs.replace(new_job(job_id=running, concurrency_key=None))
    assert await held(world) == [(running, 1)]
    await world.jobs.report_stopped(job)

    assert await held(world) == []
    assert await world.statuses(second) == ["pending"]


@pytest.mark.parametrize(
    "change",
    [
        "status = 'cancelled', finished_at = scheduler_now()",
        "execution_time = scheduler_now() + interval '1 day'",
        "suspended = true",
        "concurrency_key = 'other'",
        "concurrency_key = NULL",
    ],
)
async def test_who_was_promoted_and_does_not_run_passes_the_turn_on(world: World, change: str) -> None:
    worker = await world.worker()
    _, promoted, third = await keyed(world, 3)
    (running,) = await world.claim_keyed(worker)
    await world.jobs.complete([running], worker)
    assert await world.statuses(promoted, third) == ["pending", "waiting"]

    await world.pool.execute(f"UPDATE scheduled_jobs SET {change} WHERE job_id = $1", promoted)  # noqa: S608

    assert await world.statuses(third) == ["pending"]


async def test_the_newest_submission_sets_the_limit(world: World) -> None:
    worker = await world.worker()
    jobs = await keyed(world, 4)
    assert len(await world.claim_keyed(worker)) == 1

    await keyed(world, concurrency_limit=3, execution_time=datetime.now(UTC) + timedelta(hours=1))

    assert await world.statuses(*jobs) == ["running", "pending", "pending", "waiting"]
    assert len(await world.claim_keyed(worker)) == 2
    await keyed(world, concurrency_limit=1, execution_time=datetime.now(UTC) + timedelta(hours=1))
    await keyed(world, execution_time=datetime.now(UTC) + timedelta(hours=1))
    running = await world.pool.fetch("SELECT id, token FROM scheduled_jobs WHERE status = 'running' LIMIT 2")
    await world.pool.execute(
        "UPDATE scheduled_jobs SET status = 'completed', finished_at = scheduler_now() WHERE id = ANY($1::bigint[])",
        [row["id"] for row in running],
    )
    assert await world.claim_keyed(worker) == []
    assert await world.pool.fetch("SELECT * FROM scheduler_concurrency_limits") == []


async def test_an_ignored_submission_sets_no_limit(world: World) -> None:
    (job_id,) = await keyed(world)

    assert not await world.jobs.insert(new_job(job_id=job_id, concurrency_key="k", concurrency_limit=5))

    assert await world.pool.fetch("SELECT * FROM scheduler_concurrency_limits") == []


async def test_a_submission_does_not_wait_for_one_that_sets_the_same_limit(world: World) -> None:
    await keyed(world, concurrency_limit=2)
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT scheduler_set_limits(ARRAY[''], ARRAY['k'], ARRAY[2])")

        async with world.pool.acquire() as other:
            await other.execute("SET lock_timeout = '1s'")
            await other.execute("SELECT scheduler_set_limits(ARRAY[''], ARRAY['k'], ARRAY[2])")


async def test_a_job_that_skips_ends_when_its_key_is_full(world: World) -> None:
    worker = await world.worker()
    first, second = await keyed(world, 2, on_full="skip")

    assert [job.job_id for job in await world.claim_keyed(worker)] == [first]

    row = await world.row(second)
    assert (row["status"], row["error_message"]) == ("cancelled", "skipped: its concurrency key was full")


async def test_a_job_that_will_be_retried_counts_for_those_that_skip(world: World) -> None:
    worker = await world.worker()
    first, second = await keyed(world, 2, on_full="skip")
    (job,) = await world.claim_keyed(worker)
    await world.jobs.retry(job, ERROR, 60)
    (third,) = await keyed(world, on_full="skip")
    assert await world.claim_keyed(worker) == []
    assert await world.statuses(first, second, third) == ["pending", "cancelled", "cancelled"]

    await world.advance(timedelta(seconds=61))
    await world.beat(worker)
    (fourth,) = await keyed(world, on_full="skip")

    assert [job.job_id for job in await world.claim_keyed(worker)] == [first]
    assert await world.statuses(fourth) == ["cancelled"]


@pytest.mark.parametrize("on_full", ["skip", "queue", "replace"])
async def test_a_job_that_has_started_waits_where_a_new_one_would_not(world: World, on_full: str) -> None:
    worker = await world.worker()
    (first,) = await keyed(world, on_full=on_full)
    (job,) = await world.claim_keyed(worker)
    await world.jobs.retry(job, ERROR, 0)
    await keyed(world, execution_time=LONG_AGO - timedelta(days=1))
    await world.pool.execute("UPDATE scheduled_jobs SET suspended = true WHERE job_id = $1", first)
    assert len(await world.claim_keyed(worker)) == 1
    await world.pool.execute("UPDATE scheduled_jobs SET suspended = false WHERE job_id = $1", first)

    assert await world.claim_keyed(worker) == []

    assert await world.statuses(first) == ["waiting"]


async def test_a_job_that_replaces_stops_the_oldest_and_starts_when_it_has_ended(world: World) -> None:
    worker = await world.worker()
    old, young = await keyed(world, 2, concurrency_limit=2)
    jobs = {job.job_id: job for job in await world.claim_keyed(worker)}
    (new,) = await keyed(world, on_full="replace", execution_time=LONG_AGO + timedelta(hours=1))

    assert await world.claim_keyed(worker) == []

    assert await world.statuses(old, young, new) == ["cancelled", "running", "waiting"]
    row = await world.row(old)
    assert row["stopping_worker"] == worker
    assert row["error_message"] == "replaced: a newer job of its concurrency key took its place"
    assert await world.claim_keyed(worker) == []
    await world.jobs.report_stopped(jobs[old])
    assert [job.job_id for job in await world.claim_keyed(worker)] == [new]
    assert await world.statuses(young) == ["running"]


async def test_an_old_word_frees_no_slot_of_a_displaced_job_whose_coroutine_still_runs(world: World) -> None:
    """The answer to the first was lost, so that it comes twice; the same worker has run the job again meanwhile."""
    worker = await world.worker()
    (job_id,) = await keyed(world)
    (first,) = await world.claim_keyed(worker)
    await world.jobs.cancel(job_id)
    await world.jobs.report_stopped(first)
    await world.jobs.run_again(job_id)
    (second,) = await world.claim_keyed(worker)
    await keyed(world, on_full="replace")
    assert await world.claim_keyed(worker) == []
    assert await world.statuses(job_id) == ["cancelled"]

    await world.jobs.report_stopped(first)
    held_after_the_old_word = await held(world)
    await world.jobs.report_stopped(second)

    assert (held_after_the_old_word, await held(world)) == ([(job_id, 1)], [])


async def test_of_jobs_that_replace_only_the_newest_waits(world: World) -> None:
    worker = await world.worker()
    await keyed(world, on_full="replace")
    (job,) = await world.claim_keyed(worker)
    second, third = await keyed(world, 2, on_full="replace", execution_time=LONG_AGO + timedelta(hours=1))
    await world.claim_keyed(worker)
    (fourth,) = await keyed(world, on_full="replace", execution_time=LONG_AGO + timedelta(hours=2))
    await world.claim_keyed(worker)

    assert await world.statuses(second, third, fourth) == ["cancelled", "cancelled", "waiting"]
    await world.jobs.report_stopped(job)
    assert [job.job_id for job in await world.claim_keyed(worker)] == [fourth]


async def test_a_job_that_replaces_cancels_what_would_be_retried(world: World) -> None:
    worker = await world.worker()
    (old,) = await keyed(world, on_full="replace")
    (job,) = await world.claim_keyed(worker)
    await world.jobs.retry(job, ERROR, 60)
    (new,) = await keyed(world, on_full="replace")

    assert [job.job_id for job in await world.claim_keyed(worker)] == [new]
    assert await world.statuses(old, new) == ["cancelled", "running"]


async def test_a_job_that_has_replaced_displaces_nobody_when_it_starts_again(world: World) -> None:
    worker = await world.worker()
    (old,) = await keyed(world, on_full="replace")
    for job_id in (old, *await keyed(world, execution_time=LONG_AGO + timedelta(hours=1))):
        (job,) = await world.claim_keyed(worker)
        assert job.job_id == job_id
        await world.jobs.retry(job, ERROR, 3600)
    await world.pool.execute("UPDATE scheduled_jobs SET execution_time = $2 WHERE job_id = $1", old, LONG_AGO)

    assert [job.job_id for job in await world.claim_keyed(worker)] == [old]

    assert await world.statuses(job_id) == ["pending"]


async def test_a_job_that_replaces_goes_before_others_that_are_due_too(world: World) -> None:
    """Claimed in the order of time, the older would be stopped by the claim that starts it."""
    worker = await world.worker()
    (waits,) = await keyed(world)
    (new,) = await keyed(world, on_full="replace", execution_time=LONG_AGO + timedelta(hours=1))

    assert [job.job_id for job in await world.claim_keyed(worker)] == [new]

    assert await world.statuses(waits, new) == ["waiting", "running"]


async def test_a_job_that_replaces_displaces_one_other(world: World) -> None:
    worker = await world.worker()
    jobs = await keyed(world, 4, concurrency_limit=2)
    for job in await world.claim_keyed(worker):
        await world.jobs.retry(job, ERROR, 3600)
    await world.claim_keyed(worker)
    assert await world.statuses(*jobs) == ["pending", "pending", "running", "running"]

    (new,) = await keyed(world, on_full="replace")
    await world.claim_keyed(worker)

    assert await world.statuses(*jobs, new) == ["cancelled", "pending", "running", "running", "waiting"]


async def test_a_retry_that_is_due_with_a_job_that_replaces_it_is_cancelled(world: World) -> None:
    worker = await world.worker()
    (old,) = await keyed(world, on_full="replace")
    (job,) = await world.claim_keyed(worker)
    await world.jobs.retry(job, ERROR, 0)
    (new,) = await keyed(world, on_full="replace")

    assert [job.job_id for job in await world.claim_keyed(worker)] == [new]
    assert await world.statuses(old, new) == ["cancelled", "running"]


async def test_a_lost_promotion_lasts_one_sweep(world: World) -> None:
    worker = await world.worker()
    jobs = await keyed(world, 3)
    await world.claim_keyed(worker)
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")  # no trigger sees the end
        await connection.execute(
            "UPDATE scheduled_jobs SET status = 'completed', finished_at = now() WHERE status = 'running'"
        )
    assert await world.statuses(*jobs) == ["completed", "waiting", "waiting"]

    await world.jobs.promote_waiting()  # drops the stray slot
    assert await world.jobs.promote_waiting() == 1

    assert await world.statuses(*jobs) == ["completed", "pending", "waiting"]


async def test_a_sweep_takes_no_slot_from_a_job_that_is_being_stopped(world: World) -> None:
    worker = await world.worker()
    running, second = await keyed(world, 2)
    await world.claim_keyed(worker)
    await world.jobs.cancel(running)

    assert await world.jobs.promote_waiting() == 0

    assert await held(world) == [(running, 1)]
    assert await world.statuses(second) == ["waiting"]


async def test_look_ahead_sees_keyed_jobs_apart(world: World) -> None:
    await keyed(world, execution_time=datetime.now(UTC) + timedelta(seconds=100))

    ahead = await world.jobs.look_ahead("", ["default"], ["t"])

    assert ahead.due_in is None
    assert ahead.keyed_in is not None
    assert 95 < ahead.keyed_in <= 100


async def test_a_keyed_job_that_is_too_late_expires_at_its_first_claim_and_takes_no_slot(world: World) -> None:
    worker = await world.worker()
    late, in_time = await keyed(world, 2)
    await world.pool.execute("UPDATE scheduled_jobs SET misfire_grace_time = 60 WHERE job_id = $1", late)

    claimed = await world.claim_keyed(worker)

    assert {(job.job_id, job.attempt) for job in claimed} == {(late, 0), (in_time, 1)}
    row = await world.row(late)
    assert (row["status"], row["error_message"]) == ("expired", "expired: no worker could start it in time")
    assert await held(world) == [(in_time, 1)]


async def test_a_keyed_job_that_waited_for_its_turn_in_a_served_queue_is_not_late(world: World) -> None:
    worker = await world.worker()
    first, second = await keyed(world, 2)
    await world.pool.execute(
        "UPDATE scheduler_queues SET served_since = '2000-01-01', served_until = now() + interval '1 hour'"
    )
    await world.pool.execute("UPDATE scheduled_jobs SET misfire_grace_time = 60")
    (job,) = await world.claim_keyed(worker)
    assert await world.statuses(first, second) == ["running", "waiting"]
    await world.jobs.complete([job], worker)

    assert [(job.job_id, job.attempt) for job in await world.claim_keyed(worker)] == [(second, 1)]


async def test_many_late_jobs_hide_none_that_can_run(world: World) -> None:
    worker = await world.worker()
    await world.pool.execute(
        "INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time, concurrency_key, expires_at)"
        " SELECT 'b' || n, 't', 't', '{}', '2020-01-01', 'k', '2020-01-02' FROM generate_series(1, 100) n"
    )
    (other,) = await keyed(world, execution_time=LONG_AGO + timedelta(hours=1))

    claimed = await world.claim_keyed(worker, limit=5)

    assert [job.job_id for job in claimed if job.attempt] == [other]


async def test_a_paused_queue_gives_out_no_keyed_jobs(world: World) -> None:
    worker = await world.worker()
    await keyed(world)
    await world.pool.execute("UPDATE scheduler_queues SET paused_at = now()")

    assert await world.claim_keyed(worker) == []
    assert (await world.jobs.look_ahead("", ["default"], ["t"])).keyed_in is None


async def test_a_keyed_job_that_has_outlived_two_workers_is_claimed_alone_and_holds_a_slot(world: World) -> None:
    worker = await world.worker()
    (poison,) = await keyed(world)
    await world.pool.execute("UPDATE scheduled_jobs SET interruptions = 2")
    ahead = await world.jobs.look_ahead("", ["default"], ["t"])
    assert (ahead.alone, ahead.keyed_in) == (True, None)
    assert await world.jobs.must_make_room(worker, "", ["default"], ["t"])
    assert await world.claim_keyed(worker) == []

    job = await world.claim_alone(worker)

    assert job is not None
    assert job.job_id == poison
    assert await held(world) == [(poison, 1)]
    (second,) = await keyed(world)
    assert await world.claim_keyed(worker) == []
    assert await world.statuses(second) == ["waiting"]


@pytest.mark.parametrize(("limit", "on_full"), [(None, "skip"), (3, "queue"), (2, "replace")])
async def test_enqueue_of_the_sql_surface_takes_limit_and_choice(world: World, limit: int | None, on_full: str) -> None:
    job_id = await world.pool.fetchval(
        "SELECT scheduler_enqueue('t', concurrency_key => 'k', concurrency_limit => $1, on_full => $2)", limit, on_full
    )

    row = await world.row(job_id)
    assert (row["concurrency_key"], row["concurrency_limit"], row["on_full"]) == ("k", limit, on_full)
    assert await world.pool.fetchval("SELECT limit_ FROM scheduler_concurrency_limits WHERE key = 'k'") == limit


@pytest.mark.parametrize(
    "options", ["concurrency_limit => 2", "on_full => 'skip'", "concurrency_key => 'k', on_full => 'x'"]
)
async def test_enqueue_refuses_what_makes_no_sense(world: World, options: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError) as caught:
        await world.pool.execute(f"SELECT scheduler_enqueue('t', {options})")

    assert caught.value.hint


async def test_schema_refuses_a_job_that_waits_for_no_key(world: World) -> None:
    (job_id,) = await keyed(world)

    with pytest.raises(asyncpg.CheckViolationError):
        await world.pool.execute(
            "UPDATE scheduled_jobs SET status = 'waiting', concurrency_key = NULL WHERE job_id = $1", job_id
        )


async def test_a_claim_parks_nothing_while_a_slot_of_the_key_is_being_given_back(world: World) -> None:
    """Parked, it would never be promoted: who gives the slot back has looked for waiting jobs already."""
    worker = await world.worker()
    _, second = await keyed(world, 2)
    (job,) = await world.claim_keyed(worker)
    await world.pool.execute("UPDATE scheduled_jobs SET status = 'pending' WHERE job_id = $1", second)

    async with world.pool.acquire() as finisher, finisher.transaction():
        await finisher.fetch(QUERIES["complete_jobs"], [job.id], [job.token], worker)
        assert await asyncio.wait_for(world.claim_keyed(worker), PATIENCE) == []
        assert await world.statuses(second) == ["pending"]

    assert [job.job_id for job in await world.claim_keyed(worker)] == [second]


async def test_who_gives_a_slot_back_waits_for_a_claim_that_parks(world: World) -> None:
    worker = await world.worker()
    (first,) = await keyed(world)
    (job,) = await world.claim_keyed(worker)
    assert job.job_id == first
    (second,) = await keyed(world)

    async with world.pool.acquire() as claimer:
        async with claimer.transaction():
            await claimer.fetch(QUERIES["claim_keyed_jobs"], worker, "", ["default"], ["t"], 10, False, 0.0)
            finished = asyncio.create_task(world.jobs.complete([job], worker))
            await until(lambda: somebody_waits_for_a_lock(world.pool), what="the finisher waits for the claim")
        assert await finished == {job.token}

    assert await world.statuses(first, second) == ["completed", "pending"]


async def test_a_claim_leaves_a_key_alone_that_another_claim_gives_slots_of(world: World) -> None:
    worker = await world.worker()
    await keyed(world, 4, concurrency_limit=3)
    await keyed(world, concurrency_key="l")

    async with world.pool.acquire() as claimer, claimer.transaction():
        rows = await claimer.fetch(QUERIES["claim_keyed_jobs"], worker, "", ["default"], ["t"], 1, False, 0.0)
        # Only the first row of a batch that was looked at would be left to the other claim: the rest is locked too.
        assert len(rows) == 1
        (late,) = await keyed(world, execution_time=LONG_AGO + timedelta(days=1))
        assert await asyncio.wait_for(world.claim_keyed(worker), PATIENCE) == []
        assert await world.statuses(late) == ["pending"]


async def test_a_job_that_replaces_waits_for_no_row_that_is_being_finished(world: World) -> None:
    worker = await world.worker()
    (old,) = await keyed(world)
    (job,) = await world.claim_keyed(worker)
    (new,) = await keyed(world, on_full="replace")

    async with world.pool.acquire() as finisher, finisher.transaction():
        await finisher.execute("SELECT FROM scheduled_jobs WHERE job_id = $1 FOR UPDATE", old)
        assert await asyncio.wait_for(world.claim_keyed(worker), PATIENCE) == []
        assert await world.statuses(old, new) == ["running", "waiting"]
        await finisher.fetch(QUERIES["complete_jobs"], [job.id], [job.token], worker)

    assert await world.statuses(old, new) == ["completed", "pending"]
