"""Schedules that a program makes while it runs, and what all schedules answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import JobContext, Scheduler
from pg_scheduler import scheduler as scheduler_module
from pg_scheduler.errors import InvalidArgument, InvalidSchedule
from pg_scheduler.periodic import PeriodicJobConfig, PeriodicRegistry
from support.waiting import until

if TYPE_CHECKING:
    from engine.conftest import MakeScheduler
    from support.world import World

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


async def job() -> None:
    """What most schedules here would run, once an hour."""


async def test_a_schedule_made_at_run_time_ticks_whoever_made_it(world: World, started: MakeScheduler) -> None:
    ticks: list[Any] = []

    async def note(ctx: JobContext) -> None:
        ticks.append((ctx.tick, ctx.previous_tick))

    maker = Scheduler(world.pool)
    assert await maker.upsert_schedule("each second", note, every=SECOND)
    worker = await started()
    worker.register(note)

    await until(lambda: len(ticks) >= 2)
    assert ticks[1][1] == ticks[0][0] == ticks[1][0] - SECOND
    assert await world.pool.fetchval("SELECT DISTINCT job_name FROM scheduled_jobs") == "each second"


async def test_a_schedule_is_changed_under_its_name(world: World) -> None:
    scheduler = Scheduler(world.pool)
    assert await scheduler.upsert_schedule("clean up", job, every=HOUR)

    assert not await scheduler.upsert_schedule("clean up", job, every=HOUR)
    assert await scheduler.upsert_schedule("clean up", job, cron=["0 2 * * *", "@hourly"], timezone="Europe/Berlin")

    (info,) = await scheduler.schedules()
    assert (info.uid, info.source, info.rule) == ("clean up", "runtime", "0 2 * * *; @hourly")
    assert info.time_zone == "Europe/Berlin"
    assert info.is_ticking
    assert info.next_run_at is not None


async def test_a_schedule_of_a_task_known_elsewhere_is_made_by_its_key(world: World) -> None:
    scheduler = Scheduler(world.pool)

    assert await scheduler.upsert_schedule("report", "shop.reports:nightly", cron="@daily", kwargs={"region": "eu"})

    row = await world.pool.fetchrow("SELECT task, task_data::text AS data FROM scheduler_schedules")
    assert row is not None
    assert row["task"] == "shop.reports:nightly"
    assert '"region":"eu"' in row["data"].replace(" ", "")


async def test_a_deleted_schedule_is_gone_with_what_had_not_started(world: World) -> None:
    scheduler = Scheduler(world.pool)
    await scheduler.upsert_schedule("soon", job, every=SECOND)
    await world.tick()
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") > 0

    assert await scheduler.delete_schedule("soon")

    assert await scheduler.schedules() == []
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'pending'") == 0
    assert not await scheduler.delete_schedule("soon")


async def test_suspension_says_who_when_and_why_and_is_in_the_ledger(world: World) -> None:
    scheduler = Scheduler(world.pool)
    await scheduler.upsert_schedule("hourly", job, every=HOUR)
    assert await scheduler.suspend_schedule("hourly", reason="stock-taking", by="ann")

    status = await scheduler.schedule_status("hourly")
    assert status is not None
    assert (status["enabled"], status["suspended"], status["suspended_by"]) == (False, True, "ann")
    assert status["suspend_reason"] == "stock-taking"
    assert status["suspended_at"] is not None
    await world.advance(3 * HOUR)

    assert await scheduler.resume_schedule("hourly")

    ledger = await scheduler.schedule_ledger("hourly")
    assert ledger is not None
    assert (ledger.planned, ledger.skipped_suspended, ledger.unaccounted) == (3, 3, 0)


async def test_a_declared_schedule_is_suspended_with_words_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = PeriodicRegistry()
    monkeypatch.setattr(scheduler_module, "periodic_registry", registry)
    registry.add(PeriodicJobConfig(job, interval=HOUR, dedup_key="k"))
    scheduler = Scheduler(world.pool)

    assert await scheduler.suspend_schedule("k", reason="stock-taking", by="ann")

    status = await scheduler.schedule_status("k")
    assert status is not None
    assert (status["suspended"], status["suspended_by"], status["suspend_reason"]) == (True, "ann", "stock-taking")
    assert status["halted_reason"] is None
    ledger = await scheduler.schedule_ledger("k")
    assert ledger is not None
    assert ledger.planned == 0


async def test_what_is_no_schedule_is_answered_so(world: World) -> None:
    scheduler = Scheduler(world.pool)

    assert await scheduler.schedule_status("none") is None
    assert await scheduler.schedule_ledger("none") is None
    assert await scheduler.trigger_periodic_job("none") is None
    assert not await scheduler.suspend_schedule("none")
    assert not await scheduler.resume_schedule("none")


async def test_an_extra_run_is_no_tick(world: World) -> None:
    scheduler = Scheduler(world.pool)
    await scheduler.upsert_schedule("hourly", job, every=HOUR)

    assert await scheduler.trigger_periodic_job("hourly") is not None

    ledger = await scheduler.schedule_ledger("hourly")
    assert ledger is not None
    assert ledger.planned == 0


async def test_a_schedule_that_keeps_failing_is_suspended_at_once(world: World, started: MakeScheduler) -> None:
    runs: list[int] = []

    async def fails() -> None:
        runs.append(1)
        raise ValueError("no")

    worker = await started()
    await worker.upsert_schedule("failing", fails, every=SECOND, suspend_after_failures=2)

    async def is_halted() -> bool:
        return await world.pool.fetchval("SELECT halted_at IS NOT NULL FROM scheduler_schedules") is True

    await until(is_halted)
    status = await worker.schedule_status("failing")
    assert status is not None
    assert status["halted_reason"] == "its last 2 runs failed"
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'pending'") == 0
    assert len(runs) == 2
    assert await worker.resume_schedule("failing")
    await until(lambda: len(runs) > 2)


async def test_the_failure_that_is_one_too_many_is_heeded_without_another_tick(
    world: World, started: MakeScheduler
) -> None:
    async def fails() -> None:
        raise ValueError("no")

    worker = await started()
    await worker.upsert_schedule("failing", fails, every=24 * HOUR, suspend_after_failures=1)
    await world.pool.execute(
        "UPDATE scheduler_schedules SET anchor_at = scheduler_now() - interval '1 day', next_tick_at = scheduler_now();"
        " SELECT pg_notify('scheduler_schedules', '')"
    )

    async def is_halted() -> bool:
        return await world.pool.fetchval("SELECT halted_at IS NOT NULL FROM scheduler_schedules") is True

    await until(is_halted)


async def test_a_worker_that_starts_plans_anew_what_older_zone_data_has_planned(
    world: World, started: MakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    await Scheduler(world.pool).upsert_schedule("daily", job, cron="@daily", timezone="Europe/Berlin")
    planned = await world.pool.fetchval(
        "UPDATE scheduler_schedules SET next_tick_at = next_tick_at + interval '1 hour', time_zone_data = '2019a'"
        " RETURNING next_tick_at - interval '1 hour'"
    )
    await started()

    async def is_planned_anew() -> bool:
        return bool(await world.pool.fetchval("SELECT next_tick_at = $1 FROM scheduler_schedules", planned))

    await until(is_planned_anew)
    await until(lambda: "moves the next tick of schedule daily" in caplog.text)


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"every": HOUR, "jitter": -1}, "jitter"),
        ({"every": HOUR, "jitter": 0.5}, "jitter"),
        ({"every": HOUR, "starting_deadline": timedelta(seconds=-1)}, "starting_deadline"),
        ({"every": HOUR, "starting_deadline": "soon"}, "starting_deadline"),
        ({"every": HOUR, "missed": "never"}, "missed"),
        ({"every": HOUR, "overlap": "wait"}, "overlap"),
        ({"every": HOUR, "max_catch_up": 0}, "max_catch_up"),
        ({"every": HOUR, "max_runs": 0}, "max_runs"),
        ({"every": HOUR, "suspend_after_failures": 0}, "suspend_after_failures"),
        ({"every": HOUR, "start_at": datetime(2026, 1, 1)}, "start_at"),  # noqa: DTZ001  the point
        (
            {"every": HOUR, "start_at": datetime(2026, 1, 2, tzinfo=UTC), "end_at": datetime(2026, 1, 1, tzinfo=UTC)},
            "end_at",
        ),
        ({"every": HOUR, "phase": HOUR}, "phase"),
        ({"cron": "@daily", "seconds": "60"}, "seconds"),
        ({"cron": "@daily", "nonexistent": "maybe"}, "nonexistent"),
        ({"cron": "@daily", "ambiguous": "third"}, "ambiguous"),
        ({"cron": [], "timezone": "Europe/Berlin"}, "cron"),
        ({"cron": 5}, "cron"),
    ],
)
async def test_an_option_that_cannot_be_used_is_refused_by_its_name(
    world: World, rule: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidSchedule) as refused:
        await Scheduler(world.pool).upsert_schedule("x", job, **rule)

    assert refused.value.field == field
    assert field.rstrip("s") in str(refused.value)
    assert refused.value.fix
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 0


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"every": HOUR, "cron": "@daily"},
        {"every": HOUR, "timezone": "Europe/Berlin"},
        {"every": HOUR, "seconds": "0,30"},
        {"every": HOUR, "nonexistent": "skip"},
        {"cron": "@daily", "phase": SECOND},
        {"every": HOUR, "queue": ""},
    ],
)
async def test_options_that_do_not_go_together_are_refused(world: World, rule: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        await Scheduler(world.pool).upsert_schedule("x", job, **rule)

    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 0


def test_a_lock_and_an_overlap_are_not_given_together() -> None:
    with pytest.raises(InvalidArgument, match="use_advisory_lock and overlap"):
        PeriodicJobConfig(job, interval=HOUR, use_advisory_lock=True, overlap="skip")
