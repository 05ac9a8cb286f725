"""A network that swallows, delays and cuts, by a proxy between the engine and its server."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, Scheduler
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._store.connections import open_pool_like, place_of
from pg_scheduler._store.database import Database
from pg_scheduler._store.jobs import JobStore
from pg_scheduler.errors import DatabaseBusy, DatabaseUnreachable
from support.beats import beating_until
from support.proxy import Proxy
from support.waiting import SLACK, until
from support.world import new_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.conftest import MakeScheduler
    from pg_scheduler._store.driver import Pool
    from support.world import World


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def proxy(dsn: str) -> AsyncIterator[Proxy]:
    """A network between this test's engine and its database."""
    async with Proxy.to(dsn) as proxy:
        yield proxy


async def _completed(pool: Pool, count: int) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE status = 'completed'") == count)


async def test_no_call_hangs_in_a_black_hole_and_all_goes_on_after_it(proxy: Proxy, world: World) -> None:
    config = EngineConfig(lease_seconds=1.5)
    loop = asyncio.get_running_loop()
    async with asyncpg.create_pool(proxy.dsn, min_size=1) as through:
        engine_pool = await open_pool_like(
            through, size=2, command_timeout=config.command_seconds, connect_timeout=config.connect_seconds
        )
        database = Database(engine_pool, place=place_of(through), acquire_seconds=config.connect_seconds)
        jobs = JobStore(database, wake_within_seconds=5)
        worker = await world.worker()
        await world.pending()

        proxy.black_hole()
        longest = 0.0
        for call in (
            lambda: jobs.claim(worker, "", ["default"], ["t"], 1),
            lambda: jobs.look_ahead("", ["default"], ["t"]),
            lambda: jobs.insert(new_job(job_id="x")),
        ):
            begun_at = loop.time()
            with pytest.raises(DatabaseUnreachable):
                await call()
            longest = max(longest, loop.time() - begun_at)
        proxy.cut()
        proxy.heal()

        assert longest < SLACK * (2 * config.command_seconds + config.connect_seconds)
        assert (await jobs.look_ahead("", ["default"], ["t"])).due_in is not None  # at once, on new connections
        await database.close()


async def test_a_worker_outlives_a_black_hole_of_several_leases_and_runs_its_job_once(
    proxy: Proxy, pool: Pool, started: MakeScheduler
) -> None:
    starts: list[int] = []
    gate = asyncio.Event()

    async def wait(n: int) -> None:
        starts.append(n)
        await gate.wait()

    lease = 1.5
    scheduler = await started(wait, dsn=proxy.dsn, lease_seconds=lease)
    for n in range(5):
        await scheduler.schedule(wait, execution_time=now(), args=(n,))
    await until(lambda: len(starts) == 5)

    proxy.black_hole()
    gate.set()
    lapsed = "SELECT lease_until + make_interval(secs => $1) < now() FROM scheduler_workers WHERE id = $2"
    await until(lambda: pool.fetchval(lapsed, 2 * lease, scheduler.worker_id))
    proxy.cut()
    proxy.heal()

    await until(lambda: _completed(pool, 5))
    assert sorted(starts) == [0, 1, 2, 3, 4]
    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE interruptions > 0 OR attempt > 1") == 0
    await scheduler.schedule(wait, execution_time=now(), args=(9,))
    await until(lambda: _completed(pool, 6))


async def test_others_rescue_what_a_worker_in_a_black_hole_holds_and_its_late_result_is_refused(
    proxy: Proxy, pool: Pool, started: MakeScheduler
) -> None:
    lease = 1.5
    lost_gate = asyncio.Event()
    runs: list[str] = []

    async def lost(name: str) -> None:
        runs.append(name)
        if len(runs) == 1:
            await lost_gate.wait()

    first = await started(lost, dsn=proxy.dsn, lease_seconds=lease)
    job_id = await first.schedule(lost, execution_time=now(), args=("job",))
    await until(lambda: runs == ["job"])
    survivor = await started(lost, lease_seconds=lease)
    proxy.black_hole()

    await until(lambda: _completed(pool, 1))
    done = await pool.fetchrow("SELECT worker_id, token, finished_at FROM scheduled_jobs WHERE job_id = $1", job_id)
    lost_gate.set()
    proxy.cut()
    proxy.heal()
    before = first.worker_id
    await until(lambda: first.worker_id != before)
    await until(lambda: not first.active_jobs)

    assert runs == ["job", "job"]
    assert done is not None
    assert done["worker_id"] == survivor.worker_id
    row = await pool.fetchrow("SELECT worker_id, token, finished_at FROM scheduled_jobs WHERE job_id = $1", job_id)
    assert row == done


