"""The operator's side: rows by desired, read back and counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pg_scheduler import recurrence
from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._store.migrator import migrations
from pg_scheduler.control import Control, DesiredJob, DesiredSchedule, Source
from pg_scheduler.errors import DatabaseUnreachable, InvalidDsn, InvalidPayload, OwnedByResource, SchemaMismatch
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.job_status import JobStatus
from pg_scheduler.job_template import Deletion, JobTemplate
from support.databases import EMPTY
from support.world import new_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pg_scheduler._domain.jobs import ClaimedJob
    from pg_scheduler.control import ScheduleState
    from support.world import World

LATER = datetime(2099, 1, 1, tzinfo=UTC)
SOURCE = Source(cluster="c", kind="ScheduledJob", tenant="", name="n", uid="u1", generation=1)
JOB = DesiredJob(source=SOURCE, job_id="sj-u1", template=JobTemplate(task="t", args=[1], kwargs={"a": 2}), run_at=LATER)
SCHEDULE = DesiredSchedule(
    source=replace(SOURCE, kind="PeriodicJob", uid="p1"), rule=recurrence.Interval(60), template=JobTemplate(task="t")
)


def generation(desired: DesiredJob, number: int, **changes: object) -> DesiredJob:
    return replace(desired, source=replace(desired.source, generation=number), **changes)  # type: ignore[arg-type]


@pytest.fixture
async def control(dsn: str) -> AsyncIterator[Control]:
    """The operator's connection to this test's database."""
    async with Control(dsn) as control:
        yield control


async def test_what_is_desired_becomes_a_row_and_comes_back_as_state(control: Control, world: World) -> None:
    state = await control.upsert_job(
        replace(JOB, template=replace(JOB.template, queue="q", priority=JobPriority.HIGH), suspended=True)
    )

    assert state == await control.job("sj-u1")
    assert (state.source, state.status, state.task, state.queue) == (SOURCE, JobStatus.PENDING, "t", "q")
    assert (state.suspended, state.run_at, state.attempt, state.worker_id) == (True, LATER, 0, None)
    row = await world.row("sj-u1")
    assert (row["task_data"], row["priority"]) == ('{"args":[1],"kwargs":{"a":2}}', 3)


async def test_without_a_time_the_job_is_due_at_once(control: Control, world: World) -> None:
    await control.upsert_job(replace(JOB, run_at=None))

    assert len(await world.claim(await world.worker())) == 1


async def test_only_a_higher_generation_changes_a_pending_row(control: Control) -> None:
    await control.upsert_job(generation(JOB, 2))

    for number, queue in ((1, "older"), (2, "same")):
        state = await control.upsert_job(generation(JOB, number, template=replace(JOB.template, queue=queue)))
        assert state.queue == "default"
    state = await control.upsert_job(generation(JOB, 3, template=replace(JOB.template, queue="newer")))

    assert state.queue == "newer"
    assert state.source is not None
    assert state.source.generation == 3


async def test_a_started_row_is_never_changed(control: Control, world: World) -> None:
    await control.upsert_job(replace(JOB, run_at=None))
    await world.claim(await world.worker())

    state = await control.upsert_job(
        generation(JOB, 2, template=replace(JOB.template, queue="newer"), digest="another")
    )

    assert (state.status, state.queue) == (JobStatus.RUNNING, "default")
    assert state.source is not None
    assert state.source.generation == 1


async def test_two_operators_make_one_row(control: Control, world: World) -> None:
    await asyncio.gather(*(control.upsert_job(JOB) for _ in range(4)))

    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 1


async def test_another_sources_row_is_refused_and_untouched(control: Control) -> None:
    before = await control.upsert_job(JOB)

    with pytest.raises(OwnedByResource):
        await control.upsert_job(generation(replace(JOB, source=replace(SOURCE, uid="other")), 9))

    assert await control.job("sj-u1") == before


async def test_the_library_cannot_replace_an_owned_row(control: Control, world: World) -> None:
    await control.upsert_job(JOB)

    assert not await world.jobs.replace(new_job(job_id="sj-u1"))


async def test_arguments_that_json_cannot_keep_are_refused(control: Control) -> None:
    with pytest.raises(InvalidPayload):
        await control.upsert_job(replace(JOB, template=JobTemplate(task="t", args=[float("nan")])))


async def test_cancel_ends_a_pending_job_and_asks_a_running_one(control: Control, world: World) -> None:
    await control.upsert_job(JOB)
    running = replace(JOB, source=replace(SOURCE, uid="u2"), job_id="sj-u2", run_at=None)
    await control.upsert_job(running)
    await world.claim(await world.worker())

    states = [await control.cancel_job(desired.source, desired.job_id) for desired in (JOB, running)]

    assert [(state.status, state.stopping) for state in states if state] == [
        (JobStatus.CANCELLED, False),
        (JobStatus.CANCELLED, True),
    ]
    assert await control.cancel_job(SOURCE, "unknown") is None


async def test_withdrawal_spares_what_runs(control: Control, world: World) -> None:
    await control.upsert_job(JOB)
    running = replace(JOB, source=replace(SOURCE, uid="u2"), job_id="sj-u2", run_at=None)
    await control.upsert_job(running)
    await world.claim(await world.worker())

    states = [
        await control.release_job(desired.source, desired.job_id, Deletion.CANCEL_PENDING) for desired in (JOB, running)
    ]

    assert [state.status for state in states if state] == [JobStatus.CANCELLED, JobStatus.RUNNING]
    assert await control.release_job(SOURCE, "unknown", Deletion.CANCEL_PENDING) is None


async def test_a_row_that_waits_for_its_retry_has_started(control: Control, world: World) -> None:
    await control.upsert_job(replace(JOB, run_at=None))
    worker = await world.worker()
    (job,) = await world.claim(worker)
    await world.jobs.retry(job, ErrorRecord("KeyError", "", ""), 60)

    state = await control.upsert_job(
        generation(JOB, 2, template=replace(JOB.template, queue="newer"), digest="another")
    )

    assert (state.status, state.queue, state.attempt) == (JobStatus.PENDING, "default", 1)


async def test_cancel_of_another_sources_job_changes_nothing(control: Control) -> None:
    await control.upsert_job(JOB)

    state = await control.cancel_job(replace(SOURCE, uid="other"), "sj-u1")

    assert state is not None
    assert state.status is JobStatus.PENDING


async def test_a_failure_shows_its_type(control: Control, world: World) -> None:
    await control.upsert_job(replace(JOB, run_at=None))
    (job,) = await world.claim(await world.worker())
    await world.jobs.fail(job, ErrorRecord("KeyError", "secret", ""))

    state = await control.job("sj-u1")

    assert state is not None
    assert (state.status, state.error_type, state.attempt) == (JobStatus.FAILED, "KeyError", 1)
    assert "secret" not in repr(state)


async def test_who_asks_for_text_of_errors_is_told_how_it_begins(control: Control, dsn: str, world: World) -> None:
    await control.upsert_job(replace(JOB, run_at=None))
    (job,) = await world.claim(await world.worker())
    await world.jobs.fail(job, ErrorRecord("KeyError", "é" * 300, ""))

    async with Control(dsn, reads_error_text=True) as asking:
        state = await asking.job("sj-u1")

    assert state is not None
    assert state.error_text == "é" * 256


async def test_changes_tell_what_runs_and_what_ended_since(control: Control, world: World) -> None:
    await control.upsert_job(replace(JOB, run_at=None))
    foreign = replace(JOB, source=replace(SOURCE, uid="u2", cluster="other"), job_id="sj-u2", run_at=None)
    await control.upsert_job(foreign)
    first = await control.changes("c", None)
    worker = await world.worker()
    claimed = await world.claim(worker)

    running = await control.changes("c", first.cursor)
    await world.jobs.complete(claimed, worker)
    ended = await control.changes("c", running.cursor)

    assert first.jobs == []
    assert [(job.job_id, job.status) for job in running.jobs] == [("sj-u1", JobStatus.RUNNING)]
    assert [(job.job_id, job.status) for job in ended.jobs] == [("sj-u1", JobStatus.COMPLETED)]


async def test_changes_tell_of_schedules_whose_jobs_run_or_ended(control: Control, world: World) -> None:
    await control.upsert_schedule(SCHEDULE)
    first = await control.changes("c", None)
    await world.advance(timedelta(seconds=61))
    await world.tick()
    worker = await world.worker()
    claimed = await world.claim(worker)
    assert len(claimed) == 1

    running = await control.changes("c", first.cursor)
    await world.jobs.complete(claimed, worker)
    ended = await control.changes("c", first.cursor)

    ((before,), (after,)) = (running.schedules, ended.schedules)
    assert (before.kind, before.tenant, before.name) == ("PeriodicJob", "", "n")
    assert (before.runs, after.runs) == (True, False)
    assert before.traces != after.traces
    assert running.jobs == ended.jobs == []


async def test_ticks_inserted_ahead_are_still_to_come(control: Control, world: World) -> None:
    state = await control.upsert_schedule(SCHEDULE)
    await world.advance(timedelta(seconds=90))
    await world.tick(horizon_seconds=60)

    ahead = await control.schedule(SCHEDULE.source)

    assert ahead is not None
    assert state.next_tick_at is not None
    assert (ahead.ticks, ahead.last_tick_at) == (1, state.next_tick_at)
    assert ahead.next_tick_at == state.next_tick_at + timedelta(seconds=60)
    assert ahead.last_job is not None


async def test_a_schedule_comes_back_as_state_and_goes(control: Control) -> None:
    state = await control.upsert_schedule(SCHEDULE)

    assert state == await control.schedule(SCHEDULE.source)
    assert (state.source, state.rule, state.ticks, state.last_job) == (SCHEDULE.source, SCHEDULE.rule, 0, None)
    assert state.next_tick_at is not None
    assert await control.delete_schedule(SCHEDULE.source)
    assert not await control.delete_schedule(SCHEDULE.source)
    assert await control.schedule(SCHEDULE.source) is None


SAID = replace(
    SCHEDULE,
    rule=recurrence.Cron(("0 2 * * *",), "Europe/Berlin", "0,30", "skip", "both"),
    bounds=recurrence.Bounds(
        jitter_seconds=5,
        start_at=datetime(1970, 1, 1, tzinfo=UTC),
        end_at=datetime(9998, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        max_runs=recurrence.RUNS_MAX,
    ),
    policy=recurrence.Policy(
        missed="run_all",
        max_catch_up=10_000,
        starting_deadline_seconds=recurrence.DEADLINE_SECONDS_MAX,
        overlap="queue",
        suspend_after_failures=1000,
    ),
    suspended=True,
    suspend_reason="moving\nhouse \u2028",
)


@pytest.mark.parametrize(
    "desired", [SAID, replace(SAID, rule=recurrence.Interval(60, 59), suspended=False, suspend_reason="")]
)
async def test_all_that_a_schedule_says_comes_back_as_it_was(control: Control, desired: DesiredSchedule) -> None:
    state = await control.upsert_schedule(desired)

    assert (state.rule, state.bounds, state.policy) == (desired.rule, desired.bounds, desired.policy)
    assert (state.suspended, state.suspend_reason) == (desired.suspended, desired.suspend_reason)
    assert not state.is_exhausted


async def test_a_row_of_this_generation_takes_what_is_said_anew(control: Control) -> None:
    before = await control.upsert_schedule(SCHEDULE)

    state = await control.upsert_schedule(replace(SCHEDULE, policy=recurrence.Policy(overlap="skip")))

    assert (state.policy.overlap, state.anchor_at, state.source) == ("skip", before.anchor_at, before.source)


async def test_schedule_is_exhausted_when_its_last_run_is_due(control: Control, world: World) -> None:
    await control.upsert_schedule(replace(SCHEDULE, bounds=recurrence.Bounds(max_runs=2)))
    await world.advance(timedelta(seconds=61))
    await world.tick(horizon_seconds=60)
    ahead = await control.schedule(SCHEDULE.source)
    await world.advance(timedelta(seconds=121))
    due = await control.schedule(SCHEDULE.source)

    assert ahead is not None
    assert due is not None
    assert (ahead.runs, ahead.is_exhausted, due.runs, due.is_exhausted) == (1, False, 2, True)


async def test_a_tick_that_did_not_run_beside_its_predecessor_is_no_run(control: Control, world: World) -> None:
    async def at(minute: int) -> tuple[str, list[ClaimedJob]]:
        await world.advance(timedelta(minutes=minute, seconds=1))
        await world.tick(horizon_seconds=0)
        worker = await world.worker()
        return worker, await world.claim_keyed(worker)

    async def told() -> tuple[JobStatus | None, JobStatus | None, datetime | None]:
        state = await control.schedule(SCHEDULE.source)
        assert state is not None
        return None if state.last_job is None else state.last_job.status, state.last_end, state.last_tick_at

    made = await control.upsert_schedule(replace(SCHEDULE, policy=recurrence.Policy(overlap="skip")))
    second = made.anchor_at + timedelta(minutes=2)
    worker, claimed = await at(1)
    assert (await at(2))[1] == []

    assert await told() == (JobStatus.RUNNING, None, second)
    await world.jobs.complete(claimed, worker)
    assert await told() == (JobStatus.COMPLETED, JobStatus.COMPLETED, second)
    await at(3)
    assert (await told())[:2] == (JobStatus.RUNNING, JobStatus.COMPLETED)


async def halt(control: Control, world: World) -> ScheduleState:
    """The schedule, halted since its only run has failed."""
    await control.upsert_schedule(replace(SCHEDULE, policy=recurrence.Policy(suspend_after_failures=1)))
    await world.advance(timedelta(seconds=61))
    await world.tick(horizon_seconds=0)
    (job,) = await world.claim(await world.worker())
    await world.jobs.fail(job, ErrorRecord("KeyError", "", ""))
    await world.advance(timedelta(seconds=121))
    await world.tick(horizon_seconds=0)
    state = await control.schedule(SCHEDULE.source)
    assert state is not None
    return state


async def test_a_schedule_that_was_halted_says_when_and_why(control: Control, world: World) -> None:
    state = await halt(control, world)

    assert state.halted_at is not None
    assert (state.halted_reason, state.suspended, state.next_tick_at) == ("its last run failed", False, None)
    assert not state.is_exhausted


async def test_changes_tell_of_a_schedule_that_was_halted_long_after_its_job_ended(
    control: Control, world: World
) -> None:
    first = await control.changes("c", None)
    await halt(control, world)
    await world.pool.execute("UPDATE scheduled_jobs SET finished_at = '2020-01-01'")

    changes = await control.changes("c", first.cursor)

    assert [trace.name for trace in changes.schedules] == ["n"]
    assert (await control.changes("other", first.cursor)).schedules == []


async def test_a_halted_schedule_ticks_again_after_any_edit(control: Control, world: World) -> None:
    halted = await halt(control, world)
    same = replace(SCHEDULE, policy=halted.policy)

    assert (await control.upsert_schedule(same)).halted_at == halted.halted_at
    state = await control.upsert_schedule(replace(same, source=replace(SCHEDULE.source, generation=2)))

    assert (state.halted_at, state.halted_reason) == (None, None)
    assert state.next_tick_at is not None


async def test_a_halted_schedule_ticks_again_on_request(control: Control, world: World) -> None:
    await halt(control, world)

    assert await control.resume_schedule(SCHEDULE.source)
    assert not await control.resume_schedule(replace(SCHEDULE.source, uid="other"))

    state = await control.schedule(SCHEDULE.source)
    assert state is not None
    assert (state.halted_at, state.source.generation) == (None, SCHEDULE.source.generation)
    assert state.next_tick_at is not None


async def test_open_sources_are_what_a_sweep_compares(control: Control, world: World) -> None:
    await control.upsert_job(JOB)
    await control.upsert_schedule(SCHEDULE)
    done = replace(JOB, source=replace(SOURCE, uid="u3"), job_id="sj-u3")
    await control.upsert_job(done)
    await control.cancel_job(done.source, "sj-u3")
    await world.pending()

    assert {source.uid for source in await control.open_sources("c")} == {"u1", "p1"}
    assert await control.open_sources("other") == []


async def test_unknown_tasks_are_told_only_once_a_worker_lives(control: Control, world: World) -> None:
    assert set(await control.unknown_tasks("", ["t", "typo"])) == set()
    await world.worker(tasks=["t"])

    assert set(await control.unknown_tasks("", ["t", "typo"])) == {"typo"}


async def test_an_absent_server_and_absent_tables_are_typed_errors(new_database: Callable[..., str]) -> None:
    async with Control("postgresql://app:s3cret@127.0.0.1:1/app") as control:
        with pytest.raises(DatabaseUnreachable, match="connection refused") as caught:
            await control.demand("")
    assert "s3cret" not in str(caught.value)

    async with Control(new_database(template=EMPTY)) as control:
        with pytest.raises(SchemaMismatch):
            await control.demand("")
        names = [migration.name for migration in migrations()]
        assert await control.pending_migrations() == names
        assert await control.migrate() == names
        assert await control.migrate() == []

    with pytest.raises(InvalidDsn):
        Control("mysql://x")


async def test_dsn_that_changes_is_used_by_the_next_connection(dsn: str, new_database: Callable[..., str]) -> None:
    """A password read anew does what another database does here: the server of tests asks for none."""
    names = [dsn]
    async with Control(lambda: names[-1]) as control:
        await control.upsert_job(JOB)
        names.append(new_database())
        await control._parts.database._pool.expire_connections()

        assert await control.job("sj-u1") is None
        await control.upsert_job(JOB)

    async with Control(names[-1]) as there:
        assert await there.job("sj-u1") is not None
