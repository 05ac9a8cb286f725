"""Limits of queues over the whole fleet, and who may set them."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler import JobStatus
from pg_scheduler._store.listing import QueueStore
from pg_scheduler._store.pools import PoolStore
from pg_scheduler._store.workers import LeaseStore
from pg_scheduler.errors import OwnedByResource
from pg_scheduler.pool_settings import PoolSettings, PoolState, QueueSettings, RateLimit
from support.pools import pool_key, say
from support.world import LONG_AGO, World, new_job

if TYPE_CHECKING:
    from pg_scheduler._domain.jobs import ClaimedJob

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TWO = QueueSettings(concurrency=2)


def rated(limit: int, seconds: int) -> QueueSettings:
    return QueueSettings(rate=RateLimit(limit=limit, seconds=seconds))


async def claim(world: World, worker: str, limit: int = 100, *, alone: bool = False) -> list[ClaimedJob]:
    return await world.jobs.claim_limited(worker, "", ["default"], ["t"], limit, alone=alone)


async def limited_in(world: World) -> float | None:
    return (await world.jobs.look_ahead("", ["default"], ["t"])).limited_in


async def test_no_more_jobs_run_than_the_limit_and_the_next_starts_when_one_ends(world: World) -> None:
    await say(world.db, default=TWO)
    worker = await world.worker()
    due = [await world.pending() for _ in range(5)]

    first = await claim(world, worker)

    assert [job.job_id for job in first] == due[:2]
    assert await claim(world, worker) == []
    await world.jobs.complete(first[:1], worker)
    assert [job.job_id for job in await claim(world, worker)] == due[2:3]


async def test_the_other_claims_leave_a_limited_queue_alone(world: World) -> None:
    await say(world.db, default=TWO)
    worker = await world.worker()
    await world.pending()
    await world.pending(concurrency_key="k")

    assert await world.claim(worker) == await world.claim_keyed(worker) == []
    status = await world.jobs.insert_claimed(new_job(), worker, within_seconds=0, on_claimed=lambda _: None)
    assert status is JobStatus.PENDING
    assert len(await claim(world, worker)) == 2


async def test_a_queue_without_limits_is_none_of_this_claims_business(world: World) -> None:
    await say(world.db, default=QueueSettings(weight=3))
    worker = await world.worker()
    await world.pending()

    assert await claim(world, worker) == []
    assert len(await world.claim(worker)) == 1


async def test_claims_at_once_never_exceed_the_limit(world: World) -> None:
    await say(world.db, default=QueueSettings(concurrency=3))
    workers = [await world.worker() for _ in range(4)]
    await world.pool.execute(
        "INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time, concurrency_key)"
        " SELECT 'b' || n, 't', 't', '{}', now(), CASE n % 2 WHEN 0 THEN 'k' || n END FROM generate_series(1, 60) n"
    )
    most, ran = 0, set[str]()

    async def work(worker: str) -> None:
        nonlocal most
        while len(ran) < 60:
            claimed = await claim(world, worker, 2)
            most = max(most, await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'running'"))
            ran.update(job.job_id for job in claimed)
            await world.jobs.complete(claimed, worker)

    await asyncio.gather(*map(work, workers))

    assert 1 < most <= 3


async def test_jobs_with_keys_and_those_that_run_alone_count_too(world: World) -> None:
    await say(world.db, default=TWO)
    worker = await world.worker()
    plain, keyed, poison = await world.pending(), await world.pending(concurrency_key="k"), await world.pending()
    await world.pool.execute("UPDATE scheduled_jobs SET interruptions = 2 WHERE job_id = $1", poison)

    assert (await world.claim_alone(worker)).job_id == poison  # type: ignore[union-attr]
    assert [job.job_id for job in await claim(world, worker)] == [plain]
    assert await claim(world, worker) == []
    assert await world.statuses(plain, keyed, poison) == ["running", "pending", "running"]


async def test_of_plain_and_keyed_jobs_the_more_urgent_goes_first(world: World) -> None:
    await say(world.db, default=QueueSettings(concurrency=1))
    worker = await world.worker()
    await world.pending(priority=5)
    keyed = await world.pending(priority=3, concurrency_key="k")

    assert [job.job_id for job in await claim(world, worker)] == [keyed]


async def test_a_cancelled_job_keeps_its_place_until_its_coroutine_has_ended(world: World) -> None:
    await say(world.db, default=QueueSettings(concurrency=1))
    worker = await world.worker()
    await world.pending()
    (stopping,) = await claim(world, worker)
    after = await world.pending()
    await world.jobs.cancel(stopping.job_id)
    assert await claim(world, worker) == []

    await world.jobs.report_stopped(stopping)

    assert [job.job_id for job in await claim(world, worker)] == [after]


async def test_what_is_too_late_expires_and_takes_no_place(world: World) -> None:
    await say(world.db, default=rated(1, 60))
    worker = await world.worker()
    await world.pending(expires_at=LONG_AGO)
    await world.pool.execute("UPDATE scheduled_jobs SET status = 'pending', finished_at = NULL")
    on_time = await world.pending()

    claimed = await claim(world, worker)
    claimed += await claim(world, worker)

    assert [job.job_id for job in claimed if job.attempt] == [on_time]
    assert len(claimed) == 2


async def test_no_window_has_more_starts_than_the_rate_and_little_is_left_unused(world: World) -> None:
    await say(world.db, default=rated(5, 10))
    worker, chance, at = await world.worker(lease_seconds=1e6), random.Random(7), 0.0  # noqa: S311
    await world.pool.execute(
        "INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time)"
        " SELECT 'b' || n, 't', 't', '{}', $1 FROM generate_series(1, 300) n",
        LONG_AGO,
    )
    starts: list[float] = []
    for step in [*chance.choices([0.01, 0.06, 0.3, 2.0, 4.97, 9.95], k=60), 60]:
        at += step
        await world.stand_at(NOW + timedelta(seconds=at))
        await world.pool.execute("UPDATE scheduler_workers SET lease_until = scheduler_now() + interval '1 h'")
        starts += [at] * len(await claim(world, worker, chance.randint(1, 5)))

    assert all(sum(1 for start in starts if begin <= start < begin + 10) <= 5 for begin in starts)
    assert len(starts) >= 0.7 * (at - 60) / 10 * 5
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_queue_starts") == 1, "the others have left"


async def test_a_look_says_when_a_limited_queue_may_start_something(world: World) -> None:
    await world.stand_at(NOW)
    worker = await world.worker()
    await say(world.db, default=QueueSettings(concurrency=3, rate=RateLimit(limit=1, seconds=100)))
    assert await limited_in(world) is None
    await world.pending(execution_time=NOW + timedelta(seconds=7))
    assert await limited_in(world) == 7.0
    await world.pending(execution_time=NOW)
    assert await limited_in(world) == 0.0

    await claim(world, worker)

    assert await limited_in(world) == 101.0, "the cell of a hundredth of the window ends a second from now"
    await say(world.db, default=QueueSettings(concurrency=1))
    assert await limited_in(world) == 7.0, "full: within a second, but nothing is due before"
    await world.pending(execution_time=NOW)
    assert await limited_in(world) == 1.0


async def test_a_claim_that_hangs_holds_up_neither_claims_of_other_queues_nor_beats(world: World) -> None:
    await say(world.db, default=TWO, other=TWO)
    worker, hanging = await world.worker(), await world.worker()
    await world.pending()
    await world.pending()
    await world.pending(queue="other")
    async with world.pool.acquire() as connection, connection.transaction():
        assert await connection.fetch(
            "SELECT * FROM scheduler_claim_limited($1, '', '{default}', '{t}', 1, false)", hanging
        )

        claimed = await world.jobs.claim_limited(worker, "", ["default", "other"], ["t"], 10)
        assert [job.queue for job in claimed] == ["other"]
        assert await world.beat(worker) is not None


async def test_a_draining_worker_is_given_nothing(world: World) -> None:
    await say(world.db, default=TWO)
    worker = await world.worker()
    await world.pending()
    await world.pool.execute("UPDATE scheduler_workers SET drain_until = now() + interval '1 m'")

    assert await claim(world, worker) == []


async def test_a_full_queue_does_not_ask_for_a_worker_to_run_a_job_alone(world: World) -> None:
    await say(world.db, default=QueueSettings(concurrency=1))
    worker = await world.worker()
    await world.pending()
    (running,) = await claim(world, worker)
    await world.pool.execute("UPDATE scheduled_jobs SET interruptions = 2 WHERE job_id = $1", await world.pending())
    assert not (await world.jobs.look_ahead("", ["default"], ["t"])).alone
    assert not await world.jobs.must_make_room(worker, "", ["default"], ["t"])
    assert await world.claim_alone(worker) is None

    await world.jobs.complete([running], worker)

    assert (await world.jobs.look_ahead("", ["default"], ["t"])).alone
    assert await world.jobs.must_make_room(worker, "", ["default"], ["t"])


async def test_a_pool_pauses_and_lets_go_and_people_may_not_undo_it(world: World) -> None:
    queues = QueueStore(world.db, tenant="")
    await say(world.db, default=QueueSettings(paused=True))
    (queue,) = await queues.all()
    assert (queue.is_paused, queue.paused_by) == (True, "WorkerPool pool")
    with pytest.raises(OwnedByResource, match="WorkerPool pool"):
        await queues.resume("default")
    assert (await queues.all())[0].is_paused

    await say(world.db, default=QueueSettings())

    (queue,) = await queues.all()
    assert (queue.is_paused, queue.paused_by) == (False, None)


async def test_a_pause_by_people_outlasts_that_of_a_pool(world: World) -> None:
    queues = QueueStore(world.db, tenant="")
    await queues.pause("default", by="ops", reason="the provider is down")
    await say(world.db, default=QueueSettings(paused=True))
    await say(world.db)

    (queue,) = await queues.all()

    assert (queue.paused_by, queue.reason) == ("ops", "the provider is down")
    assert await queues.resume("default")


async def test_the_pause_of_a_pool_that_took_the_queue_over_ends_with_that_pool(world: World) -> None:
    store, paused = PoolStore(world.db), QueueSettings(paused=True)
    await say(world.db, pool_key("young"), default=paused)
    await say(world.db, pool_key("old", age=1), default=paused)

    await store.delete("", "old", "c", None)

    (queue,) = await QueueStore(world.db, tenant="").all()
    assert not queue.is_paused


async def test_of_two_pools_the_older_one_sets_a_queue_whoever_comes_first(world: World) -> None:
    store, one, three = PoolStore(world.db), QueueSettings(concurrency=1), QueueSettings(concurrency=3)
    young, old = pool_key("young"), pool_key("old", age=1)
    await say(world.db, young, mail=one, default=one)
    await say(world.db, old, mail=three)
    await say(world.db, young, mail=one, default=one)

    assert await store.state(old, ["mail"]) == PoolState(settings=PoolSettings(queues={"mail": three}), conflicts={})
    assert await store.state(young, ["mail", "default"]) == PoolState(
        settings=PoolSettings(queues={"default": one}), conflicts={"mail": "old"}
    )

    await store.delete("", "old", "c", "u-old")

    assert (await store.state(young, ["mail", "default"])).conflicts == {}


async def test_a_lower_generation_and_another_cluster_change_nothing(world: World) -> None:
    store = PoolStore(world.db)
    await say(world.db, pool_key(generation=2), default=TWO)
    elsewhere = PoolSettings(queues={"default": QueueSettings(concurrency=9)})

    assert not await store.set(pool_key(generation=1), elsewhere)
    await world.pool.execute("UPDATE scheduler_pool_settings SET source_cluster = 'other'")
    assert not await store.set(pool_key(generation=3), elsewhere)

    assert await world.pool.fetchval("SELECT concurrency FROM scheduler_queue_settings") == 2


async def test_what_a_pool_no_longer_says_holds_no_longer(world: World) -> None:
    await say(world.db, default=TWO, mail=TWO)
    await say(world.db, mail=TWO)

    assert (await world.jobs.look_ahead("", ["default", "mail"], ["t"])).settings.limited == {"mail"}
    await PoolStore(world.db).delete("", "pool", "c", None)
    assert not (await world.jobs.look_ahead("", ["default", "mail"], ["t"])).settings.limited


async def test_a_beat_writes_its_queues_while_settings_change(world: World) -> None:
    await say(world.db, default=TWO)
    worker = await world.worker()
    async with world.pool.acquire() as connection:
        await LeaseStore(connection, place="").beat(worker, 30, ["t"])

    (queue,) = await QueueStore(world.db, tenant="").all()

    assert queue.served_until is not None


async def test_a_draining_worker_sees_nothing_to_ask_for_and_goes_on_when_the_mark_has_run_out(world: World) -> None:
    await say(world.db, mail=TWO)
    worker = await world.worker()
    await world.pending()
    await world.pending(concurrency_key="k")
    await world.pending(queue="mail")
    await world.pool.execute("UPDATE scheduled_jobs SET interruptions = 2 WHERE job_id = $1", await world.pending())

    async def seen() -> list[bool]:
        ahead = await world.jobs.look_ahead("", ["default", "mail"], ["t"], worker_id=worker)
        return [left is not None for left in (ahead.due_in, ahead.keyed_in, ahead.limited_in)] + [ahead.alone]

    assert await seen() == [True] * 4
    await world.pool.execute("UPDATE scheduler_workers SET drain_until = now() + interval '1 m'")
    assert await seen() == [False] * 4

    await world.advance(timedelta(minutes=2))

    assert await seen() == [True] * 4
