"""Concurrency keys in running workers: never more than the limit, and the next one starts without a poll."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import ConflictResolution, JobSpec, Scheduler
from pg_scheduler import scheduler as scheduler_module
from pg_scheduler._domain.ticking import Plan, Tick
from pg_scheduler._store.schedule_rows import stored_schedule
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.periodic import PeriodicJobConfig, PeriodicRegistry
from support.waiting import until

if TYPE_CHECKING:
    import asyncpg

    from engine.conftest import MakeScheduler
    from pg_scheduler.job_spec import OnFull
    from support.world import World


class Gauge:
    """How many run now, and the most that ever did."""

    def __init__(self) -> None:
        self.running = self.most = self.ended = 0

    async def job(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.01)
        self.running -= 1
        self.ended += 1


@pytest.mark.usefixtures("unpolled")
async def test_two_workers_keep_to_the_limit_and_lose_no_time(started: MakeScheduler) -> None:
    gauge = Gauge()

    async def work() -> None:
        await gauge.job()

    one, _ = await started(work), await started(work)
    for _ in range(20):
        await one.schedule(work, execution_time=datetime.now(UTC), concurrency_key="customer-1", concurrency_limit=2)

    await until(lambda: gauge.ended == 20)

    assert gauge.most == 2


async def test_a_bulk_keeps_to_its_limit_too(started: MakeScheduler) -> None:
    gauge = Gauge()

    async def work() -> None:
        await gauge.job()

    scheduler = await started(work)
    now = datetime.now(UTC)
    specs = [JobSpec(work, now, concurrency_key="k", concurrency_limit=3) for _ in range(30)]

    await scheduler.schedule_bulk(specs)

    await until(lambda: gauge.ended == 30)
    assert gauge.most == 3


@pytest.mark.parametrize("count", [5, 150])
@pytest.mark.parametrize("conflict", list(ConflictResolution))
async def test_every_way_of_submission_stores_key_limit_and_choice(
    pool: asyncpg.Pool[asyncpg.Record], count: int, conflict: ConflictResolution
) -> None:
    async def work() -> None: ...

    scheduler = Scheduler(pool)
    later = datetime.now(UTC) + timedelta(days=1)
    keyed: Any = {"concurrency_key": "k", "concurrency_limit": 4, "on_full": "skip"}

    await scheduler.schedule_bulk(
        [JobSpec(work, later, job_id=f"b{n}", **keyed) for n in range(count)], conflict_resolution=conflict
    )
    await scheduler.schedule(work, execution_time=later, job_id="s", conflict_resolution=conflict, **keyed)
    await scheduler.schedule_job("work", later, {}, job_id="n", conflict_resolution=conflict, **keyed)

    rows = await pool.fetch(
        "SELECT concurrency_key, concurrency_limit, on_full, count(*) FROM scheduled_jobs GROUP BY 1, 2, 3"
    )
    assert [tuple(row) for row in rows] == [("k", 4, "skip", count + 2)]
    assert await pool.fetchval("SELECT limit_ FROM scheduler_concurrency_limits WHERE key = 'k'") == 4


async def test_a_bulk_that_replaces_sets_the_limit_of_what_it_replaced(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async def work() -> None: ...

    scheduler = Scheduler(pool)
    later = datetime.now(UTC) + timedelta(days=1)
    await scheduler.schedule(work, execution_time=later, job_id="j")

    await scheduler.schedule_bulk(
        [JobSpec(work, later, job_id="j", concurrency_key="k", concurrency_limit=4)],
        conflict_resolution=ConflictResolution.REPLACE,
    )

    assert await pool.fetchval("SELECT limit_ FROM scheduler_concurrency_limits WHERE key = 'k'") == 4


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"concurrency_key": ""}, "concurrency_key"),
        ({"concurrency_key": "x" * 201}, "concurrency_key"),
        ({"concurrency_key": "a\0b"}, "concurrency_key"),
        ({"concurrency_key": 7}, "concurrency_key"),
        ({"concurrency_key": "k", "concurrency_limit": 0}, "concurrency_limit"),
        ({"concurrency_key": "k", "concurrency_limit": 10_001}, "concurrency_limit"),
        ({"concurrency_key": "k", "concurrency_limit": True}, "concurrency_limit"),
        ({"concurrency_key": "k", "on_full": "never"}, "on_full"),
        ({"concurrency_limit": 2}, "without a key"),
        ({"on_full": "skip"}, "without a key"),
    ],
)
async def test_a_key_that_cannot_be_used_is_refused_and_nothing_written(
    pool: asyncpg.Pool[asyncpg.Record], given: dict[str, Any], named: str
) -> None:
    async def work() -> None: ...

    with pytest.raises(InvalidArgument, match=named) as caught:
        await Scheduler(pool).schedule(work, execution_time=datetime.now(UTC), **given)

    assert caught.value.fix
    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0


async def test_a_cancelled_job_hands_its_slot_on_when_its_coroutine_has_ended(started: MakeScheduler) -> None:
    begun: list[str] = []
    may_end = asyncio.Event()

    async def work(name: str) -> None:
        begun.append(name)
        if name == "first":
            try:
                await asyncio.Event().wait()
            finally:
                await may_end.wait()

    scheduler = await started(work)
    first = await scheduler.schedule(work, execution_time=datetime.now(UTC), args=("first",), concurrency_key="k")
    await until(lambda: begun == ["first"])
    await scheduler.schedule(work, execution_time=datetime.now(UTC), args=("second",), concurrency_key="k")

    assert await scheduler.cancel_job(first)
    await until(lambda: scheduler._worker.engine and scheduler._worker.engine.slots.held()[0].stop_reason)
    assert begun == ["first"]
    may_end.set()

    await until(lambda: begun == ["first", "second"])


async def test_a_job_that_replaces_stops_the_one_that_runs_on_another_worker(started: MakeScheduler) -> None:
    begun: list[str] = []
    stopped = asyncio.Event()

    async def work(name: str) -> None:
        begun.append(name)
        if name == "old":
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

    one = await started(work)
    await one.schedule(work, execution_time=datetime.now(UTC), args=("old",), concurrency_key="k")
    await until(lambda: begun == ["old"])
    other = await started(work)

    await other.schedule(work, execution_time=datetime.now(UTC), args=("new",), concurrency_key="k", on_full="replace")

    await until(lambda: begun == ["old", "new"])
    assert stopped.is_set()


async def test_keyed_and_other_jobs_share_the_slots_of_a_busy_worker(world: World, started: MakeScheduler) -> None:
    order: list[str] = []

    async def work(kind: str) -> None:
        order.append(kind)

    scheduler = Scheduler(world.pool)
    now = datetime.now(UTC)
    await scheduler.schedule_bulk(
        [JobSpec(work, now, args=("keyed",), concurrency_key=f"k{n}") for n in range(200)]
        + [JobSpec(work, now, args=("other",)) for _ in range(200)]
    )

    await started(work, max_concurrent_jobs=2, batch_claim_limit=2)

    await until(lambda: len(order) == 400)
    assert {"keyed", "other"} == set(order[:40])
    last = {kind: len(order) - order[::-1].index(kind) for kind in ("keyed", "other")}
    assert min(last.values()) > 300, "one kind had to wait for the other's end"


@pytest.mark.parametrize("on_full", ["wait", "replace"])
async def test_a_keyed_job_starts_at_its_instant_and_not_with_the_next_look(
    started: MakeScheduler, on_full: OnFull
) -> None:
    begun: list[datetime] = []

    async def work() -> None:
        begun.append(datetime.now(UTC))

    scheduler = await started(work)
    at = datetime.now(UTC) + timedelta(seconds=0.7)
    await scheduler.schedule(work, execution_time=at, concurrency_key="k", on_full=on_full)

    await until(lambda: bool(begun))
    assert timedelta(0) <= begun[0] - at < timedelta(seconds=0.5)


@pytest.mark.parametrize(("on_full", "is_ahead"), [("wait", True), ("skip", True), ("queue", True), ("replace", False)])
async def test_a_keyed_job_is_claimed_ahead_unless_it_replaces(
    world: World, started: MakeScheduler, on_full: OnFull, is_ahead: bool
) -> None:
    async def work() -> None: ...

    scheduler = await started(work)
    at = datetime.now(UTC) + timedelta(seconds=0.7)
    job_id = await scheduler.schedule(work, execution_time=at, concurrency_key="k", on_full=on_full)

    await until(lambda: world.pool.fetchval("SELECT status = 'completed' FROM scheduled_jobs"))

    row = await world.row(job_id)
    assert (row["started_at"] == at) == is_ahead, "what is claimed ahead starts at its instant to the microsecond"
    assert row["finished_at"] >= at


async def test_of_what_queues_in_running_workers_one_runs_and_one_waits(world: World, started: MakeScheduler) -> None:
    gauge, may_end = Gauge(), asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        await gauge.job()

    one, _ = await started(work), await started(work)
    now = datetime.now(UTC)
    for number in range(6):
        at = now + timedelta(milliseconds=number)
        await one.schedule(work, execution_time=at, concurrency_key="k", on_full="queue")
    ended = "SELECT array_agg(status ORDER BY status) = '{cancelled,cancelled,cancelled,cancelled,running,waiting}'"
    await until(lambda: world.pool.fetchval(f"{ended} FROM scheduled_jobs"))

    may_end.set()

    await until(lambda: gauge.ended == 2)
    assert gauge.most == 1


async def test_a_keyed_job_that_has_outlived_two_workers_runs_alone(world: World, started: MakeScheduler) -> None:
    may_end, beside = asyncio.Event(), asyncio.Event()
    begun: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)
        await (may_end if name == "poison" else beside).wait()

    later = datetime.now(UTC) + timedelta(days=1)
    poison = await Scheduler(world.pool).schedule(work, execution_time=later, args=("poison",), concurrency_key="k")
    await world.pool.execute("UPDATE scheduled_jobs SET interruptions = 2, execution_time = now()")
    scheduler = await started(work)
    await until(lambda: begun == ["poison"])
    await scheduler.schedule(work, execution_time=datetime.now(UTC), args=("other",), concurrency_key="l")
    assert scheduler.active_jobs == {poison}

    may_end.set()
    await until(lambda: begun == ["poison", "other"])
    beside.set()


async def test_use_advisory_lock_holds_in_26_of_26_runs_over_two_schedulers(
    world: World, started: MakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog of 26 ticks stands for a schedule whose runs take longer than its interval."""
    gauge = Gauge()
    registry = PeriodicRegistry()
    monkeypatch.setattr(scheduler_module, "periodic_registry", registry)

    async def work() -> None:
        await gauge.job()

    registry.add(PeriodicJobConfig(work, interval=timedelta(days=1), use_advisory_lock=True))
    one, _ = await started(), await started()
    assert one.is_running
    async with world.db.transaction() as connection:
        row = await connection.fetchrow(
            "SELECT s.*, task_data::text AS payload, retry_policy::text AS retry_text, tags::text AS tags_text,"
            " metadata::text AS metadata_text FROM scheduler_schedules s"
        )
        assert row is not None
        now = datetime.now(UTC)
        at = [now - timedelta(seconds=26 - n) for n in range(26)]
        ticks = tuple(Tick(at=each, due_at=each, previous_at=None) for each in at)
        plan = Plan(ticks=ticks, passed=(), next_at=now + timedelta(days=1))
        assert await world.schedules.record_ticks(connection, [(stored_schedule(row), plan)]) == 26

    await until(lambda: gauge.ended == 26)

    assert gauge.most == 1
    keys = await world.pool.fetch("SELECT DISTINCT concurrency_key FROM scheduled_jobs")
    assert [tuple(key) for key in keys] == [(f"periodic:{row['source_uid']}",)]
