"""Schedules that code declares, ticking in running workers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import JobContext, JobPriority, Scheduler
from pg_scheduler import scheduler as scheduler_module
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.periodic_jobs import PeriodicJobs
from pg_scheduler._engine.rescuer import Rescuer
from pg_scheduler.errors import SchemaMismatch
from pg_scheduler.periodic import PeriodicJobConfig, PeriodicRegistry
from pg_scheduler.retry_policy import RetryPolicy
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Declare = Callable[..., str]

    import asyncpg

    from engine.conftest import MakeScheduler
    from support.world import World

HOUR = timedelta(hours=1)
STATUS_KEYS = [
    "job_name",
    "enabled",
    "priority",
    "max_retries",
    "dedup_key",
    "use_advisory_lock",
    "function_name",
    "function_module",
    "interval",
    "next_run_at",
    "last_run_at",
    "last_status",
]

ROW_KEYS = ["suspended", "suspended_at", "suspended_by", "suspend_reason", "halted_reason", "retired_reason"]


async def job() -> None:
    """What most schedules here would run, once an hour."""


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Declares a schedule in a registry of this test's own."""
    registry = PeriodicRegistry()
    monkeypatch.setattr(scheduler_module, "periodic_registry", registry)

    def declare(function: Any, **settings: Any) -> str:
        config = PeriodicJobConfig(function, **settings)
        registry.add(config)
        return str(config.dedup_key)

    return declare


async def test_an_interval_ticks_on_its_grid_once_over_three_workers(
    world: World, started: MakeScheduler, declare: Declare
) -> None:
    runs: list[int] = []

    async def each_second() -> None:
        runs.append(1)

    declare(each_second, interval=timedelta(seconds=1))
    for _ in range(3):
        await started()

    await until(lambda: len(runs) >= 3)
    rows = await world.pool.fetch(
        "SELECT tick_at, started_at, job_name FROM scheduled_jobs WHERE started_at IS NOT NULL ORDER BY tick_at"
    )
    ticks = [row["tick_at"] for row in rows]
    assert {later - earlier for earlier, later in pairwise(ticks)} == {timedelta(seconds=1)}
    assert {row["job_name"] for row in rows} == {"periodic_each_second"}
    assert all(row["started_at"] >= row["tick_at"] for row in rows)


@pytest.mark.newest_postgres
async def test_three_workers_run_a_daily_rule_once_in_the_night_that_shows_its_minute_twice(
    world: World, started: MakeScheduler, declare: Declare
) -> None:
    ticks: list[Any] = []

    async def nightly(ctx: JobContext) -> None:
        ticks.append(ctx.tick)

    async def is_past(instant: datetime) -> bool:
        """Whether the database's clock is."""
        return bool(await world.pool.fetchval("SELECT scheduler_now() > $1", instant))

    declare(nightly, cron="30 2 * * *", timezone="Europe/Berlin")
    first, second = (datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1))
    await world.advance(first - timedelta(seconds=3) - datetime.now(UTC))
    for _ in range(3):
        await started(lease_seconds=6)
    await until(lambda: is_past(first + timedelta(seconds=2)))
    await world.advance(second - timedelta(seconds=3) - datetime.now(UTC))
    await until(lambda: is_past(second + timedelta(seconds=8)))  # each has looked since

    assert ticks == [first]


