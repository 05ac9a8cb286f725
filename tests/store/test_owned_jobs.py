"""Rows of ScheduledJobs: what is written of their template, who may take a key, and what deletion leaves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import Scheduler, recurrence
from pg_scheduler._store.vacuum import VacuumStore
from pg_scheduler.control import RESULT_BYTES_MAX, Control, DesiredJob, DesiredSchedule, JobState, Source
from pg_scheduler.errors import OwnedByResource
from pg_scheduler.job_status import JobStatus
from pg_scheduler.job_template import Deletion, JobTemplate
from pg_scheduler.recurrence import Policy
from pg_scheduler.retry_policy import RetryPolicy
from pg_scheduler.vacuum import VacuumPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.world import World

LATER = datetime(2099, 1, 1, tzinfo=UTC)
SOURCE = Source(cluster="c", kind="ScheduledJob", tenant="", name="n", uid="u1", generation=1)
FULL = JobTemplate(
    task="t",
    kwargs={"a": 2},
    args_from={"token": "REPORT_TOKEN"},
    labels={"team": "finance"},
    max_retries=3,
    retry_policy=RetryPolicy(initial=1, maximum=30, factor=2, jitter=1),
    timeout_seconds=1800,
    concurrency_key="tenant-42",
    concurrency_limit=2,
    keep_result=True,
)
JOB = DesiredJob(source=SOURCE, job_id="sj-u1", template=JobTemplate(task="t"), digest="d")
KEYED = replace(JOB, job_id="key:/k")
COLUMNS = ("max_retries", "timeout_seconds", "concurrency_key", "concurrency_limit", "keep_result")
VALUES = (3, 1800.0, "tenant-42", 2, True)


@pytest.fixture
async def control(dsn: str) -> AsyncIterator[Control]:
    """The operator's connection to this test's database."""
    async with Control(dsn) as control:
        yield control


def of(source: str, desired: DesiredJob = KEYED, **changes: Any) -> DesiredJob:
    """The same wish of another object."""
    return replace(desired, source=replace(desired.source, uid=source, name=source, **changes))


def next_of(desired: DesiredJob, **changes: Any) -> DesiredJob:
    """A later generation of the wish."""
    source = replace(desired.source, generation=desired.source.generation + 1)
    return replace(desired, source=source, **changes)


async def end(world: World, job_id: str, status: str = "completed") -> None:
    await world.pool.execute(
        "UPDATE scheduled_jobs SET status = $2, finished_at = scheduler_now(), attempt = greatest(attempt, 1)"
        " WHERE job_id = $1",
        job_id,
        status,
    )


async def limit_of(world: World) -> int | None:
    limit: int | None = await world.pool.fetchval(
        "SELECT limit_ FROM scheduler_concurrency_limits WHERE key = 'tenant-42'"
    )
    return limit


async def test_whole_template_is_in_the_row(control: Control, world: World) -> None:
    await control.upsert_job(replace(JOB, template=FULL))

    row = await world.row("sj-u1")
    assert tuple(row[column] for column in COLUMNS) == VALUES
    assert row["task_data"] == '{"args":[],"kwargs":{"a":2},"argsFrom":{"token":"REPORT_TOKEN"}}'
    assert row["retry_policy"] == '{"initial":1,"maximum":30,"factor":2,"jitter":1}'
    assert await world.pool.fetchval("SELECT job_id FROM scheduled_jobs WHERE metadata->>'team' = 'finance'") == "sj-u1"
    assert await limit_of(world) == 2


async def test_edit_of_a_job_writes_its_whole_template(control: Control, world: World) -> None:
    await control.upsert_job(replace(JOB, run_at=LATER))

    await control.upsert_job(next_of(JOB, template=FULL, run_at=LATER))

    row = await world.row("sj-u1")
    assert tuple(row[column] for column in COLUMNS) == VALUES
    assert (row["retry_policy"] is None, row["metadata"]) == (False, '{"team":"finance"}')


async def test_jobs_of_a_schedule_are_made_from_its_whole_template(control: Control, world: World) -> None:
    await control.upsert_schedule(
        DesiredSchedule(
            source=replace(SOURCE, kind="PeriodicJob"),
            rule=recurrence.Interval(1),
            policy=Policy(overlap="allow"),
            template=FULL,
        )
    )
    await world.worker()

    await world.tick()

    row = await world.pool.fetchrow("SELECT * FROM scheduled_jobs LIMIT 1")
    assert row is not None
    assert tuple(row[column] for column in COLUMNS) == VALUES
    assert "argsFrom" in row["task_data"]
    assert row["metadata"] == '{"team":"finance"}'
    assert await limit_of(world) == 2


async def test_waiting_job_can_be_edited(control: Control, world: World) -> None:
    await control.upsert_job(replace(JOB, template=FULL))
    await world.pool.execute("UPDATE scheduled_jobs SET status = 'waiting'")

    state = await control.upsert_job(next_of(JOB))

    assert (state.status, state.source) == (JobStatus.PENDING, replace(SOURCE, generation=2))


async def test_started_job_is_held_and_told_what_deletion_means_but_not_changed(control: Control, world: World) -> None:
    await control.upsert_job(JOB)
    await world.claim(await world.worker())

    changed = next_of(JOB, suspended=True, deletion=Deletion.ORPHAN, template=replace(JOB.template, queue="other"))
    state = await control.upsert_job(changed)

    assert (state.suspended, state.deletion, state.queue) == (True, Deletion.ORPHAN, "default")
    assert state.source == replace(SOURCE, generation=2)


@pytest.mark.parametrize(("grace", "status"), [(60, "expired"), (None, "pending"), (10**8, "pending")])
async def test_job_that_is_past_its_deadline_when_it_comes_is_expired(
    control: Control, grace: int | None, status: str
) -> None:
    late = datetime.now(UTC) - timedelta(hours=1)

    state = await control.upsert_job(replace(JOB, run_at=late, starting_deadline_seconds=grace))

    assert state.status == status


async def test_job_expires_where_nobody_lives_to_claim_it(control: Control, world: World) -> None:
    await control.upsert_job(replace(JOB, starting_deadline_seconds=60))
    assert not await control.expire_job(SOURCE, "sj-u1")

    await world.advance(timedelta(seconds=61))

    assert await control.expire_job(SOURCE, "sj-u1")
    state = await control.job("sj-u1")
    assert state is not None
    assert state.status is JobStatus.EXPIRED


async def test_job_that_waits_in_a_served_queue_does_not_expire(control: Control, world: World) -> None:
    await control.upsert_job(replace(JOB, starting_deadline_seconds=60))
    await world.pool.execute(
        "INSERT INTO scheduler_queues (tenant, queue, served_since, served_until)"
        " VALUES ('', 'default', now() - interval '1 hour', now() + interval '1 hour')"
    )

    await world.advance(timedelta(seconds=61))

    assert not await control.expire_job(SOURCE, "sj-u1")


async def test_another_source_does_not_expire_the_job(control: Control, world: World) -> None:
    await control.upsert_job(replace(JOB, starting_deadline_seconds=60))
    await world.advance(timedelta(seconds=61))

    assert not await control.expire_job(replace(SOURCE, uid="u2"), "sj-u1")


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("deletion", list(Deletion))
async def test_deletion_leaves_what_it_says(control: Control, world: World, deletion: Deletion, started: bool) -> None:
    await control.upsert_job(JOB)
    if started:
        await world.claim(await world.worker())

    state = await control.release_job(SOURCE, "sj-u1", deletion)

    assert state is not None
    cancelled = deletion is Deletion.CANCEL or (deletion is Deletion.CANCEL_PENDING and not started)
    assert (state.status is JobStatus.CANCELLED) is cancelled
    assert state.stopping is (deletion is Deletion.CANCEL and started)
    assert (state.source is None) is (deletion is Deletion.ORPHAN)


@pytest.mark.parametrize("deletion", list(Deletion))
async def test_deletion_of_another_object_leaves_the_row_alone(control: Control, deletion: Deletion) -> None:
    before = await control.upsert_job(JOB)

    assert await control.release_job(replace(SOURCE, uid="u2"), "sj-u1", deletion) == before


async def test_jobs_of_objects_that_are_gone_do_what_their_rows_say(control: Control) -> None:
    for deletion in Deletion:
        await control.upsert_job(of(deletion, replace(JOB, job_id=f"sj-{deletion}", deletion=deletion, run_at=LATER)))
    await control.upsert_job(of("stays", replace(JOB, job_id="sj-stays")))

    assert await control.release_jobs("c", list(Deletion)) == 3
    assert await control.release_jobs("elsewhere", ["stays"]) == 0

    states = [await control.job(f"sj-{one}") for one in (*Deletion, "stays")]
    assert [(state.status.value, state.source is None) for state in states if state] == [
        ("cancelled", False),
        ("cancelled", False),
        ("pending", True),
        ("pending", False),
    ]


async def test_library_may_cancel_the_job_of_a_resource_and_do_nothing_else_to_it(
    control: Control, world: World
) -> None:
    await control.upsert_job(JOB)
    scheduler = Scheduler(world.pool)

    with pytest.raises(OwnedByResource):
        await scheduler.reschedule("sj-u1", LATER)
    assert await scheduler.cancel_job("sj-u1")
    with pytest.raises(OwnedByResource):
        await scheduler.update_job_status("sj-u1", "pending")

    state = await control.job("sj-u1")
    assert state is not None
    assert (state.status, state.source) == (JobStatus.CANCELLED, SOURCE)


async def test_key_is_one_job_whoever_asks(control: Control, world: World) -> None:
    first = await control.upsert_job(KEYED)

    with pytest.raises(OwnedByResource):
        await control.upsert_job(of("u2"))

    assert await control.job("key:/k") == first
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 1


async def test_key_of_a_job_that_was_cancelled_before_it_started_is_free(control: Control) -> None:
    await control.upsert_job(KEYED)
    await control.cancel_job(SOURCE, "key:/k")

    state = await control.upsert_job(of("u2"))

    assert (state.status, state.finished_at) == (JobStatus.PENDING, None)
    assert state.source is not None
    assert state.source.uid == "u2"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired"])
async def test_key_of_a_job_that_has_run_stays_taken(control: Control, world: World, status: str) -> None:
    await control.upsert_job(KEYED)
    await end(world, "key:/k", status)

    with pytest.raises(OwnedByResource):
        await control.upsert_job(of("u2"))


async def adopt(control: Control, desired: DesiredJob) -> bool:
    return await control.adopt_job(desired.source, "key:/k", deletion=Deletion.CANCEL, suspended=True)


async def test_open_job_goes_to_the_next_object_of_its_owners_name(control: Control, world: World) -> None:
    await control.upsert_job(KEYED)
    await world.claim(await world.worker())

    assert not await adopt(control, of("another name"))
    assert await adopt(control, replace(KEYED, source=replace(SOURCE, uid="u2")))

    state = await control.job("key:/k")
    assert state is not None
    assert state.source == replace(SOURCE, uid="u2")
    assert (state.deletion, state.suspended, state.status) == (Deletion.CANCEL, True, JobStatus.RUNNING)


async def test_job_that_nobody_owns_goes_to_who_asks_but_never_into_another_tenant(control: Control) -> None:
    await control.upsert_job(KEYED)
    await control.release_job(SOURCE, "key:/k", Deletion.ORPHAN)

    assert not await adopt(control, of("u2", tenant="elsewhere"))
    assert await adopt(control, of("u2"))


async def vacuum(world: World, status: JobStatus) -> None:
    await VacuumStore(world.db).delete_batch("", status, VacuumPolicy.immediate())


async def buried(control: Control, world: World, status: JobStatus = JobStatus.COMPLETED) -> JobState | None:
    await control.upsert_job(KEYED)
    await end(world, "key:/k", status)
    await vacuum(world, status)
    return await control.known_job("key:/k")


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.EXPIRED])
async def test_key_outlives_its_row(control: Control, world: World, status: JobStatus) -> None:
    state = await buried(control, world, status)

    assert await control.job("key:/k") is None
    assert state is not None
    assert (state.status, state.digest, state.source) == (status, "d", None)
    with pytest.raises(OwnedByResource):
        await control.upsert_job(of("u2"))
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0


async def test_job_without_a_key_is_not_made_again_after_its_row_is_gone(control: Control, world: World) -> None:
    await control.upsert_job(JOB)
    await end(world, "sj-u1")
    await vacuum(world, JobStatus.COMPLETED)

    with pytest.raises(OwnedByResource):
        await control.upsert_job(next_of(JOB))

    state = await control.known_job("sj-u1")
    assert state is not None
    assert state.status is JobStatus.COMPLETED


async def test_jobs_of_the_library_and_of_schedules_leave_no_tombstone(control: Control, world: World) -> None:
    library = await world.pending()
    await control.upsert_job(JOB)
    await world.pool.execute("UPDATE scheduled_jobs SET source_kind = 'PeriodicJob' WHERE job_id = 'sj-u1'")
    await end(world, library)
    await end(world, "sj-u1")
    await vacuum(world, JobStatus.COMPLETED)

    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_tombstones") == 0


async def test_job_that_was_cancelled_before_it_started_leaves_no_tombstone(control: Control, world: World) -> None:
    await control.upsert_job(KEYED)
    await control.cancel_job(SOURCE, "key:/k")
    await vacuum(world, JobStatus.CANCELLED)

    assert await control.known_job("key:/k") is None


async def test_tombstone_is_forgotten_after_its_days(control: Control, world: World) -> None:
    await buried(control, world)
    store = VacuumStore(world.db)

    await world.advance(timedelta(days=89, hours=23))
    assert await store.forget_tombstones("", 90) == 0
    await world.advance(timedelta(days=90, seconds=1))
    assert await store.forget_tombstones("elsewhere", 90) == 0
    assert await store.forget_tombstones("", 90) == 1

    assert (await control.upsert_job(of("u2"))).status is JobStatus.PENDING


@pytest.mark.parametrize(("size", "shown"), [(RESULT_BYTES_MAX, True), (RESULT_BYTES_MAX + 1, False)])
async def test_state_holds_a_result_up_to_what_a_status_may(
    control: Control, world: World, size: int, shown: bool
) -> None:
    await control.upsert_job(JOB)
    await end(world, "sj-u1")
    text = f'"{"x" * (size - 2)}"'
    await world.pool.execute(
        "INSERT INTO scheduler_results (job_id, token, result)"
        " SELECT job_id, token, $1::text::json FROM scheduled_jobs",
        text,
    )

    state = await control.job("sj-u1")

    assert state is not None
    assert (state.result, state.result_bytes, state.result_refused) == (text if shown else None, size, False)


async def test_result_of_an_earlier_attempt_is_no_result(control: Control, world: World) -> None:
    await control.upsert_job(JOB)
    await world.pool.execute("INSERT INTO scheduler_results (job_id, token, result) VALUES ('sj-u1', 99, '1')")

    state = await control.job("sj-u1")

    assert state is not None
    assert (state.result, state.result_bytes) == (None, None)