async def test_claims_whose_replies_are_lost_are_handed_back_and_run(
    proxy: Proxy, pool: Pool, started: MakeScheduler
) -> None:
    ran: list[int] = []

    async def note(n: int) -> None:
        ran.append(n)

    scheduler = await started(note, dsn=proxy.dsn)
    async with _claims_held(pool):
        for n in range(3):
            await scheduler.schedule(note, execution_time=now(), args=(n,), job_id=f"job-{n}")
        await until(lambda: pool.fetchval(_HELD_CLAIMS, _CLAIM_LOCK))
        proxy.swallow_replies()
    taken = "SELECT count(*) FROM scheduled_jobs WHERE status = 'running' AND worker_id = $1"
    await until(lambda: pool.fetchval(taken, scheduler.worker_id))
    assert ran == []
    proxy.cut()
    proxy.heal()

    await beating_until(scheduler, lambda: _completed(pool, 3))
    assert sorted(ran) == [0, 1, 2]
    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE interruptions > 0") == 0


_CLAIM_LOCK = 4711
_HOLD_CLAIMS = f"""
    CREATE FUNCTION held_claim() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock_shared({_CLAIM_LOCK}); RETURN NEW; END $$;
    CREATE TRIGGER held_claim BEFORE UPDATE ON scheduled_jobs FOR EACH ROW
        WHEN (OLD.status = 'pending' AND NEW.status = 'running') EXECUTE FUNCTION held_claim()
"""
_HELD_CLAIMS = """
    SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
    WHERE locktype = 'advisory' AND objid = $1::int::oid AND NOT granted AND datname = current_database()
"""


@asynccontextmanager
async def _claims_held(pool: Pool) -> AsyncIterator[None]:
    """Claims of this block reach the server and wait there until its end."""
    async with pool.acquire() as connection:
        await connection.execute(_HOLD_CLAIMS)
        await connection.execute("SELECT pg_advisory_lock($1)", _CLAIM_LOCK)
        try:
            yield
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _CLAIM_LOCK)


@pytest.mark.parametrize("conflict", [ConflictResolution.IGNORE, ConflictResolution.REPLACE])
@pytest.mark.parametrize("fault", ["replies", "black hole", "cut"])
async def test_an_unknown_submission_left_one_row_or_none_and_its_repetition_exactly_one(
    proxy: Proxy, pool: Pool, fault: str, conflict: ConflictResolution
) -> None:
    async def note() -> None: ...

    async with asyncpg.create_pool(proxy.dsn, min_size=1, max_size=1, command_timeout=1) as through:
        scheduler = Scheduler(through)
        for n in range(2):
            await scheduler.schedule(note, execution_time=now(), job_id=f"warm-{n}")
            {"replies": proxy.swallow_replies, "black hole": proxy.black_hole, "cut": proxy.cut}[fault]()
            with pytest.raises(DatabaseUnreachable) as caught:
                await scheduler.schedule(note, execution_time=now(), job_id=f"job-{n}")
            assert not isinstance(caught.value, DatabaseBusy)
            assert "postgres" in caught.value.why
            proxy.cut()
            proxy.heal()

            count = "SELECT count(*) FROM scheduled_jobs WHERE job_id = $1"
            left = await pool.fetchval(count, f"job-{n}")
            assert left == (1 if fault == "replies" else 0)
            await _repeat(scheduler, note, f"job-{n}", conflict)
            assert await pool.fetchval(count, f"job-{n}") == 1


async def _repeat(scheduler: Scheduler, task: object, job_id: str, conflict: ConflictResolution) -> None:
    async def acknowledged() -> bool:
        try:
            await scheduler.schedule(
                task,  # type: ignore[arg-type]  # the task of the test
                execution_time=now(),
                job_id=job_id,
                conflict_resolution=conflict,
            )
        except DatabaseUnreachable:
            return False
        return True

    await until(acknowledged)


async def test_backends_that_are_terminated_at_random_cost_no_job_and_no_second_run(
    dsn: str, pool: Pool, started: MakeScheduler
) -> None:
    draw = random.Random(5)  # noqa: S311  a seed that a failure repeats
    ran: list[int] = []

    async def note(n: int) -> None:
        ran.append(n)
        await asyncio.sleep(0.01)

    scheduler = await started(note, lease_seconds=6, dsn=f"{dsn}&application_name=engine")
    for n in range(200):
        await Scheduler(pool).schedule(note, execution_time=now(), args=(n,))
        if n % 10 == 0:
            sessions = await pool.fetch(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'engine'"
            )
            if sessions:
                await pool.execute("SELECT pg_terminate_backend($1)", draw.choice(sessions)["pid"])

    await until(lambda: _completed(pool, 200))
    again = await pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE interruptions > 0")
    assert again == 0
    assert sorted(set(ran)) == list(range(200))
    # What ended just before its flush was cut off is written again, never run again; a claim without a reply never ran.
    assert len(ran) == 200
    assert scheduler.is_running
