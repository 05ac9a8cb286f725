"""The ledger: every planned tick is accounted for, whatever becomes of it and of its row."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler._domain import zones
from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._domain.policies import Policy
from pg_scheduler._domain.rules import Bounds, Cron, Interval
from pg_scheduler._domain.schedules import ScheduleDefinition, ScheduleKey, Template
from pg_scheduler._store.ledger import LedgerStore
from pg_scheduler._store.vacuum import VacuumStore
from pg_scheduler.errors import DatabaseBusy
from pg_scheduler.job_status import JobStatus
from pg_scheduler.vacuum import VacuumPolicy
from support.waiting import PATIENCE

if TYPE_CHECKING:
    import asyncpg

    from pg_scheduler._domain.policies import Overlap
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
OUTCOMES = ("open", "ran", "coalesced", "skipped_overlap", "skipped_suspended", "missed", "cancelled", "unrecorded")
HOUR = timedelta(hours=1)
NOW = datetime(2026, 6, 1, 12, 0, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
async def _standing_clock(world: World) -> None:
    await world.stand_at(NOW)


async def row(world: World) -> asyncpg.Record:
    (only,) = await world.pool.fetch("SELECT * FROM scheduler_schedules")
    return only


async def ledger(world: World) -> dict[str, int]:
    """What the only schedule's ledger says, without what is zero; it must balance."""
    (line,) = await world.pool.fetch("SELECT * FROM scheduler_ledger")
    assert line["planned"] == sum(line[outcome] for outcome in OUTCOMES)
    assert line["unaccounted"] == 0
    return {name: line[name] for name in ("planned", *OUTCOMES, "failed") if line[name]}


async def set_back(world: World, by: timedelta) -> None:
    """As if the schedule had been made on the full minute so long ago, and had not ticked since."""
    await world.pool.execute(
        "UPDATE scheduler_schedules SET anchor_at = date_trunc('minute', scheduler_now()) - $1::interval,"
        " next_tick_at = date_trunc('minute', scheduler_now()) - $1::interval + interval '60 seconds'",
        by,
    )


async def fail(world: World, worker: str) -> None:
    (job,) = await world.claim(worker)
    assert await world.jobs.fail(job, ErrorRecord("ValueError", "no", ""))


async def test_what_nobody_ran_is_told_in_one_row(world: World) -> None:
    await world.schedules.upsert(replace(DEFINITION, policy=Policy(missed="skip")))
    await set_back(world, timedelta(days=3))

    assert await world.tick() == 0

    (told,) = await world.pool.fetch("SELECT * FROM scheduler_occurrences")
    assert (told["outcome"], told["ticks"]) == ("missed", 3 * 24 * 60)
    assert told["reason"] == "nobody was there to run them, and missed runs are skipped"
    assert await ledger(world) == {"planned": 4320, "missed": 4320}


