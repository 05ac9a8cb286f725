"""Rows of schedules under definitions and ticks that race."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from pg_scheduler._domain.rules import Cron, Interval
from pg_scheduler._domain.schedules import ScheduleDefinition, ScheduleKey, Template
from pg_scheduler._domain.walk import Ticks
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
            [(s, Ticks(at=(s.anchor_at + timedelta(seconds=60),), next_at=s.next_tick_at)) for s in stale.schedules],
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
    code = replace(DEFINITION, key=replace(DEFINITION.key, kind="code", cluster=""), generation=0)
    await world.schedules.upsert(code)
    await world.advance(timedelta(seconds=61))
    assert await world.tick() == 0
    assert await world.schedules.next_tick("") is None

    worker = await world.worker()
    await world.pool.execute("UPDATE scheduler_workers SET schedules = '{u}' WHERE id = $1", worker)

    assert await world.tick() == 1


async def test_a_cron_rule_survives_the_row(world: World) -> None:
    rule = Cron(("30 2 * * *", "@daily"))
    await world.schedules.upsert(replace(DEFINITION, rule=rule))
    await world.advance(timedelta(days=2))

    async with world.db.transaction() as connection:
        (stored,) = (await world.schedules.lock_due(connection, "", 5, 500)).schedules

    assert stored.definition == replace(DEFINITION, rule=rule)
