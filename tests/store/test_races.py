"""Races inside a statement: what it saw in its snapshot has changed when it gets the row's lock.

Each is set up by a gate, a transaction that holds a lock until the statement waits for it, as the server says. Each
runs with the shipped statement and with a naive one, which must show the fault: else the gate would prove nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from pg_scheduler._domain import zones
from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._domain.rules import Interval
from pg_scheduler._domain.schedules import ScheduleDefinition, ScheduleKey, Template
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.queries import QUERIES
from pg_scheduler._store.workers import LeaseStore
from support.waiting import PATIENCE, until
from support.world import LEASE_SECONDS, LONG_AGO, World, new_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import asyncpg

    from pg_scheduler._store.database import Statements
    from pg_scheduler._store.driver import Connection

    Rows = list[asyncpg.Record]

ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")
TOMORROW = datetime.now(UTC) + timedelta(days=1)

NAIVE_CLAIM = """
UPDATE scheduled_jobs j
SET status = 'running', worker_id = $1, attempt = attempt + 1, token = nextval('scheduler_token'), finished_at = NULL
WHERE j.id = ANY(ARRAY(
    SELECT j.id FROM scheduled_jobs j
    WHERE EXISTS (SELECT 1 FROM (SELECT id FROM scheduler_workers
                                 WHERE id = $1 AND state = 'alive' AND lease_until > scheduler_now() FOR SHARE) me)
      AND j.status = 'pending' AND j.tenant = $2 AND j.queue = ANY($3::text[]) AND j.task = ANY($4::text[])
      AND $5::int[] IS NOT NULL AND j.execution_time <= scheduler_now() + make_interval(secs => $7)
      AND j.execution_time >= coalesce($8, timestamptz '-infinity')
    LIMIT $6))
RETURNING j.token
"""
"""Without the lock on the rows: the last join compares the id alone."""
NAIVE_REQUEUE = """
UPDATE scheduled_jobs j SET status = 'pending', interruptions = interruptions + 1
WHERE j.status = 'running' AND $1::int IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM scheduler_workers w WHERE w.id = j.worker_id AND w.state <> 'dead')
RETURNING j.job_id
"""
NAIVE_OUTCOME = """
UPDATE scheduled_jobs SET status = 'completed', finished_at = scheduler_now()
WHERE id IN (SELECT id FROM scheduled_jobs
             WHERE id = ANY($1::bigint[]) AND token = ANY($2::bigint[]) AND worker_id = $3 AND status = 'running')