async def test_a_changed_rule_edits_the_row(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, declare: Declare
) -> None:
    declare(job, interval=timedelta(hours=1))
    first = await started()
    await first.shutdown()
    (row,) = await pool.fetch("SELECT interval_seconds FROM scheduler_schedules")
    assert row["interval_seconds"] == 3600

    redeclared = PeriodicRegistry()
    redeclared.add(PeriodicJobConfig(job, cron="30 2 * * *"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler_module, "periodic_registry", redeclared)
        await started()

    (row,) = await pool.fetch("SELECT interval_seconds, cron FROM scheduler_schedules")
    assert (row["interval_seconds"], row["cron"]) == (None, ["30 2 * * *"])


async def test_what_code_disables_does_not_tick(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, declare: Declare
) -> None:
    declare(job, interval=timedelta(seconds=1), enabled=False)
    await started()

    (row,) = await pool.fetch("SELECT enabled, next_tick_at FROM scheduler_schedules")
    assert (row["enabled"], row["next_tick_at"]) == (False, None)


async def test_a_worker_lists_what_it_declares_and_knows(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, declare: Declare
) -> None:
    declare(job, interval=timedelta(hours=1))
    await started()

    (row,) = await pool.fetch("SELECT tasks, schedules FROM scheduler_workers")
    assert row["schedules"] == [f"{__name__}:job"]
    assert row["schedules"][0] in row["tasks"]


async def suspended(world: World) -> bool:
    return bool(await world.pool.fetchval("SELECT suspended FROM scheduler_schedules"))


@pytest.mark.newest_postgres
async def test_ten_seconds_make_ten_runs_on_a_fixed_grid_whatever_the_job_takes(
    world: World, started: MakeScheduler, declare: Declare
) -> None:
    async def quick() -> None: ...

    async def slow() -> None:
        await asyncio.sleep(1.2)  # the work of a job that takes more than half of its interval

    declare(quick, interval=timedelta(seconds=1))
    declare(slow, interval=timedelta(seconds=2))
    scheduler = await started()

    async def ticked(name: str, count: int) -> bool:
        return bool(
            await world.pool.fetchval(
                "SELECT count(*) >= $2 FROM scheduled_jobs WHERE job_name = $1 AND started_at IS NOT NULL", name, count
            )
        )

    await until(lambda: ticked("periodic_quick", 10))
    await until(lambda: ticked("periodic_slow", 5))
    await scheduler.shutdown()

    for name, seconds, count in (("periodic_quick", 1, 10), ("periodic_slow", 2, 5)):
        rows = await world.pool.fetch(
            "SELECT tick_at, started_at - tick_at AS late FROM scheduled_jobs"
            " WHERE job_name = $1 AND started_at IS NOT NULL ORDER BY tick_at",
            name,
        )
        assert abs(len(rows) - count) <= 1
        assert {b["tick_at"] - a["tick_at"] for a, b in pairwise(rows)} == {timedelta(seconds=seconds)}
        assert timedelta(0) <= min(row["late"] for row in rows)
        assert max(row["late"] for row in rows) < EngineConfig().poll_seconds * timedelta(seconds=0.5)


async def test_replicas_that_start_at_once_make_one_schedule_and_one_job_a_tick(
    world: World, started: MakeScheduler, declare: Declare
) -> None:
    declare(job, interval=timedelta(seconds=1))

    await asyncio.gather(*(started() for _ in range(4)))

    async def three_ticks() -> bool:
        return bool(await world.pool.fetchval("SELECT count(DISTINCT tick_at) >= 3 FROM scheduled_jobs"))

    await until(three_ticks)
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 1
    assert await world.pool.fetchval("SELECT count(*) - count(DISTINCT tick_at) FROM scheduled_jobs") == 0


@pytest.mark.usefixtures("unpolled")
async def test_a_change_from_elsewhere_is_seen_before_the_next_poll(
    world: World, started: MakeScheduler, declare: Declare
) -> None:
    key = declare(job, interval=HOUR)
    worker, web = await started(), Scheduler(world.pool)

    def runs() -> bool:
        status = worker.get_periodic_job_status(key)
        assert status is not None
        assert status["enabled"] == (status["next_run_at"] is not None)
        return bool(status["enabled"])

    assert runs()
    await web.suspend_schedule(key)
    await until(lambda: not runs())
    await web.resume_schedule(key)
    await until(runs)


async def test_a_wish_and_a_trigger_wake_what_sleeps_in_this_process(world: World) -> None:
    triggered, ticker = asyncio.Event(), asyncio.Event()
    config = PeriodicJobConfig(job, interval=HOUR)
    periodic = PeriodicJobs(world.schedules, lambda: {"k": config}, tenant="", on_triggered=triggered.set)
    periodic.ticked_by(ticker)

    assert periodic.wish("k", suspended=True)
    await asyncio.wait_for(ticker.wait(), 1)

    assert await periodic.trigger("k")
    assert triggered.is_set()


async def test_status_has_the_keys_that_users_know(started: MakeScheduler, declare: Declare) -> None:
    key = declare(job, interval=HOUR, priority=JobPriority.HIGH, max_retries=2)
    scheduler = await started()

    status = scheduler.get_periodic_job_status(key)

    assert status is not None
    assert list(status) == STATUS_KEYS
    assert status["next_run_at"] is not None
    assert status | {"next_run_at": None} == {
        "job_name": "periodic_job",
        "enabled": True,
        "priority": JobPriority.HIGH,
        "max_retries": 2,
        "dedup_key": key,
        "use_advisory_lock": False,
        "function_name": "job",
        "function_module": __name__,
        "interval": HOUR,
        "next_run_at": None,
        "last_run_at": None,
        "last_status": None,
    }


async def test_a_cron_status_names_its_zone(pool: asyncpg.Pool[asyncpg.Record], declare: Declare) -> None:
    key = declare(job, cron="@daily", timezone="America/New_York")

    status = Scheduler(pool).get_periodic_job_status(key)

    assert status is not None
    assert (status["cron"], status["timezone"], "interval" in status) == ("@daily", "America/New_York", False)


async def test_what_is_declared_is_listed_by_key_before_any_start(
    pool: asyncpg.Pool[asyncpg.Record], declare: Declare
) -> None:
    keys = [declare(job, interval=HOUR, dedup_key=key) for key in ("a", "b")]
    scheduler = Scheduler(pool)

    assert scheduler.disable_periodic_job("b")

    listed = scheduler.get_periodic_jobs()
    assert {key: (config.func, config.enabled) for key, config in listed.items()} == {
        "a": (job, True),
        "b": (job, False),
    }
    assert keys == ["a", "b"]


async def test_an_unknown_key_is_nobody(pool: asyncpg.Pool[asyncpg.Record], declare: Declare) -> None:
    declare(job, interval=HOUR)
    scheduler = Scheduler(pool)

    assert not scheduler.enable_periodic_job("unknown")
    assert not scheduler.disable_periodic_job("unknown")
    assert not await scheduler.suspend_schedule("unknown")
    assert not await scheduler.resume_schedule("unknown")
    assert scheduler.get_periodic_job_status("unknown") is None
    assert await scheduler.schedule_status("unknown") is None
    assert await scheduler.trigger_periodic_job("unknown") is None
    assert await pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 0


@pytest.mark.usefixtures("unpolled")
async def test_disabling_counts_at_once_is_written_soon_and_outlives_a_start(
    world: World, started: MakeScheduler, declare: Declare
) -> None:
    key = declare(job, interval=HOUR)
    first = await started()

    assert first.disable_periodic_job(key)

    status = first.get_periodic_job_status(key)
    assert status is not None
    assert (status["enabled"], status["next_run_at"]) == (False, None)
    await until(lambda: suspended(world))
    await first.shutdown()
    second = await started()
    status = second.get_periodic_job_status(key)
    assert status is not None
    assert not status["enabled"]
    assert await suspended(world)

    assert second.enable_periodic_job(key)
    assert second.get_periodic_jobs()[key].enabled

    async def resumed() -> bool:
        return not await suspended(world)

    await until(resumed)


@pytest.mark.usefixtures("unpolled")
async def test_a_wish_of_another_thread_wakes_the_ticker(
    world: World, started: MakeScheduler, declare: Declare
) -> None:
    key = declare(job, interval=HOUR)
    scheduler = await started()

    assert await asyncio.to_thread(scheduler.disable_periodic_job, key)

    await until(lambda: suspended(world))


async def test_a_wish_is_kept_until_the_database_takes_it(
    world: World, started: MakeScheduler, declare: Declare, caplog: pytest.LogCaptureFixture
) -> None:
    key = declare(job, interval=HOUR)
    scheduler = await started(lease_seconds=1.2)

    async with world.db.transaction() as other:
        await other.execute("SELECT FROM scheduler_schedules FOR UPDATE")
        scheduler.disable_periodic_job(key)
        await until(lambda: "ticker: cannot reach PostgreSQL" in caplog.text)
        status = scheduler.get_periodic_job_status(key)
        assert status is not None
        assert not status["enabled"]

    await until(lambda: suspended(world))


async def test_a_wish_before_the_start_is_written_by_it(
    world: World, pool: asyncpg.Pool[asyncpg.Record], declare: Declare
) -> None:
    key = declare(job, interval=HOUR)
    scheduler = Scheduler(pool)
    scheduler.disable_periodic_job(key)

    async with scheduler:
        await until(lambda: suspended(world))


async def test_a_wish_right_before_the_shutdown_is_written(
    world: World, started: MakeScheduler, declare: Declare
) -> None:
    key = declare(job, interval=HOUR)
    scheduler = await started()

    scheduler.disable_periodic_job(key)
    await scheduler.shutdown()

    assert await suspended(world)


async def test_a_wish_that_the_shutdown_cannot_write_waits_for_the_next_start(
    world: World, started: MakeScheduler, declare: Declare, caplog: pytest.LogCaptureFixture
) -> None:
    key = declare(job, interval=HOUR)
    scheduler = await started(lease_seconds=1.2)

    async with world.db.transaction() as other:
        await other.execute("SELECT FROM scheduler_schedules FOR UPDATE")
        scheduler.disable_periodic_job(key)
        await scheduler.shutdown()
    assert "waits for the next start" in caplog.text
    assert not await suspended(world)

    await scheduler.start()
    await until(lambda: suspended(world))


async def test_suspending_works_from_a_process_that_runs_nothing(
    world: World, started: MakeScheduler, declare: Declare
) -> None:
    key = declare(job, interval=timedelta(seconds=1))
    web = Scheduler(world.pool)
    assert await web.suspend_schedule(key)
    assert await suspended(world)

    worker = await started()
    status = await worker.schedule_status(key)
    assert status is not None
    assert [*status] == [*STATUS_KEYS, *ROW_KEYS]
    assert (status["enabled"], status["suspended"], status["next_run_at"], status["retired_reason"]) == (
        False,
        True,
        None,
        None,
    )

    assert await web.resume_schedule(key)

    async def completed() -> bool:
        status = await web.schedule_status(key)
        return status is not None and status["last_status"] == "completed"

    await until(completed)
    status = await web.schedule_status(key)
    assert status is not None
    assert status["last_run_at"] < status["next_run_at"]


async def test_the_later_word_counts(pool: asyncpg.Pool[asyncpg.Record], declare: Declare) -> None:
    key = declare(job, interval=HOUR)
    scheduler = Scheduler(pool)

    scheduler.disable_periodic_job(key)
    assert await scheduler.resume_schedule(key)

    async with scheduler:
        status = await scheduler.schedule_status(key)
    assert status is not None
    assert (status["enabled"], status["suspended"]) == (True, False)


async def test_a_trigger_runs_the_task_once_now_also_while_suspended(
    world: World, started: MakeScheduler, declare: Declare
) -> None:
    runs: list[int] = []

    async def counted(step: int) -> None:
        runs.append(step)

    key = declare(counted, interval=HOUR, args=(7,))
    scheduler = await started()
    await scheduler.suspend_schedule(key)

    job_id = await scheduler.trigger_periodic_job(key)

    assert job_id is not None
    await until(lambda: runs == [7])
    row = await world.row(job_id)
    assert (row["job_name"], row["tick_at"]) == ("periodic_counted", None)
    assert await suspended(world)


async def test_a_trigger_wakes_a_worker_elsewhere_and_needs_none_here(
    world: World, declare: Declare, started: MakeScheduler
) -> None:
    key = declare(job, interval=HOUR)

    job_id = await Scheduler(world.pool).trigger_periodic_job(key)

    assert job_id is not None
    assert (await world.row(job_id))["status"] == "pending"
    await started()

    async def completed() -> bool:
        return bool((await world.row(job_id))["status"] == "completed")

    await until(completed)


async def test_options_of_the_decorator_reach_the_job(world: World, started: MakeScheduler, declare: Declare) -> None:
    async def sync(region: str, *, full: bool) -> None: ...

    key = declare(
        sync,
        interval=HOUR,
        queue="mail",
        timeout=2.5,
        retry_policy=RetryPolicy(initial=1),
        on_interrupt="fail",
        tags=["a"],
        metadata={"team": "x"},
        args=("eu",),
        kwargs={"full": True},
    )
    scheduler = await started()

    job_id = await scheduler.trigger_periodic_job(key)

    assert job_id is not None
    row = await world.row(job_id)
    assert (row["queue"], row["timeout_seconds"], row["on_interrupt"]) == ("mail", 2.5, "fail")
    assert RetryPolicy.from_json(row["retry_policy"]) == RetryPolicy(initial=1)
    assert (row["tags"], row["metadata"]) == ('["a"]', '{"team":"x"}')
    assert row["task_data"] == '{"args":["eu"],"kwargs":{"full":true}}'


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE scheduler_schedules SET retired_at = now(), retired_reason = 'r', enabled = false, next_tick_at = NULL",
        "DELETE FROM scheduler_schedules",
    ],
)
async def test_a_schedule_that_a_living_worker_declares_comes_back(
    world: World, started: MakeScheduler, declare: Declare, harm: str
) -> None:
    declare(job, interval=HOUR)
    await started()

    await world.pool.execute(harm)
    await world.pool.execute("SELECT pg_notify('scheduler_schedules', '')")

    async def lives() -> bool:
        return bool(await world.pool.fetchval("SELECT enabled AND next_tick_at IS NOT NULL FROM scheduler_schedules"))

    await until(lives)