async def test_one_run_stands_for_what_nobody_ran(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await set_back(world, timedelta(days=3))

    assert await world.tick() == 1

    assert await ledger(world) == {"planned": 4320, "coalesced": 4319, "open": 1}


async def test_each_of_some_runs_is_made_up_for(world: World) -> None:
    await world.schedules.upsert(replace(DEFINITION, policy=Policy(missed="run_all", max_catch_up=10)))
    await set_back(world, timedelta(days=3))

    assert await world.tick() == 10

    assert await ledger(world) == {"planned": 4320, "missed": 4310, "open": 10}


async def test_a_tick_ahead_that_is_taken_back_was_never_planned(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    assert await world.tick(horizon_seconds=200) == 3
    before = await row(world)

    await world.schedules.suspend(DEFINITION.key, suspended=True, reason="stock-taking", by="ann")

    assert await ledger(world) == {}
    after = await row(world)
    assert (after["runs"], after["last_run_tick_at"]) == (0, None)
    assert (after["suspended_by"], after["suspend_reason"]) == ("ann", "stock-taking")
    assert after["suspended_at"] is not None
    assert before["suspended_at"] is None


async def test_what_was_planned_while_suspended_is_told_at_its_end(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await world.schedules.suspend(DEFINITION.key, suspended=True, reason="stock-taking")
    await world.stand_at(NOW + HOUR)

    await world.schedules.suspend(DEFINITION.key, suspended=False)

    (told,) = await world.pool.fetch("SELECT * FROM scheduler_occurrences")
    assert (told["outcome"], told["ticks"], told["reason"]) == ("skipped_suspended", 60, "stock-taking")
    assert await ledger(world) == {"planned": 60, "skipped_suspended": 60}


async def test_a_new_rule_tells_of_what_the_old_one_owed(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await set_back(world, HOUR)

    await world.schedules.upsert(replace(DEFINITION, generation=2, rule=Interval(7)))

    assert await ledger(world) == {"planned": 60, "missed": 60}


@pytest.mark.parametrize("policy", [VacuumPolicy.immediate(), VacuumPolicy.keep_last(0)], ids=["by age", "by number"])
async def test_rows_that_retention_deletes_go_into_ranges(world: World, policy: VacuumPolicy) -> None:
    await world.schedules.upsert(replace(DEFINITION, policy=Policy(missed="run_all")))
    await set_back(world, timedelta(minutes=5))
    worker, vacuum = await world.worker(), VacuumStore(world.db)
    assert await world.tick() == 5
    jobs = await world.claim(worker)
    await world.jobs.complete(jobs[:3], worker)
    assert await world.jobs.fail(jobs[3], ErrorRecord("ValueError", "no", ""))
    balance = await ledger(world)

    await vacuum.delete_batch("", JobStatus.COMPLETED, policy)
    await vacuum.delete_batch("", JobStatus.FAILED, policy)

    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 1
    assert await ledger(world) == balance == {"planned": 5, "open": 1, "ran": 4, "failed": 1}


async def test_ranges_of_a_month_are_one_row(world: World) -> None:
    await world.schedules.upsert(replace(DEFINITION, policy=Policy(missed="run_all")))
    await set_back(world, timedelta(minutes=3))
    worker, vacuum = await world.worker(), VacuumStore(world.db)
    await world.tick(horizon_seconds=0)

    for job in await world.claim(worker):
        await world.jobs.complete([job], worker)
        await vacuum.delete_batch("", JobStatus.COMPLETED, VacuumPolicy.immediate())

    (month,) = await world.pool.fetch("SELECT * FROM scheduler_occurrences")
    assert (month["outcome"], month["ticks"], month["month"]) == ("ran", 3, date(2026, 6, 1))
    assert month["last_tick_at"] - month["first_tick_at"] == timedelta(minutes=2)


async def test_retention_of_a_deleted_schedule_tells_of_nothing(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await set_back(world, timedelta(minutes=5))
    worker = await world.worker()
    await world.tick()
    await world.jobs.complete(await world.claim(worker), worker)
    await world.schedules.delete(DEFINITION.key)

    deleted = await VacuumStore(world.db).delete_batch("", JobStatus.COMPLETED, VacuumPolicy.immediate())

    assert deleted == 1
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_occurrences") == 0


async def test_a_row_deleted_by_hand_is_missing_in_the_ledger(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await set_back(world, timedelta(minutes=5))
    await world.tick()

    await world.pool.execute("DELETE FROM scheduled_jobs")

    assert await world.pool.fetchval("SELECT unaccounted FROM scheduler_ledger") == 1


async def test_ledger_of_one_schedule_is_read_by_its_ticks(world: World) -> None:
    """Whatever else the table holds."""
    await world.schedules.upsert(DEFINITION)
    plan = await world.pool.fetch("EXPLAIN SELECT * FROM scheduler_ledger WHERE schedule_id = 1")

    assert not [line for (line,) in plan if "Seq Scan on scheduled_jobs" in line]


async def test_totals_are_the_sums_over_one_tenants_schedules(world: World) -> None:
    store = LedgerStore(world.db)
    assert set(asdict(await store.totals("")).values()) == {0}
    for uid, tenant in (("a", ""), ("b", ""), ("c", "another")):
        key = replace(DEFINITION.key, uid=uid, tenant=tenant)
        await world.schedules.upsert(replace(DEFINITION, key=key, policy=Policy(missed="skip")))
    await set_back(world, HOUR)
    await world.tick()
    await world.pool.execute("UPDATE scheduler_schedules SET ticks = 7 WHERE tenant = 'another'")

    totals = await store.totals("")

    assert {name: count for name, count in asdict(totals).items() if count} == {"planned": 120, "missed": 120}


async def test_totals_are_given_up_after_their_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pg_scheduler._store.ledger.LIMIT_SECONDS", 0.05)
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK scheduler_schedules")

        with pytest.raises(DatabaseBusy, match="the statement took too long"):
            await asyncio.wait_for(LedgerStore(world.db).totals(""), PATIENCE)


async def test_a_schedule_whose_last_runs_all_failed_is_halted(world: World) -> None:
    await world.schedules.upsert(replace(DEFINITION, policy=Policy(missed="run_all", suspend_after_failures=3)))
    await set_back(world, timedelta(minutes=4))
    worker = await world.worker()
    assert await world.tick() == 4
    jobs = await world.claim(worker)
    await world.jobs.complete(jobs[:1], worker)
    for job in jobs[1:3]:
        await world.jobs.fail(job, ErrorRecord("ValueError", "no", ""))
    await world.pool.execute("UPDATE scheduler_schedules SET next_tick_at = scheduler_now()")
    await world.tick(horizon_seconds=0)
    assert (await row(world))["halted_at"] is None

    assert await world.tick(horizon_seconds=40) == 1
    await world.jobs.fail(jobs[3], ErrorRecord("ValueError", "no", ""))
    await world.pool.execute("UPDATE scheduler_schedules SET next_tick_at = scheduler_now()")
    assert await world.tick() == 0

    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'pending'") == 0
    halted = await row(world)
    assert halted["halted_reason"] == "its last 3 runs failed"
    assert halted["next_tick_at"] is None
    assert not halted["suspended"]
    await world.stand_at(NOW + HOUR)
    await world.schedules.suspend(DEFINITION.key, suspended=False)
    assert (await ledger(world))["skipped_suspended"] == 60  # what had been put ahead and was taken back is among them


async def test_a_halted_schedule_ticks_again_once_it_is_resumed(world: World) -> None:
    definition = replace(DEFINITION, policy=Policy(suspend_after_failures=1))
    await world.schedules.upsert(definition)
    await set_back(world, timedelta(minutes=1))
    worker = await world.worker()
    await world.tick(horizon_seconds=0)
    await fail(world, worker)
    await world.pool.execute("UPDATE scheduler_schedules SET next_tick_at = scheduler_now()")
    await world.tick(horizon_seconds=0)
    await world.schedules.upsert(definition)
    assert (await row(world))["halted_at"] is not None
    await world.stand_at(NOW + HOUR)

    await world.schedules.suspend(definition.key, suspended=False)

    resumed = await row(world)
    assert resumed["halted_at"] is None
    assert resumed["next_tick_at"] is not None
    await world.pool.execute("UPDATE scheduler_schedules SET next_tick_at = scheduler_now()")
    await world.tick(horizon_seconds=0)
    assert (await row(world))["halted_at"] is None  # a run that failed before does not count again
    assert (await ledger(world))["skipped_suspended"] == 60


async def test_everything_of_a_definition_is_stored_and_read_again(world: World) -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    definition = replace(
        DEFINITION,
        rule=Cron(("30 2 * * *", "@daily"), "Europe/Berlin", seconds="0,30", nonexistent="skip", ambiguous="both"),
        bounds=Bounds(jitter_seconds=30, start_at=noon, end_at=noon + HOUR, max_runs=7),
        policy=Policy(
            missed="run_all",
            max_catch_up=9,
            starting_deadline_seconds=300,
            overlap="queue",
            suspend_after_failures=5,
        ),
        suspended=True,
        suspend_reason="not yet",
    )
    await world.schedules.upsert(definition)

    assert not await world.schedules.upsert(definition)
    assert await world.schedules.upsert(replace(definition, generation=2, rule=Interval(60)))
    assert not await world.schedules.upsert(replace(definition, generation=2, rule=Interval(60)))
    assert (await row(world))["suspended_by"] == "PeriodicJob"


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
async def test_runs_that_must_not_overlap_hold_the_key_of_their_schedule(world: World, overlap: Overlap) -> None:
    policy = Policy(overlap=overlap, starting_deadline_seconds=60)
    await world.schedules.upsert(replace(DEFINITION, policy=policy, bounds=Bounds(jitter_seconds=10)))
    await set_back(world, timedelta(minutes=5))

    await world.tick(horizon_seconds=0)

    (job,) = await world.pool.fetch("SELECT * FROM scheduled_jobs")
    assert job["concurrency_key"] == f"schedule:{job['schedule_id']}"
    assert job["on_full"] == overlap
    assert job["misfire_grace_time"] == 60
    assert timedelta(0) <= job["execution_time"] - job["tick_at"] <= timedelta(seconds=10)


async def test_a_run_knows_the_tick_before_it(world: World) -> None:
    await world.schedules.upsert(replace(DEFINITION, policy=Policy(missed="run_all")))
    await set_back(world, timedelta(minutes=3))
    worker = await world.worker()
    await world.tick(horizon_seconds=0)

    first, second, third = sorted(await world.claim(worker), key=lambda job: job.execution_time)

    assert first.previous_tick_at is None
    assert (second.previous_tick_at, third.previous_tick_at) == (first.tick_at, second.tick_at)


async def test_newer_zone_data_moves_the_next_tick_and_says_so(world: World) -> None:
    await world.schedules.upsert(replace(DEFINITION, rule=Cron(("0 12 * * *",), "Europe/Berlin")))
    planned = (await row(world))["next_tick_at"]
    await world.pool.execute(
        "UPDATE scheduler_schedules SET next_tick_at = next_tick_at + interval '1 hour', time_zone_data = '2019a'"
    )

    schedules, (moved,) = await world.schedules.replan("", 10)

    assert schedules == 1
    assert (moved.name, moved.before, moved.after) == ("n", planned + HOUR, planned)
    assert (await row(world))["next_tick_at"] == planned
    assert (await row(world))["time_zone_data"] == zones.version()
    assert await world.schedules.replan("", 10) == (0, [])


async def test_ticks_that_older_zone_data_has_put_ahead_are_taken_back(world: World) -> None:
    await world.schedules.upsert(replace(DEFINITION, rule=Cron(("* * * * *",), "Europe/Berlin")))
    await world.tick(horizon_seconds=40)
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 1
    await world.pool.execute(
        "UPDATE scheduler_schedules SET next_tick_at = next_tick_at + interval '1 hour', time_zone_data = '2019a'"
    )

    await world.schedules.replan("", 10)

    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0
    assert await world.tick(horizon_seconds=40) == 1
    assert await ledger(world) == {"planned": 1, "open": 1}


async def test_what_newer_zone_data_has_planned_is_left_to_it_for_a_minute(world: World) -> None:
    await world.schedules.upsert(replace(DEFINITION, rule=Cron(("* * * * *",), "Europe/Berlin")))
    await world.pool.execute("UPDATE scheduler_schedules SET time_zone_data = '9999a', next_tick_at = scheduler_now()")

    assert await world.tick() == 0
    seconds = await world.schedules.next_tick("")
    assert seconds is not None
    assert seconds == 60

    await world.stand_at(NOW + timedelta(seconds=61))
    assert await world.tick() > 0
    assert (await row(world))["time_zone_data"] == zones.version()


async def test_two_that_change_and_tick_at_once_leave_the_ledger_balanced(world: World) -> None:
    await world.schedules.upsert(DEFINITION)
    await set_back(world, HOUR)
    edits = [world.schedules.upsert(replace(DEFINITION, generation=n, rule=Interval(50 + n))) for n in range(2, 8)]

    await asyncio.gather(*edits, *(world.tick(horizon_seconds=120) for _ in range(6)))

    await ledger(world)