RETURNING token
"""
"""The fence in a subquery, which is not looked at again."""
NAIVE_CANCEL = """
UPDATE scheduled_jobs SET status = 'cancelled', finished_at = scheduler_now()
WHERE job_id IN (SELECT job_id FROM scheduled_jobs WHERE job_id = $1 AND status IN ('pending', 'running'))
RETURNING job_id
"""
NAIVE_GHOSTS = """
UPDATE scheduled_jobs SET status = 'pending', attempt = attempt - 1, worker_id = NULL
WHERE worker_id = $1 AND status = 'running' AND id IN (SELECT id FROM scheduled_jobs WHERE token = ANY($2::bigint[]))
RETURNING token
"""
NAIVE_RUN_AGAIN = """
UPDATE scheduled_jobs SET status = 'pending', finished_at = NULL, execution_time = scheduler_now()
WHERE job_id IN (SELECT job_id FROM scheduled_jobs WHERE job_id = $1 AND status IN ('failed', 'cancelled', 'expired'))
RETURNING job_id
"""
NAIVE_FORGET = """
UPDATE scheduled_jobs SET stopping_worker = NULL
WHERE id IN (SELECT j.id FROM scheduled_jobs j WHERE j.stopping_worker IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM scheduler_workers w WHERE w.id = j.stopping_worker AND w.state <> 'dead'))
RETURNING job_id
"""
WITHOUT_SKIP = "SKIP LOCKED"


def shipped_and(naive: str, name: str) -> pytest.MarkDecorator:
    """Run a test with the shipped statement, ``holds`` True, and with a naive one, False."""
    return pytest.mark.parametrize(
        ("statement", "holds"),
        [pytest.param(QUERIES[name], True, id="shipped"), pytest.param(naive, False, id="naive")],
    )


@dataclass(frozen=True, slots=True)
class Gate:
    """A transaction that holds locks, and the stores within it."""

    connection: Connection

    @property
    def jobs(self) -> JobStore:
        return JobStore(cast("Statements", self.connection), wake_within_seconds=5)

    @property
    def leases(self) -> LeaseStore:
        return LeaseStore(self.connection, place="")


@asynccontextmanager
async def gate(world: World) -> AsyncIterator[Gate]:
    """Closed within the block: what is written is committed at its end."""
    async with world.db.transaction() as connection:
        yield Gate(connection)


async def at_the_gate(world: World, statement: str, *values: object) -> asyncio.Task[Rows]:
    """The statement, sent by a session of its own, once the server says that it waits for a lock."""

    async def send() -> Rows:
        async with world.pool.acquire() as connection:
            return await connection.fetch(statement, *values)

    sent = asyncio.create_task(send())
    await until(lambda: _waits(world, sent), what="the statement waits at the gate")
    return sent


async def _waits(world: World, sent: asyncio.Task[Rows]) -> bool:
    if sent.done():
        pytest.fail(f"it went past the gate: {sent.result()}")
    return bool(
        await world.pool.fetchval(
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE a.datname = current_database() AND NOT l.granted AND a.wait_event_type = 'Lock'"
        )
    )


def claim_values(worker: str) -> tuple[object, ...]:
    return (worker, "", ["default"], ["t"], [10], 10, 0.0, None)


async def bury(world: World, worker: str) -> None:
    await world.pool.execute("UPDATE scheduler_workers SET state = 'dead' WHERE id = $1", worker)


# A claim that has taken its snapshot waits for its own worker's row; meanwhile the job goes another way.


async def _cancel(world: World, job_id: str) -> None:
    assert await world.jobs.cancel(job_id)


async def _put_off(world: World, job_id: str) -> None:
    assert await world.jobs.replace(new_job(job_id=job_id, execution_time=TOMORROW))


async def _finish(world: World, _: str) -> None:
    other = await world.worker()
    claimed = await world.claim(other)
    assert await world.jobs.complete(claimed, other)


async def _fail(world: World, _: str) -> None:
    other = await world.worker()
    (claimed,) = await world.claim(other)
    assert await world.jobs.fail(claimed, ERROR)


async def _claim(world: World, _: str) -> None:
    assert await world.claim(await world.worker())


async def _stop(world: World, job_id: str) -> None:
    """Claimed and replaced: it waits for the word of its worker."""
    assert await world.claim(await world.worker())
    assert await world.jobs.replace(new_job(job_id=job_id))


@shipped_and(NAIVE_CLAIM, "claim_jobs")
@pytest.mark.parametrize("meanwhile", [_cancel, _put_off, _finish, _fail, _claim, _stop])
async def test_claim_takes_no_job_that_has_changed_since_its_snapshot(
    world: World, meanwhile: Callable[[World, str], Any], statement: str, holds: bool
) -> None:
    worker, job_id = await world.worker(), await world.pending()
    async with gate(world) as closed:
        await closed.leases.beat(worker, LEASE_SECONDS, ["t"])
        claim = await at_the_gate(world, statement, *claim_values(worker))
        await meanwhile(world, job_id)
        before = dict(await world.row(job_id))

    assert (await claim == []) is holds
    assert (dict(await world.row(job_id)) == before) is holds


async def test_claim_of_a_worker_that_is_buried_meanwhile_takes_nothing(world: World) -> None:
    worker, job_id = await world.worker(), await world.pending()
    async with gate(world) as closed:
        await closed.connection.execute("UPDATE scheduler_workers SET state = 'dead' WHERE id = $1", worker)
        claim = await at_the_gate(world, QUERIES["claim_jobs"], *claim_values(worker))

    assert await claim == []
    assert (await world.row(job_id))["status"] == "pending"


async def test_claim_that_missed_a_changed_job_takes_it_the_next_time(world: World) -> None:
    worker, job_id = await world.worker(), await world.pending()
    async with gate(world) as closed:
        await closed.leases.beat(worker, LEASE_SECONDS, ["t"])
        claim = await at_the_gate(world, QUERIES["claim_jobs"], *claim_values(worker))
        assert await world.jobs.replace(new_job(job_id=job_id, priority=1))

    taken = {row["job_id"] for row in await claim} | {job.job_id for job in await world.claim(worker)}

    assert taken == {job_id}
    assert (await world.row(job_id))["attempt"] == 1


async def test_claim_waits_for_nobody_who_holds_a_job(world: World) -> None:
    worker, held, free = await world.worker(), await world.pending(), await world.pending()
    async with gate(world) as closed:
        assert await closed.jobs.cancel(held)

        assert [job.job_id for job in await asyncio.wait_for(world.claim(worker), PATIENCE)] == [free]


# Two ends of one job: exactly one wins, and the other says so.


@shipped_and(NAIVE_OUTCOME, "complete_jobs")
async def test_complete_loses_against_a_cancel_that_came_first(world: World, statement: str, holds: bool) -> None:
    worker = await world.worker()
    job = await world.running(worker)
    async with gate(world) as closed:
        cancelled = await closed.jobs.cancel(job.job_id)
        complete = await at_the_gate(world, statement, [job.id], [job.token], worker)

    assert cancelled
    assert (await complete == []) is holds
    assert ((await world.row(job.job_id))["status"] == "cancelled") is holds


@shipped_and(NAIVE_CANCEL, "cancel_job")
async def test_cancel_loses_against_a_completion_that_came_first(world: World, statement: str, holds: bool) -> None:
    worker = await world.worker()
    job = await world.running(worker)
    async with gate(world) as closed:
        completed = await closed.jobs.complete([job], worker)
        cancel = await at_the_gate(world, statement, job.job_id)

    assert completed == {job.token}
    assert (await cancel == []) is holds
    assert ((await world.row(job.job_id))["status"] == "completed") is holds


@shipped_and(NAIVE_OUTCOME, "complete_jobs")
async def test_complete_loses_against_a_replace_that_came_first(world: World, statement: str, holds: bool) -> None:
    worker = await world.worker()
    job = await world.running(worker)
    async with gate(world) as closed:
        await closed.jobs.replace(new_job(job_id=job.job_id))
        complete = await at_the_gate(world, statement, [job.id], [job.token], worker)

    assert (await complete == []) is holds
    row = await world.row(job.job_id)
    assert ((row["status"], row["stopping_worker"]) == ("pending", worker)) is holds


@shipped_and(NAIVE_RUN_AGAIN, "run_job_again")
async def test_run_again_loses_against_a_replace_that_came_first(world: World, statement: str, holds: bool) -> None:
    worker = await world.worker()
    job = await world.running(worker)
    await world.jobs.fail(job, ERROR)
    async with gate(world) as closed:
        assert await closed.jobs.replace(new_job(job_id=job.job_id, execution_time=TOMORROW))
        again = await at_the_gate(world, statement, job.job_id)

    assert (await again == []) is holds
    assert ((await world.row(job.job_id))["execution_time"] == TOMORROW) is holds


async def test_replace_after_a_run_again_that_came_first_leaves_the_new_job_whole(world: World) -> None:
    worker = await world.worker()
    job = await world.running(worker)
    await world.jobs.fail(job, ERROR)
    new = new_job(job_id=job.job_id, execution_time=TOMORROW, priority=1)
    async with gate(world) as closed:
        assert await closed.jobs.run_again(job.job_id)
        replace = await at_the_gate(world, QUERIES["replace_job"], *new, 5.0)

    assert len(await replace) == 1
    row = await world.row(job.job_id)
    assert (row["status"], row["execution_time"], row["priority"], row["attempt"]) == ("pending", TOMORROW, 1, 0)
    assert (row["finished_at"], row["error_message"]) == (None, None)


# Ghosts.


@shipped_and(NAIVE_GHOSTS, "release_ghosts")
async def test_ghost_release_leaves_a_job_that_was_claimed_anew_meanwhile(
    world: World, statement: str, holds: bool
) -> None:
    """The late reply: the worker has the job after all, under another token."""
    worker = await world.worker()
    ghost = await world.running(worker)
    async with gate(world) as closed:
        assert await closed.leases.release_ghosts(worker, [ghost.token]) == 1
        (claimed,) = await closed.jobs.claim(worker, "", ["default"], ["t"], 10)
        release = await at_the_gate(world, statement, worker, [ghost.token])

    assert (await release == []) is holds
    row = await world.row(ghost.job_id)
    assert ((row["status"], row["token"]) == ("running", claimed.token)) is holds


async def test_ghost_release_loses_against_the_outcome_of_a_late_reply(world: World) -> None:
    worker = await world.worker()
    ghost = await world.running(worker)
    async with gate(world) as closed:
        assert await closed.jobs.complete([ghost], worker) == {ghost.token}
        release = await at_the_gate(world, QUERIES["release_ghosts"], worker, [ghost.token])

    assert await release == []
    assert (await world.row(ghost.job_id))["status"] == "completed"


async def test_the_outcome_of_a_late_reply_loses_against_the_ghost_release(world: World) -> None:
    worker = await world.worker()
    ghost = await world.running(worker)
    async with gate(world) as closed:
        assert await closed.leases.release_ghosts(worker, [ghost.token]) == 1
        complete = await at_the_gate(world, QUERIES["complete_jobs"], [ghost.id], [ghost.token], worker)

    assert await complete == []
    assert (await world.row(ghost.job_id))["status"] == "pending"


# Sweeps.


WAITING_REQUEUE = QUERIES["requeue_orphans"].replace(WITHOUT_SKIP, "")
"""As shipped, but it waits where the shipped one leaves a row to whoever holds it: what is tested is the recheck."""


@pytest.mark.parametrize(
    ("statement", "holds"),
    [pytest.param(WAITING_REQUEUE, True, id="shipped"), pytest.param(NAIVE_REQUEUE, False, id="naive")],
)
async def test_sweep_leaves_a_job_that_was_requeued_and_claimed_meanwhile(
    world: World, statement: str, holds: bool
) -> None:
    dead, heir = await world.worker(), await world.worker()
    job = await world.running(dead)
    await bury(world, dead)
    async with gate(world) as closed:
        await closed.jobs.requeue_orphans(3)
        (claimed,) = await closed.jobs.claim(heir, "", ["default"], ["t"], 10)
        sweep = await at_the_gate(world, statement, 3)

    assert (await sweep == []) is holds
    row = await world.row(job.job_id)
    assert ((row["status"], row["token"], row["interruptions"]) == ("running", claimed.token, 1)) is holds


@pytest.mark.parametrize(
    ("statement", "holds"),
    [pytest.param(WAITING_REQUEUE, True, id="shipped"), pytest.param(NAIVE_REQUEUE, True, id="plain update")],
)
async def test_two_sweeps_charge_a_death_once(world: World, statement: str, holds: bool) -> None:
    dead = await world.worker()
    job = await world.running(dead)
    await bury(world, dead)
    async with gate(world) as closed:
        assert len(await closed.jobs.requeue_orphans(3)) == 1
        assert await asyncio.wait_for(world.jobs.requeue_orphans(3), PATIENCE) == []
        sweep = await at_the_gate(world, statement, 3)

    assert (await sweep == []) is holds
    assert (await world.row(job.job_id))["interruptions"] == 1


async def test_sweep_loses_against_the_late_outcome_of_a_buried_worker(world: World) -> None:
    """Nobody has requeued it yet: the fence accepts it."""
    dead = await world.worker()
    job = await world.running(dead)
    await bury(world, dead)
    async with gate(world) as closed:
        assert await closed.jobs.complete([job], dead) == {job.token}
        sweep = await at_the_gate(world, WAITING_REQUEUE, 3)

    assert await sweep == []
    assert (await world.row(job.job_id))["status"] == "completed"


async def _in_a_beat(closed: Gate, worker: str) -> None:
    await closed.leases.beat(worker, LEASE_SECONDS, ["t"])


async def _in_a_claim(closed: Gate, worker: str) -> None:
    await closed.jobs.claim(worker, "", ["default"], ["t"], 10)


async def _in_an_outcome(closed: Gate, worker: str) -> None:
    rows = await closed.connection.fetch("SELECT token, id FROM scheduled_jobs WHERE worker_id = $1", worker)
    await closed.connection.fetch(
        QUERIES["complete_jobs"], [row["id"] for row in rows], [row["token"] for row in rows], worker
    )


async def _in_a_tick(closed: Gate, _worker: str) -> None:
    await closed.connection.fetch(QUERIES["due_schedules"], "", 5.0, 10, zones.version())


FREEZES = [_in_a_beat, _in_a_claim, _in_an_outcome, _in_a_tick]


@pytest.mark.parametrize("freeze", FREEZES)
async def test_a_worker_frozen_inside_a_transaction_stops_no_sweep_and_no_tick(
    world: World, freeze: Callable[[Gate, str], Any]
) -> None:
    frozen, dead = await world.worker(lease_seconds=3600), await world.worker()
    mine, theirs = await world.running(frozen), await world.running(dead)
    await world.pending()
    await world.schedules.upsert(every_second("a"))
    await world.advance(timedelta(seconds=LEASE_SECONDS + 1))
    async with gate(world) as closed:
        await freeze(closed, frozen)

        assert await asyncio.wait_for(world.workers.mark_dead(None), PATIENCE) == [dead]
        assert len(await asyncio.wait_for(world.jobs.requeue_orphans(3), PATIENCE)) == 1
        assert await asyncio.wait_for(world.jobs.forget_stopping(), PATIENCE) == 0
        await asyncio.wait_for(world.tick(), PATIENCE)

    assert (await world.row(theirs.job_id))["status"] == "pending"
    assert (await world.row(mine.job_id))["interruptions"] == 0


async def test_a_sweep_that_does_not_skip_locks_waits_for_the_frozen_one(world: World) -> None:
    """The naive half of the test above: the gate bites."""
    frozen = await world.worker()
    await world.advance(timedelta(seconds=LEASE_SECONDS + 1))
    async with gate(world) as closed:
        await closed.leases.beat(frozen, LEASE_SECONDS, ["t"])
        sweep = await at_the_gate(world, QUERIES["mark_dead"].replace(WITHOUT_SKIP, ""), None)

    # The lock's recheck sees the renewed lease: late renewal wins over a sweep that has waited for it.
    assert await sweep == []


@shipped_and(NAIVE_FORGET, "forget_stopping")
async def test_the_word_of_a_living_worker_is_waited_for_though_a_dead_one_was_asked_before(
    world: World, statement: str, holds: bool
) -> None:
    dead, heir = await world.worker(), await world.worker()
    job = await world.running(dead)
    await world.jobs.replace(new_job(job_id=job.job_id))
    await bury(world, dead)
    async with gate(world) as closed:
        await closed.jobs.report_stopped(job)
        (claimed,) = await closed.jobs.claim(heir, "", ["default"], ["t"], 10)
        await closed.jobs.cancel(claimed.job_id)
        forget = await at_the_gate(world, statement)

    assert (await forget == []) is holds
    assert ((await world.row(job.job_id))["stopping_worker"] == heir) is holds


async def _replace(world: World, job_id: str) -> None:
    assert await world.jobs.replace(new_job(job_id=job_id))


async def _replace_by_sql(world: World, job_id: str) -> None:
    await world.pool.execute("SELECT scheduler_enqueue('t', job_id => $1, on_conflict => 'replace')", job_id)


@pytest.mark.parametrize("take_away", [_cancel, _replace, _replace_by_sql])
async def test_a_word_that_is_sent_twice_frees_no_row_whose_newer_coroutine_runs_here(
    world: World, take_away: Callable[[World, str], Any]
) -> None:
    """The answer to the first was lost; the same worker has claimed the job again, and has lost it again, meanwhile."""
    worker = await world.worker()
    first = await world.running(worker)
    await take_away(world, first.job_id)
    await world.jobs.report_stopped(first)
    await world.jobs.run_again(first.job_id)
    (second,) = await world.claim(worker)
    await take_away(world, first.job_id)

    await world.jobs.report_stopped(first)
    after_the_old_word = (await world.row(first.job_id))["stopping_worker"]
    await world.jobs.report_stopped(second)

    assert (after_the_old_word, (await world.row(first.job_id))["stopping_worker"]) == (worker, None)


# Ticks.


def every_second(uid: str) -> ScheduleDefinition:
    return ScheduleDefinition(
        key=ScheduleKey(tenant="", kind="PeriodicJob", cluster="c", uid=uid),
        name=uid,
        generation=1,
        rule=Interval(1),
        template=Template(
            task="t",
            job_name="t",
            payload='{"args": [], "kwargs": {}}',
            queue="default",
            priority=5,
            max_retries=0,
        ),
    )


async def test_two_tickers_share_the_schedules_and_wait_for_nothing(world: World) -> None:
    for uid in ("a", "b"):
        await world.schedules.upsert(every_second(uid))
    async with gate(world) as closed:
        first = await world.schedules.lock_due(closed.connection, "", 5, 1)
        made = await asyncio.wait_for(world.tick(), PATIENCE)

    assert len(first.schedules) == 1
    rows = await world.pool.fetch("SELECT DISTINCT schedule_id FROM scheduled_jobs")
    assert made > 0
    assert {row["schedule_id"] for row in rows}.isdisjoint({first.schedules[0].id})


async def test_tickers_that_take_no_locks_wait_for_each_other(world: World) -> None:
    """The naive half of the test above; that no tick doubles even then is the table's own rule."""
    await world.schedules.upsert(every_second("a"))
    schedule_id = await world.pool.fetchval("SELECT id FROM scheduler_schedules")
    tick = (["x"], [schedule_id], [LONG_AGO], [LONG_AGO], [None])
    async with gate(world) as closed:
        await closed.connection.fetch(QUERIES["insert_ticks"], *tick)
        late = await at_the_gate(world, QUERIES["insert_ticks"], ["y"], *tick[1:])

    assert await late == []
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE tick_at = $1", LONG_AGO) == 1
