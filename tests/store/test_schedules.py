"""Rows of schedules under definitions and ticks that race."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._domain.policies import Policy
from pg_scheduler._domain.rules import Cron, Interval
from pg_scheduler._domain.schedules import ScheduleDefinition, ScheduleKey, Template
from pg_scheduler._domain.ticking import plan_ticks
from support.waiting import PATIENCE

if TYPE_CHECKING:
    import asyncpg

    from support.world import World

DEFINITION = ScheduleDefinition(
    key=ScheduleKey(tenant="", kind="PeriodicJob", cluster="c", uid="u"),
    name="n",
    generation=1,
    rule=Interval(60),
    template=Template(
        task="t", job_name="t", payload='{"args":[],"kwargs":{}}', queue="default", priority=5, max_retries=0
    ),
)

CODE = replace(DEFINITION, key=replace(DEFINITION.key, kind="code", cluster=""), generation=0)
OPTIONS = Template(
    task="t",
    job_name="periodic_t",
    payload='{"args":[1],"kwargs":{}}',
    queue="mail",
    priority=3,
    max_retries=2,
    timeout_seconds=1.5,
    retry_policy='{"initial":1}',
    on_interrupt="fail",
    tags='["a"]',
    metadata='{"k":1}',
)


async def row(world: World) -> asyncpg.Record:
    (only,) = await world.pool.fetch("SELECT * FROM scheduler_schedules")
    return only


async def declared_by(world: World, *uids: str) -> str:
    """A living worker that declares them."""
    worker = await world.worker()
    await world.pool.execute("UPDATE scheduler_workers SET schedules = $2 WHERE id = $1", worker, list(uids))
    return worker


async def jobs(world: World) -> int:
    return int(await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs"))


async def test_many_processes_make_one_row(world: World) -> None:
    written = await asyncio.gather(*(world.schedules.upsert(DEFINITION) for _ in range(8)))

    assert sum(written) == 1
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 1


async def test_the_same_definition_writes_nothing(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    before = await world.pool.fetchrow("SELECT xmin, * FROM scheduler_schedules")

    assert not await world.schedules.upsert(DEFINITION)
    assert await world.pool.fetchrow("SELECT xmin, * FROM scheduler_schedules") == before


async def test_a_tick_yields_one_job_whoever_ticks(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await world.advance(timedelta(seconds=61))

    made = await asyncio.gather(*(world.tick() for _ in range(4)))

    assert sum(made) == 1
    assert await jobs(world) == 1
    assert await world.pool.fetchval("SELECT ticks FROM scheduler_schedules") == 1


async def test_the_high_water_mark_outlives_the_jobs(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await world.advance(timedelta(seconds=61))
    await world.tick()
    await world.pool.execute("DELETE FROM scheduled_jobs")

    assert await world.tick() == 0


async def test_a_lost_advance_does_not_tick_twice(world: World) -> None:
    """A ticker that has read the row long ago inserts its ticks again: the unique index answers."""
    await world.schedules.upsert(DEFINITION)
    await world.advance(timedelta(seconds=61))
    async with world.db.transaction() as connection:
        stale = await world.schedules.lock_due(connection, "", 5, 500)
    await world.tick()

    async with world.db.transaction() as connection:
        made = await world.schedules.record_ticks(
            connection,
            [(schedule, plan_ticks(schedule, stale.now, timedelta(0))) for schedule in stale.schedules],
        )

    assert made == 0
    assert await jobs(world) == 1


async def test_a_tick_becomes_a_job_one_poll_ahead(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await world.advance(timedelta(seconds=30))

    assert await world.tick(horizon_seconds=40) == 1
    assert await world.pool.fetchval("SELECT execution_time > scheduler_now() FROM scheduled_jobs")


async def test_a_change_takes_back_ticks_inserted_ahead(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await world.advance(timedelta(seconds=30))
    await world.tick(horizon_seconds=40)

    await world.schedules.upsert(replace(DEFINITION, generation=2, suspended=True))

    assert await jobs(world) == 0
    assert await world.pool.fetchval("SELECT ticks FROM scheduler_schedules") == 0
    assert await world.pool.fetchval("SELECT next_tick_at FROM scheduler_schedules") is None


async def test_a_new_template_reaches_the_tick_inserted_ahead(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await world.advance(timedelta(seconds=30))
    await world.tick(horizon_seconds=40)

    await world.schedules.upsert(replace(DEFINITION, generation=2, template=replace(DEFINITION.template, task="other")))
    await world.tick(horizon_seconds=40)

    assert await world.pool.fetchval("SELECT string_agg(task, ',') FROM scheduled_jobs") == "other"


async def test_a_lower_generation_changes_nothing(world: World) -> None:
    await world.schedules.upsert(replace(DEFINITION, generation=5))

    assert not await world.schedules.upsert(replace(DEFINITION, generation=4, rule=Interval(1)))


async def test_delete_cancels_what_has_not_started_and_keeps_what_has(world: World) -> None:
    await world.schedules.upsert(replace(DEFINITION, rule=Interval(60)))
    await world.advance(timedelta(seconds=61))
    worker = await world.worker()
    assert await world.tick(horizon_seconds=100) == 2
    (running,) = await world.claim(worker, limit=1)

    assert await world.schedules.delete(DEFINITION.key)
    assert not await world.schedules.delete(DEFINITION.key)

    assert [row["job_id"] for row in await world.pool.fetch("SELECT job_id FROM scheduled_jobs")] == [running.job_id]


async def test_a_schedule_of_code_ticks_only_while_a_living_worker_declares_it(world: World) -> None:
    await world.schedules.upsert(CODE)
    await world.advance(timedelta(seconds=61))
    assert await world.tick() == 0
    assert await world.schedules.next_tick("") is None

    await declared_by(world, "u")

    assert await world.tick() == 1


async def test_a_cron_rule_survives_the_row(world: World) -> None:
    rule = Cron(("30 2 * * *", "@daily"), "Asia/Kathmandu")
    await world.schedules.upsert(replace(DEFINITION, rule=rule))
    assert f"{(await row(world))['next_tick_at']:%H:%M}" in {"18:15", "20:45"}
    await world.advance(timedelta(days=2))

    async with world.db.transaction() as connection:
        (stored,) = (await world.schedules.lock_due(connection, "", 5, 500)).schedules

    assert stored.definition == replace(DEFINITION, rule=rule)


async def test_a_rule_that_this_release_does_not_know_is_told_of_and_keeps_no_other_from_ticking(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.schedules.upsert(replace(DEFINITION, name="newer", rule=Cron(("* * * * *",))))
    await world.schedules.upsert(replace(DEFINITION, key=replace(DEFINITION.key, uid="v")))
    await world.pool.execute("UPDATE scheduler_schedules SET time_zone = 'Mars/Phobos' WHERE source_name = 'newer'")
    await world.pool.execute("UPDATE scheduler_schedules SET next_tick_at = scheduler_now()")
    await world.pool.execute("UPDATE scheduler_schedules SET anchor_at = scheduler_now() - interval '90 seconds'")

    assert await world.tick() == 1

    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("schedule newer cannot be read by this release and is left to newer workers")
    assert "Mars/Phobos" in told


async def test_a_declaration_never_lifts_a_suspension(world: World) -> None:
    await world.schedules.upsert(CODE)
    assert await world.schedules.suspend(CODE.key, suspended=True)

    await world.schedules.upsert(CODE)
    await world.schedules.upsert(replace(CODE, rule=Interval(30)))

    assert (await row(world))["suspended"]
    assert (await row(world))["next_tick_at"] is None


async def test_a_resource_says_itself_whether_it_is_suspended(world: World) -> None:
    await world.schedules.upsert(replace(DEFINITION, suspended=True))

    await world.schedules.upsert(replace(DEFINITION, generation=2))

    assert not (await row(world))["suspended"]


async def test_resuming_anchors_anew_and_makes_nothing_up(world: World) -> None:
    await declared_by(world, "u")
    await world.schedules.upsert(CODE)
    await world.schedules.suspend(CODE.key, suspended=True)
    await world.advance(timedelta(seconds=600))
    await world.beat("w1")

    await world.schedules.suspend(CODE.key, suspended=False)

    assert await world.tick() == 0
    assert await world.pool.fetchval("SELECT next_tick_at - scheduler_now() FROM scheduler_schedules") <= timedelta(
        seconds=60
    )


async def test_resuming_enables_what_code_had_disabled_until_code_says_so_again(world: World) -> None:
    await world.schedules.upsert(replace(CODE, enabled=False))

    await world.schedules.suspend(CODE.key, suspended=False)
    assert (await row(world))["enabled"]

    await world.schedules.upsert(replace(CODE, enabled=False))
    assert not (await row(world))["enabled"]


async def test_an_unknown_schedule_is_not_suspended(world: World) -> None:
    assert not await world.schedules.suspend(CODE.key, suspended=True)


async def test_options_reach_the_jobs_of_ticks_and_of_extra_runs(world: World) -> None:
    await declared_by(world, "u")
    await world.schedules.upsert(replace(CODE, template=OPTIONS))
    await world.advance(timedelta(seconds=61))
    await world.beat("w1")

    assert await world.tick() == 1
    assert await world.schedules.run_extra(CODE.key, "extra")

    made = await world.pool.fetch(
        "SELECT task, job_name, task_data::text, queue, priority, max_retries, timeout_seconds, retry_policy::text,"
        " on_interrupt, tags::text, metadata::text FROM scheduled_jobs"
    )
    fields = (
        "task",
        "job_name",
        "payload",
        "queue",
        "priority",
        "max_retries",
        "timeout_seconds",
        "retry_policy",
        "on_interrupt",
        "tags",
        "metadata",
    )
    assert [tuple(job) for job in made] == [tuple(getattr(OPTIONS, field) for field in fields)] * 2


async def test_the_same_options_write_nothing(world: World) -> None:
    await world.schedules.upsert(replace(CODE, template=OPTIONS))

    assert not await world.schedules.upsert(replace(CODE, template=OPTIONS))
    assert await world.schedules.upsert(replace(CODE, template=replace(OPTIONS, timeout_seconds=2.0)))


async def test_an_extra_run_is_no_tick(world: World) -> None:
    await world.schedules.upsert(CODE)
    before = await row(world)

    assert await world.schedules.run_extra(CODE.key, "extra")

    assert await row(world) == before
    assert (await world.row("extra"))["tick_at"] is None


async def test_a_view_shows_the_newest_start_and_the_next_tick(world: World) -> None:
    worker = await declared_by(world, "u")
    await world.schedules.upsert(CODE)
    (view,) = await world.schedules.views("", ["u", "unknown"])
    assert (view.runs, view.last_run_at, view.last_status) == (True, None, None)
    assert view.next_run_at == (await row(world))["next_tick_at"]

    await world.advance(timedelta(seconds=61))
    await world.beat(worker)
    await world.tick(horizon_seconds=120)
    (claimed,) = await world.claim(worker)
    (view,) = await world.schedules.views("", ["u"])
    started = await world.row(claimed.job_id)
    assert (view.last_run_at, view.last_status) == (started["started_at"], "running")
    assert view.next_run_at == started["tick_at"] + timedelta(seconds=60)

    await world.schedules.run_extra(CODE.key, "extra")
    await world.claim(worker)
    (view,) = await world.schedules.views("", ["u"])
    assert view.last_run_at == (await world.row("extra"))["started_at"]


async def test_what_nobody_declares_for_a_day_is_retired_with_a_reason(world: World) -> None:
    worker = await declared_by(world, "u")
    await world.schedules.upsert(CODE)
    await world.advance(timedelta(hours=25))
    await world.beat(worker)
    assert await world.workers.retire_schedules() == []

    await world.advance(timedelta(hours=48))
    assert await world.workers.retire_schedules() == []

    await world.advance(timedelta(hours=50, minutes=1))
    assert await world.workers.retire_schedules() == ["u"]
    assert await world.workers.retire_schedules() == []
    (view,) = await world.schedules.views("", ["u"])
    assert (view.runs, view.next_run_at, view.retired_reason) == (
        False,
        None,
        "no living worker has declared it for a day",
    )


async def test_a_retired_schedule_leaves_no_job_that_nobody_runs(world: World) -> None:
    worker = await declared_by(world, "u")
    await world.schedules.upsert(CODE)
    await world.advance(timedelta(seconds=61))
    await world.beat(worker)
    await world.tick()
    await world.advance(timedelta(hours=50))

    await world.workers.retire_schedules()

    (job,) = await world.pool.fetch("SELECT status, error_message FROM scheduled_jobs")
    assert tuple(job) == ("cancelled", "no living worker has declared it for a day")


async def test_a_declared_one_comes_back_to_life_and_makes_nothing_up(world: World) -> None:
    await world.schedules.upsert(CODE)
    await world.advance(timedelta(hours=50))
    await world.workers.retire_schedules()
    assert not await world.schedules.run_extra(CODE.key, "extra")

    await declared_by(world, "u")
    assert await world.schedules.upsert(CODE)

    assert await world.tick() == 0
    (view,) = await world.schedules.views("", ["u"])
    assert (view.runs, view.retired_reason) == (True, None)
    assert await world.schedules.run_extra(CODE.key, "extra")


async def test_a_retired_schedule_that_code_disables_is_told_from_one_that_it_declares(world: World) -> None:
    await world.schedules.upsert(replace(CODE, enabled=False))
    await world.advance(timedelta(hours=50))
    await world.workers.retire_schedules()

    await world.schedules.upsert(replace(CODE, enabled=False))

    assert (await row(world))["retired_reason"] is None


async def test_schedules_of_resources_are_not_retired(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await world.advance(timedelta(hours=50))

    assert await world.workers.retire_schedules() == []


async def test_a_frozen_declaration_does_not_stop_the_retirement_of_others(world: World) -> None:
    await world.schedules.upsert(CODE)
    await world.schedules.upsert(replace(CODE, key=replace(CODE.key, uid="other")))
    await world.advance(timedelta(hours=50))

    async with world.db.transaction() as frozen:
        await frozen.execute("SELECT FROM scheduler_schedules WHERE source_uid = 'u' FOR UPDATE")
        assert await asyncio.wait_for(world.workers.retire_schedules(), PATIENCE) == ["other"]


async def test_ticks_stay_on_a_fixed_grid_over_130_seconds(world: World) -> None:
    """Design page 3 §3.4: every=1s over 130 s gives 130 ± 1 runs, whenever the tickers happen to look."""
    worker = await declared_by(world, "u")
    await world.schedules.upsert(replace(CODE, rule=Interval(1)))
    anchor = (await row(world))["anchor_at"]
    for seconds in (0.4, 7, 7.9, 31, 64, 99.5, 130):
        await world.advance(timedelta(seconds=seconds))
        await world.beat(worker)
        for _ in range(2):
            await world.tick(horizon_seconds=40)

    ticks = [
        job["tick_at"]
        for job in await world.pool.fetch(
            "SELECT tick_at FROM scheduled_jobs WHERE tick_at <= scheduler_now() ORDER BY tick_at"
        )
    ]
    assert abs(len(ticks) - 130) <= 1
    assert ticks == [anchor + timedelta(seconds=n) for n in range(1, len(ticks) + 1)]


async def test_a_long_job_does_not_move_the_grid(world: World) -> None:
    """Design page 3 §3.4: every=5s with a 3 s job gives 26 ± 1 runs in 130 s."""
    worker = await declared_by(world, "u")
    await world.schedules.upsert(replace(CODE, rule=Interval(5)))
    anchor = (await row(world))["anchor_at"]
    runs: list[timedelta] = []
    for tick in range(1, 27):
        await world.advance(timedelta(seconds=5 * tick + 0.5))
        await world.beat(worker)
        await world.tick()
        claimed = await world.claim(worker)
        await world.advance(timedelta(seconds=5 * tick + 3.5))
        runs += [job.tick_at - anchor for job in claimed if job.tick_at]
        await world.jobs.complete(claimed, worker)

    assert abs(len(runs) - 26) <= 1
    assert runs == [timedelta(seconds=5 * n) for n in range(1, len(runs) + 1)]


async def test_after_an_outage_the_next_tick_is_on_time(world: World) -> None:
    """Design page 3 §3.4: a schedule after an outage longer than its grace (300 s by default)."""
    worker = await declared_by(world, "u")
    await world.schedules.upsert(CODE)
    anchor = (await row(world))["anchor_at"]
    await world.advance(timedelta(seconds=3630))
    await world.beat(worker)

    await world.tick()
    await world.advance(timedelta(seconds=3661))
    await world.beat(worker)
    await world.tick()

    ticks = [job["tick_at"] - anchor for job in await world.pool.fetch("SELECT tick_at FROM scheduled_jobs ORDER BY 1")]
    assert ticks == [timedelta(seconds=3600), timedelta(seconds=3660)]
    assert (await row(world))["next_tick_at"] - anchor == timedelta(seconds=3720)


async def test_a_retry_belongs_to_its_tick(world: World) -> None:
    worker = await declared_by(world, "u")
    await world.schedules.upsert(replace(CODE, template=replace(CODE.template, max_retries=1)))
    await world.advance(timedelta(seconds=61))
    await world.beat(worker)
    await world.tick()
    (first,) = await world.claim(worker)

    assert await world.jobs.retry(first, ErrorRecord("E", "m", "t"), 0)

    assert await world.tick() == 0
    (second,) = await world.claim(worker)
    assert (second.job_id, second.tick_at, second.retry_count) == (first.job_id, first.tick_at, 1)
    assert await jobs(world) == 1


async def ticks_of(world: World, begin: datetime, *, hours: int) -> list[datetime]:
    """The ticks that a ticker makes which looks every quarter of an hour from ``begin`` on."""
    for quarter in range(4 * hours + 1):
        await world.stand_at(begin + timedelta(minutes=15 * quarter))
        await world.tick(horizon_seconds=10)
    return [job["tick_at"] for job in await world.pool.fetch("SELECT tick_at FROM scheduled_jobs ORDER BY tick_at")]


@pytest.mark.parametrize(
    ("night", "tick"),
    [
        (datetime(2026, 10, 24, 20, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        (datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
    ],
    ids=["autumn", "spring"],
)
async def test_a_daily_rule_runs_once_in_a_night_that_changes_the_clocks(
    world: World, night: datetime, tick: datetime
) -> None:
    """Design page 3 §3.4: the older package runs twice in the autumn night."""
    await world.stand_at(night)
    await world.schedules.upsert(replace(DEFINITION, rule=Cron(("30 2 * * *",), "Europe/Berlin")))

    assert await ticks_of(world, night, hours=12) == [tick]


async def test_seconds_of_a_cron_rule_all_run(world: World) -> None:
    """Design page 3 §3.4: in the older package one run, then never again."""
    begin = datetime(2026, 6, 1, 12, 0, 1, tzinfo=UTC)
    await world.stand_at(begin)
    await world.schedules.upsert(
        replace(DEFINITION, rule=Cron(("* * * * *",), seconds="0,20,40"), policy=Policy(missed="run_all"))
    )

    ticks = await ticks_of(world, begin, hours=1)

    full_minute = begin.replace(second=0)
    assert ticks == [full_minute + timedelta(seconds=20 * n) for n in range(1, 181)]