async def test_a_sweep_retires_what_nobody_declares_any_more_and_says_so(
    world: World, declare: Declare, caplog: pytest.LogCaptureFixture
) -> None:
    key = declare(job, interval=HOUR)
    web = Scheduler(world.pool)
    await web.trigger_periodic_job(key)
    await world.advance(timedelta(days=2))
    lease = Lease(30, clock=lambda: clock[0])
    clock = [0.0]
    rescuer = Rescuer(world.workers, world.jobs, own_lease=lease, config=EngineConfig())
    lease.begin("me", 0.0)

    await rescuer.run_once()  # whose own lease has not held for long: after an outage nobody seems to declare anything
    assert await retired_reason(web, key) is None
    lease.acknowledge(20.0)
    clock[0] = 31.0
    lease.acknowledge(31.0)
    await rescuer.run_once()

    reason = await retired_reason(web, key)
    assert reason == "no living worker has declared it for a day"
    assert f"{__name__}:job is retired: {reason}" in caplog.text


async def retired_reason(scheduler: Scheduler, key: str) -> str | None:
    status = await scheduler.schedule_status(key)
    assert status is not None
    reason = status["retired_reason"]
    assert reason is None or isinstance(reason, str)
    return reason


async def test_listening_starts_and_ends_with_the_scheduler(
    pool: asyncpg.Pool[asyncpg.Record], declare: Declare
) -> None:
    declare(job, interval=HOUR)
    scheduler = Scheduler(pool, shutdown_timeout=0.2)

    listening = asyncio.create_task(scheduler.listen_for_jobs())
    await until(lambda: scheduler.is_running)
    assert not listening.done()
    await scheduler.shutdown()

    await asyncio.wait_for(listening, PATIENCE)


async def test_listening_raises_what_ended_the_engine(world: World, started: MakeScheduler, declare: Declare) -> None:
    declare(job, interval=HOUR)
    scheduler = await started()
    listening = asyncio.create_task(scheduler.listen_for_jobs())

    await world.pool.execute("DROP TABLE scheduler_schedules CASCADE; SELECT pg_notify('scheduler_schedules', '')")

    with pytest.raises(SchemaMismatch):
        await asyncio.wait_for(listening, PATIENCE)


async def test_who_stops_listening_does_not_stop_the_scheduler(started: MakeScheduler, declare: Declare) -> None:
    declare(job, interval=HOUR)
    scheduler = await started()
    listening = asyncio.create_task(scheduler.listen_for_jobs())
    await until(lambda: getattr(listening.get_coro(), "cr_await", None) is not None, what="it waits")

    listening.cancel()
    await asyncio.wait([listening])

    assert scheduler.is_running
    await scheduler.shutdown()
