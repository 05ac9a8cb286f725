"""Schedules as the operator reads them: many at once, how they keep to their rules, what became of their ticks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler._domain.policies import Policy
from pg_scheduler.control import Control, DesiredSchedule, JobTemplate, ScheduleCounts, Source
from pg_scheduler.errors import InvalidPayload
from pg_scheduler.job_status import JobStatus
from pg_scheduler.recurrence import Bounds, Cron, Interval

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pg_scheduler.control import ScheduleState
    from support.world import World

SOURCE = Source(cluster="c", kind="PeriodicJob", tenant="", name="n", uid="p1", generation=1)
SCHEDULE = DesiredSchedule(source=SOURCE, rule=Interval(60), template=JobTemplate(task="t"))
MINUTE = timedelta(minutes=1)


def other(uid: str, **changes: object) -> DesiredSchedule:
    return replace(SCHEDULE, source=replace(SOURCE, uid=uid, name=uid), **changes)  # type: ignore[arg-type]


@pytest.fixture
async def control(dsn: str) -> AsyncIterator[Control]:
    """The operator's connection to this test's database."""
    async with Control(dsn) as control:
        yield control


async def state(control: Control) -> ScheduleState:
    read = await control.schedule(SOURCE)
    assert read is not None
    return read


async def test_many_are_read_by_their_uids_and_counted_where_that_is_asked(control: Control) -> None:
    await control.upsert_schedules([SCHEDULE, other("p2")])

    states = await control.schedules(
        {each.uid: each for each in (SOURCE, other("p2").source, other("p3").source)}, counted={"p2"}
    )

    assert {uid: read.source.uid for uid, read in states.items()} == {"p1": "p1", "p2": "p2"}
    assert states["p1"].counts is None
    assert states["p2"].counts == ScheduleCounts(
        ran=0, failed=0, skipped=0, missed=0, coalesced=0, succeeded_at=None, failed_at=None
    )
    assert await control.schedules({}) == {}


async def test_many_are_written_at_once_each_as_it_would_be_alone(control: Control, world: World) -> None:
    await control.upsert_schedules([SCHEDULE, other("p2")])
    await world.advance(timedelta(seconds=30))
    changed = replace(SCHEDULE, source=replace(SOURCE, generation=2), rule=Interval(10))
    lower = other("p2", rule=Interval(10))
    lower = replace(lower, source=replace(lower.source, generation=0))

    await control.upsert_schedules([other("p3"), changed, lower])

    rows = await world.pool.fetch(
        "SELECT source_uid, interval_seconds, anchor_at - min(anchor_at) OVER () AS since FROM scheduler_schedules"
        " ORDER BY source_uid"
    )
    assert [(row["source_uid"], row["interval_seconds"]) for row in rows] == [("p1", 10), ("p2", 60), ("p3", 60)]
    assert [row["since"] >= timedelta(seconds=29) for row in rows] == [True, False, True]


async def test_many_that_two_operators_write_at_once_become_one_row_each(control: Control, world: World) -> None:
    desired = [other(f"p{number}") for number in range(40)]

    await asyncio.gather(control.upsert_schedules(desired), control.upsert_schedules(desired[::-1]))

    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 40


async def test_none_of_many_is_written_with_one_that_cannot_be(control: Control, world: World) -> None:
    bad = other("p2", template=JobTemplate(task="t", args=[float("nan")]))

    with pytest.raises(InvalidPayload):
        await control.upsert_schedules([SCHEDULE, bad])

    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 0


async def test_a_tick_that_nobody_takes_up_for_a_minute_is_overdue_and_told_once(
    control: Control, world: World
) -> None:
    await control.upsert_schedule(SCHEDULE)
    first = await control.changes("c", None)
    await world.advance(timedelta(seconds=115))
    assert not (await state(control)).is_overdue
    assert (await control.changes("c", first.cursor)).schedules == []

    await world.advance(timedelta(seconds=121))
    overdue = await state(control)
    told = await control.changes("c", (await control.changes("c", first.cursor)).cursor)
    await world.advance(timedelta(seconds=150))
    later = await control.changes("c", (await control.changes("c", None)).cursor)

    assert (overdue.is_overdue, overdue.is_served) == (True, False)
    assert [(trace.name, trace.runs) for trace in told.schedules] == [("n", False)]
    assert later.schedules == []
    await world.worker()
    assert (await state(control)).is_served


async def test_a_suspended_schedule_is_never_overdue(control: Control, world: World) -> None:
    await control.upsert_schedule(replace(SCHEDULE, suspended=True))
    await world.advance(10 * MINUTE)

    assert not (await state(control)).is_overdue


async def test_a_missed_tick_counts_until_another_one_is_on_time(control: Control, world: World) -> None:
    policy = Policy(missed="skip", starting_deadline_seconds=0)
    await control.upsert_schedule(replace(SCHEDULE, policy=policy))
    first = await control.changes("c", None)
    await world.advance(timedelta(seconds=100))
    await world.tick(horizon_seconds=0)

    missed = await state(control)
    told = await control.changes("c", first.cursor)
    await world.advance(timedelta(seconds=118))
    await world.tick()
    await world.advance(timedelta(seconds=121))

    assert missed.missed_at == missed.anchor_at + MINUTE
    assert missed.counts is not None
    assert (missed.ticks, missed.counts.missed) == (1, 1)
    assert [trace.name for trace in told.schedules] == ["n"]
    assert (await state(control)).missed_at is None


async def test_a_tick_whose_job_has_expired_is_missed(control: Control, world: World) -> None:
    await control.upsert_schedule(replace(SCHEDULE, policy=Policy(starting_deadline_seconds=0)))
    await world.advance(timedelta(seconds=58))
    await world.tick()
    await world.pool.execute("UPDATE scheduled_jobs SET status = 'expired', finished_at = now()")
    await world.advance(timedelta(seconds=61))

    missed = await state(control)

    assert missed.missed_at == missed.last_tick_at == missed.anchor_at + MINUTE


async def test_what_an_older_rule_has_missed_is_forgotten(control: Control, world: World) -> None:
    await control.upsert_schedule(replace(SCHEDULE, policy=Policy(missed="skip", starting_deadline_seconds=0)))
    await world.advance(timedelta(seconds=100))
    await world.tick(horizon_seconds=0)

    await control.upsert_schedule(
        replace(SCHEDULE, source=replace(SOURCE, generation=2), bounds=Bounds(max_runs=9), policy=Policy())
    )

    assert (await state(control)).missed_at is None


async def test_the_last_ends_are_known_apart(control: Control, world: World) -> None:
    await control.upsert_schedule(SCHEDULE)
    for minute, status in enumerate(("completed", "failed", "failed"), 1):
        await world.advance(timedelta(seconds=60 * minute - 2))
        await world.tick()
        await world.pool.execute(
            "UPDATE scheduled_jobs SET status = $1, attempt = 1, finished_at = tick_at + interval '1 second'"
            " WHERE status = 'pending'",
            status,
        )
    await world.advance(timedelta(seconds=185))

    read = await state(control)

    assert read.counts is not None
    assert (read.last_end, read.last_end_at) == (JobStatus.FAILED, read.anchor_at + 3 * MINUTE + MINUTE / 60)
    assert read.counts.succeeded_at == read.anchor_at + MINUTE + MINUTE / 60
    assert read.counts.failed_at == read.last_end_at
    assert (read.counts.ran, read.counts.failed) == (3, 2)


async def test_the_zone_data_of_cron_is_told_and_an_interval_has_none(control: Control) -> None:
    await control.upsert_schedules([SCHEDULE, other("p2", rule=Cron(("0 2 * * *",), "Europe/Berlin"))])

    states = await control.schedules({"p1": SOURCE, "p2": other("p2").source})

    assert states["p1"].time_zone_data is None
    assert states["p2"].time_zone_data is not None
