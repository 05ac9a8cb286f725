"""Maintenance, who serves which cluster's rows, held sweeps, and what follows a restore."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler import recurrence
from pg_scheduler.control import Control, DesiredJob, DesiredSchedule, Source
from pg_scheduler.job_status import JobStatus
from pg_scheduler.job_template import JobTemplate
from pg_scheduler.operations import Owner
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pg_scheduler.operations import Operations
    from support.world import World

SOURCE = Source(cluster="c", kind="ScheduledJob", tenant="", name="n", uid="u1", generation=3)
JOB = DesiredJob(source=SOURCE, job_id="sj-u1", template=JobTemplate(task="t"))
SCHEDULE = DesiredSchedule(
    source=replace(SOURCE, kind="PeriodicJob", uid="p1"), rule=recurrence.Interval(60), template=JobTemplate(task="t")
)


@pytest.fixture
async def control(dsn: str) -> AsyncIterator[Control]:
    async with Control(dsn) as control:
        yield control


@pytest.fixture
def operations(control: Control) -> Operations:
    return control.operations


async def test_in_maintenance_nobody_claims_and_afterwards_everybody_does(operations: Operations, world: World) -> None:
    early = await world.worker()
    running = await world.running(early)
    assert await operations.begin_maintenance(by="me", reason="a restore")
    late = await world.worker()
    await world.pending()
    await world.pending(concurrency_key="k")
    await world.pool.execute("UPDATE scheduled_jobs SET interruptions = 2 WHERE job_id = $1", await world.pending())

    for worker in (early, late):
        assert await world.claim(worker) == []
        assert await world.claim_keyed(worker) == []
        assert await world.claim_alone(worker) is None
    state = await operations.maintenance()
    assert (state.set_by, state.reason, state.workers, state.running) == ("me", "a restore", 2, 1)
    assert state.since is not None

    assert await operations.end_maintenance()
    assert len(await world.claim(late)) == 1
    assert len(await world.claim_keyed(early)) == 1
    assert await world.claim_alone(early) is not None
    assert (await operations.maintenance()).since is None
    assert (await world.row(running.job_id))["status"] == "running"


async def test_maintenance_twice_is_no_change_but_of_the_reason(operations: Operations) -> None:
    assert await operations.begin_maintenance(by="me", reason="a")
    assert not await operations.begin_maintenance(by="you", reason="b")
    assert (await operations.maintenance()).reason == "b"

    assert await operations.end_maintenance()
    assert not await operations.end_maintenance()


async def test_mark_of_one_pod_neither_ends_maintenance_nor_outlives_it(operations: Operations, world: World) -> None:
    worker = await world.worker()
    await operations.begin_maintenance(by="me")
    await world.pending()
    for mark in (None, datetime.now(UTC) - timedelta(seconds=1)):
        await world.pool.execute("UPDATE scheduler_workers SET drain_until = $1", mark)
        assert await world.claim(worker) == []

    await operations.end_maintenance()
    assert len(await world.claim(worker)) == 1


async def test_maintenance_is_no_mark_of_a_scale_in(control: Control, world: World) -> None:
    await world.worker()
    await world.pool.execute("UPDATE scheduler_workers SET pod_uid = 'p'")
    await control.operations.begin_maintenance(by="me")

    (worker,) = (await control.demand("", ahead_seconds=0)).workers

    assert (worker.mark_seconds, worker.drained_seconds) == (None, None)


async def test_end_of_maintenance_leaves_the_mark_of_a_scale_in(operations: Operations, world: World) -> None:
    worker = await world.worker()
    await world.pool.execute("UPDATE scheduler_workers SET drain_until = now() + interval '1 h'")
    assert not await operations.end_maintenance()
    await world.pending()

    assert await world.claim(worker) == []


async def test_worker_that_registers_while_maintenance_begins_is_drained(operations: Operations, world: World) -> None:
    await world.pending()
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO scheduler_workers (id, tenant, queues, tasks, slots, lease_until, version)"
            " VALUES ('w', '', '{default}', '{t}', 1, now() + interval '1 m', '0')"
        )
        beginning = asyncio.create_task(operations.begin_maintenance(by="me"))
        await until(lambda: _somebody_waits(world))
    await beginning

    assert await world.claim("w") == []


async def _somebody_waits(world: World) -> bool:
    count = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return bool(await world.pool.fetchval(count))


async def test_in_maintenance_no_tick_is_planned_and_none_is_awaited(
    control: Control, operations: Operations, world: World
) -> None:
    await control.upsert_schedule(SCHEDULE)
    worker = await world.worker()
    await world.advance(timedelta(seconds=90))
    await operations.begin_maintenance(by="me")

    assert await world.tick() == 0
    ahead = await world.jobs.look_ahead("", ["default"], ["t"], floor=None, worker_id=worker, server_started_at=None)
    assert (ahead.tick_in, ahead.due_in) == (None, None)

    await operations.end_maintenance()
    assert await world.tick() > 0


async def test_look_finds_nothing_due_in_maintenance(operations: Operations, world: World) -> None:
    worker = await world.worker()
    await world.pending()
    await world.pending(concurrency_key="k")
    await operations.begin_maintenance(by="me")

    ahead = await world.jobs.look_ahead("", ["default"], ["t"], floor=None, worker_id=worker, server_started_at=None)

    assert (ahead.due_in, ahead.keyed_in) == (None, None)


async def test_tokens_after_a_restore_are_above_all_that_were_handed_out(operations: Operations, world: World) -> None:
    worker = await world.worker()
    before = (await world.running(worker)).token

    await operations.skip_tokens()

    assert (await world.running(worker)).token > before + 10**11


async def test_name_is_one_clusters_until_it_is_silent_for_a_minute(operations: Operations, world: World) -> None:
    assert await operations.claim_cluster("c", "one")
    assert await operations.claim_cluster("c", "one")
    assert not await operations.claim_cluster("c", "two")
    assert await operations.claim_cluster("d", "two")
    assert await operations.other_clusters("c") == ["d"]

    await world.advance(timedelta(seconds=61))
    assert await operations.claim_cluster("c", "two")
    assert not await operations.claim_cluster("c", "one")


async def test_agreement_is_to_as_many_as_were_shown_and_ends_with_the_hold(operations: Operations) -> None:
    await operations.claim_cluster("c", "one")
    assert not await operations.hold_sweep("c", rows=20, of=30)
    (held,) = await operations.held_sweeps()
    assert (held.cluster, held.rows, held.of, held.is_confirmed) == ("c", 20, 30, False)

    await operations.confirm_sweeps("other")
    assert not await operations.hold_sweep("c", rows=20, of=30)
    await operations.confirm_sweeps(None)
    assert not await operations.hold_sweep("c", rows=21, of=30)
    assert await operations.hold_sweep("c", rows=20, of=30)

    await operations.release_sweep("c")
    assert await operations.held_sweeps() == []
    assert not await operations.hold_sweep("c", rows=20, of=30)


def owner(source: Source, **changes: object) -> Owner:
    of = replace(source, **changes)  # type: ignore[arg-type]
    return Owner(kind=of.kind, tenant=of.tenant, name=of.name, uid=of.uid, generation=of.generation)


async def test_row_follows_its_name_to_another_uid(control: Control, operations: Operations) -> None:
    await control.upsert_job(JOB)

    assert await operations.take_over("c", [owner(SOURCE, uid="u2", generation=1)]) == 1

    assert await control.job("sj-u1") is None
    state = await control.job("sj-u2")
    assert state is not None
    assert state.source == replace(SOURCE, uid="u2", generation=0)
    assert await operations.take_over("c", [owner(SOURCE, uid="u2", generation=1)]) == 0
    changed = await control.upsert_job(
        replace(JOB, source=replace(SOURCE, uid="u2", generation=1), job_id="sj-u2", template=JobTemplate(task="u"))
    )
    assert changed.task == "u"


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.RUNNING])
async def test_row_that_ended_or_runs_follows_too_with_what_hangs_on_it(
    control: Control, operations: Operations, world: World, status: JobStatus
) -> None:
    await control.upsert_job(JOB)
    (claimed,) = await world.claim(await world.worker())
    await world.pool.execute(
        "INSERT INTO scheduler_results (job_id, token, result) VALUES ('sj-u1', $1, '7');", claimed.token
    )
    await world.pool.execute("INSERT INTO scheduler_slots VALUES ('', 'k', 1, 'sj-u1')")
    if status is JobStatus.COMPLETED:
        await world.pool.execute("UPDATE scheduled_jobs SET status = 'completed', finished_at = now()")

    assert await operations.take_over("c", [owner(SOURCE, uid="u2")]) == 1

    state = await control.job("sj-u2")
    assert state is not None
    assert state.status is status
    assert await world.pool.fetchval("SELECT job_id FROM scheduler_results") == "sj-u2"
    assert await world.pool.fetchval("SELECT job_id FROM scheduler_slots") == "sj-u2"


async def test_newest_of_several_rows_of_a_name_is_taken_over(control: Control, operations: Operations) -> None:
    for uid in ("u1", "u2"):
        await control.upsert_job(replace(JOB, source=replace(SOURCE, uid=uid), job_id=f"sj-{uid}"))

    assert await operations.take_over("c", [owner(SOURCE, uid="u3")]) == 1

    assert await control.job("sj-u1") is not None
    assert await control.job("sj-u2") is None
    assert await control.job("sj-u3") is not None


@pytest.mark.parametrize(
    "other", [{"tenant": "b", "uid": "x"}, {"name": "m", "uid": "x"}, {"kind": "PeriodicJob", "uid": "x"}, {}]
)
async def test_only_the_same_name_is_taken_over(
    control: Control, operations: Operations, other: dict[str, object]
) -> None:
    await control.upsert_job(JOB)

    assert await operations.take_over("c", [owner(SOURCE, **other)]) == 0
    assert await operations.take_over("elsewhere", [owner(SOURCE, uid="u2")]) == 0


async def test_older_object_than_its_row_is_heard_again_from_its_next_edit(
    control: Control, operations: Operations
) -> None:
    await control.upsert_job(JOB)

    assert await operations.take_over("c", [owner(SOURCE, generation=2)]) == 1

    state = await control.job("sj-u1")
    assert state is not None
    assert state.source == replace(SOURCE, generation=1)


async def test_schedule_follows_its_name_and_keeps_its_anchor(control: Control, operations: Operations) -> None:
    before = await control.upsert_schedule(SCHEDULE)

    assert await operations.take_over("c", [owner(SCHEDULE.source, uid="p2", generation=1)]) == 1

    source = replace(SCHEDULE.source, uid="p2", generation=1)
    assert await control.schedule(SCHEDULE.source) is None
    after = await control.upsert_schedule(replace(SCHEDULE, source=source))
    assert (after.source, after.anchor_at) == (source, before.anchor_at)


async def test_schedule_of_its_own_uid_stays(control: Control, operations: Operations) -> None:
    await control.upsert_schedule(SCHEDULE)
    await control.upsert_schedule(replace(SCHEDULE, source=replace(SCHEDULE.source, uid="p2")))

    assert await operations.take_over("c", [owner(SCHEDULE.source, uid="p2")]) == 0
