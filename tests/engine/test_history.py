"""A schedule keeps as many rows of ended jobs as it says, and its ledger tells of the others."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import Scheduler, VacuumConfig, VacuumPolicy
from pg_scheduler._domain.policies import History, Policy
from pg_scheduler._domain.rules import Interval
from pg_scheduler._domain.schedules import ScheduleDefinition, ScheduleKey, Template
from pg_scheduler.errors import InvalidSchedule
from pg_scheduler.job_template import Deletion

if TYPE_CHECKING:
    from support.world import World

DEFINITION = ScheduleDefinition(
    key=ScheduleKey(tenant="", kind="PeriodicJob", cluster="c", uid="u"),
    name="n",
    generation=1,
    rule=Interval(60),
    template=Template(
        task="t", job_name="t", payload='{"args":[],"kwargs":{}}', queue="default", priority=5, max_retries=0
    ),
    history=History(successful=2, failed=1),
)


async def schedule(world: World, *ends: str, days_ago: float = 0, **changes: Any) -> int:
    """A schedule whose ticks, a minute each, have ended like this; its id."""
    key = replace(DEFINITION.key, uid=f"u{next(world._numbers)}")
    await world.schedules.upsert(replace(DEFINITION, key=key, **changes))
    schedule_id: int = await world.pool.fetchval(
        "UPDATE scheduler_schedules SET ticks = $2, runs = $2 WHERE source_uid = $1 RETURNING id", key.uid, len(ends)
    )
    await world.pool.execute(
        "INSERT INTO scheduled_jobs (job_id, schedule_id, tick_at, execution_time, task, job_name, task_data, status,"
        " attempt, finished_at, worker_id)"
        " SELECT format('%s-%s', $1::bigint, n), $1, t, t, 't', 't', '{}', status, 1,"
        " CASE WHEN status <> 'running' THEN now() - make_interval(secs => $3) END, 'w'"
        " FROM unnest($2::text[]) WITH ORDINALITY e(status, n),"
        " LATERAL (SELECT timestamptz '2026-01-01 00:00Z' + make_interval(mins => n::int) AS t) i",
        schedule_id,
        list(ends),
        days_ago * 86400,
    )
    return schedule_id


async def left(world: World, schedule_id: int) -> list[str]:
    """The ends of the jobs that are still there, by their ticks; each with its number."""
    rows = await world.pool.fetch(
        "SELECT split_part(job_id, '-', 2) || status AS end FROM scheduled_jobs WHERE schedule_id = $1"
        " ORDER BY tick_at",
        schedule_id,
    )
    return [row["end"] for row in rows]


async def test_the_newest_rows_of_each_end_are_kept_and_the_ledger_has_the_others(world: World) -> None:
    ends = ["completed", "failed", "completed", "cancelled", "completed", "failed", "cancelled", "expired", "running"]
    one = await schedule(world, *ends)
    other = await schedule(world, "completed", "completed", "completed")

    counts = await Scheduler(world.pool).run_vacuum()

    assert counts == {"completed": 2, "failed": 1, "cancelled": 1, "expired": 0}
    assert await left(world, one) == ["3completed", "5completed", "6failed", "7cancelled", "8expired", "9running"]
    assert await left(world, other) == ["2completed", "3completed"]
    (line,) = await world.pool.fetch("SELECT * FROM scheduler_ledger WHERE schedule_id = $1", one)
    assert (line["ran"], line["failed"], line["cancelled"], line["missed"], line["unaccounted"]) == (5, 2, 2, 1, 0)


async def test_what_a_schedule_keeps_outlives_the_retention_by_age_and_other_rows_do_not(world: World) -> None:
    kept = await schedule(world, "completed", days_ago=400)
    other = await schedule(world, "completed", days_ago=400, history=None)

    await Scheduler(world.pool).run_vacuum()

    assert (await left(world, kept), await left(world, other)) == (["1completed"], [])


async def test_what_a_schedule_keeps_is_not_counted_with_the_rows_of_its_job_name(world: World) -> None:
    kept = await schedule(world, "completed", "completed")
    config = VacuumConfig(completed=VacuumPolicy.keep_last(1))

    await Scheduler(world.pool, vacuum_config=config).run_vacuum()

    assert await left(world, kept) == ["1completed", "2completed"]


async def test_a_history_of_nothing_keeps_nothing(world: World) -> None:
    empty = await schedule(world, "completed", "failed", "expired", history=History(successful=0, failed=0))

    await Scheduler(world.pool).run_vacuum()

    assert await left(world, empty) == []


async def test_what_suspension_after_failures_counts_is_kept(world: World) -> None:
    nothing = History(successful=0, failed=0)
    policy = Policy(suspend_after_failures=2)
    one = await schedule(
        world, "completed", "failed", "failed", "failed", "completed", "failed", history=nothing, policy=policy
    )

    await Scheduler(world.pool).run_vacuum()

    assert await left(world, one) == ["4failed", "5completed", "6failed"]


async def test_a_job_whose_coroutine_may_still_run_is_kept(world: World) -> None:
    one = await schedule(world, "cancelled", "cancelled", history=History(successful=0, failed=0))
    await world.pool.execute("UPDATE scheduled_jobs SET stopping_worker = 'w' WHERE job_id = $1", f"{one}-1")

    await Scheduler(world.pool).run_vacuum()

    assert await left(world, one) == ["1cancelled"]


async def test_more_schedules_and_rows_than_a_statement_takes_go_in_one_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pg_scheduler._engine.vacuumer.SCHEDULES_MAX", 2)
    for module in ("_engine.vacuumer", "_store.vacuum"):
        monkeypatch.setattr(f"pg_scheduler.{module}.VACUUM_MAX", 3)
    ids = [await schedule(world, *["completed"] * 7) for _ in range(3)]

    assert (await Scheduler(world.pool).run_vacuum())["completed"] == 15
    assert [await left(world, one) for one in ids] == [["6completed", "7completed"]] * 3


async def test_other_tenants_keep_theirs(world: World) -> None:
    one = await schedule(world, *["completed"] * 3)
    await world.pool.execute("UPDATE scheduler_schedules SET tenant = 'other'")

    await Scheduler(world.pool).run_vacuum()

    assert len(await left(world, one)) == 3


@pytest.mark.parametrize("rows", [-1, 10_001])
def test_a_history_out_of_range_is_refused(rows: int) -> None:
    with pytest.raises(InvalidSchedule, match="history"):
        History(successful=rows, failed=0)


@pytest.mark.parametrize(
    ("deletion", "ends"),
    [
        (Deletion.CANCEL_PENDING, {"due": "cancelled", "running": "running", "stopping": None}),
        (Deletion.CANCEL, {"due": "cancelled", "running": "cancelled", "stopping": "w"}),
        (Deletion.ORPHAN, {"due": "pending", "running": "running", "stopping": None}),
        (None, {"due": "cancelled", "running": "cancelled", "stopping": "w"}),  # as the row says
    ],
)
async def test_deletion_ends_the_jobs_as_it_says_and_takes_back_what_was_not_due(
    world: World, deletion: Deletion | None, ends: dict[str, str | None]
) -> None:
    await schedule(world, "running", deletion=Deletion.CANCEL)
    await world.advance(timedelta(seconds=118))
    assert await world.tick() == 2  # one is due, one lies ahead
    key = replace(DEFINITION.key, uid=await world.pool.fetchval("SELECT source_uid FROM scheduler_schedules"))

    assert await world.schedules.delete(key, deletion)

    running, due = await world.pool.fetch("SELECT status, stopping_worker FROM scheduled_jobs ORDER BY tick_at")
    assert {"due": due["status"], "running": running["status"], "stopping": running["stopping_worker"]} == ends
