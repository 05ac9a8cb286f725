"""Connections cut and the database away and back, with jobs running (design page 7, F7, F8 and F11)."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from engine import jobs
from engine.test_heartbeat import held_lease, lease_of
from pg_scheduler import Scheduler
from pg_scheduler._engine import heartbeat
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.rescuer import Rescued, Rescuer
from pg_scheduler._engine.suspicion import Suspicion
from pg_scheduler._store.connections import connect_like
from pg_scheduler._store.workers import WorkerStore
from pg_scheduler.embedded import EmbeddedPostgres
from support.databases import QUIET
from support.waiting import until
from support.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from engine.conftest import MakeScheduler

import pytest

GRACE_SECONDS = 8.0
CUTS = 100


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, to stop and start again."""
    folder: Path = tmp_path_factory.mktemp("pg")
    with EmbeddedPostgres(folder / "data", settings=QUIET, durable=False) as embedded:
        yield embedded


@dataclass(slots=True)
class Gate:
    """While it is shut, no heartbeat of those that it stands before connects; it waits in its own thread."""

    open: threading.Event = field(default_factory=threading.Event)
    _pools: list[object] = field(default_factory=list)

    def stand_before(self, scheduler: Scheduler) -> None:
        engine = scheduler._worker.engine
        assert engine is not None
        self._pools.append(engine.heartbeat._pool)

    async def connect(self, to: asyncpg.Pool[asyncpg.Record], **options: Any) -> Any:
        if to in self._pools:
            await asyncio.to_thread(self.open.wait)
        return await connect_like(to, **options)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """An open one."""
    made = Gate()
    made.open.set()
    monkeypatch.setattr(heartbeat, "connect_like", made.connect)
    yield made
    made.open.set()


@pytest.fixture
async def own_world(server: EmbeddedPostgres) -> AsyncIterator[World]:
    """The stores over that server."""
    pool = await asyncpg.create_pool(server.dsn, min_size=1, max_size=10)
    await Scheduler(pool).initialize_db()
    yield World.over(pool)
    pool.terminate()


async def restart(server: EmbeddedPostgres, *, away_seconds: float = 0) -> None:
    await asyncio.to_thread(server.stop)
    await asyncio.sleep(away_seconds)  # how long the outage lasts is what the test is about
    await asyncio.to_thread(server.start)


async def test_postgresql_away_for_ten_leases_with_40_running_finishes_none_twice_and_loses_no_result(
    server: EmbeddedPostgres, own_world: World, gate: Gate
) -> None:
    """The other worker comes back first, finds every lease long over, and sweeps before the holder can beat."""
    lease_seconds, count = 2.0, 40
    starts: list[int] = []
    may_end = asyncio.Event()

    async def wait(number: int) -> None:
        starts.append(number)
        await may_end.wait()

    others_pool = await asyncpg.create_pool(server.dsn, min_size=1, max_size=2)
    async with (
        Scheduler(others_pool, count, lease_seconds=lease_seconds) as other,
        Scheduler(own_world.pool, count, lease_seconds=lease_seconds) as holder,
    ):
        assert other._worker.engine is not None
        gate.stand_before(holder)
        holder.register(wait)
        for number in range(count):
            await holder.schedule(wait, execution_time=datetime.now(UTC), args=(number,))
        await until(lambda: len(starts) == count)
        holder_id = holder.worker_id
        other.register(wait)

        gate.open.clear()
        outage = asyncio.create_task(restart(server, away_seconds=10 * lease_seconds))
        await asyncio.sleep(5 * lease_seconds)
        may_end.set()  # they end while nobody can be told
        await until(lambda: not holder.active_jobs)
        await outage
        lease = other._worker.engine.lease
        await until(lambda: lease.is_valid)
        swept = await other._worker.engine.rescuer.run_once()
        gate.open.set()
        assert swept == Rescued()

        async def all_completed() -> bool:
            rows = await own_world.pool.fetch("SELECT status, attempt, worker_id FROM scheduled_jobs")
            return [tuple(row) for row in rows] == [("completed", 1, holder_id)] * count

        await until(all_completed)
    others_pool.terminate()
    assert sorted(starts) == list(range(count))


async def test_a_living_worker_loses_nothing_however_often_the_server_restarts(
    server: EmbeddedPostgres, own_world: World
) -> None:
    """Each time the looker comes back first, and looks as if it had not noticed the restart."""
    looker = WorkerStore(own_world.db)
    async with Scheduler(own_world.pool, shutdown_timeout=0.2) as scheduler:
        scheduler.register(jobs.hang)
        job_id = await scheduler.schedule(jobs.hang, execution_time=datetime.now(UTC))
        await until(lambda: scheduler.active_jobs == {job_id})
        before = await own_world.row(job_id)
        name = scheduler.worker_id

        for _ in range(10):
            await restart(server)
            started_at = await _server_started_at(own_world)
            await looker.suspect("looker", GRACE_SECONDS, started_at)

            async def is_back() -> bool:
                row = await own_world.pool.fetchrow(
                    "SELECT lease_until - now() AS left FROM scheduler_workers WHERE id = $1 AND EXISTS"
                    " (SELECT 1 FROM pg_stat_get_activity(backend_pid) a WHERE a.backend_start = backend_started_at)",
                    name,
                )
                return row is not None and row["left"] > timedelta(seconds=50)

            await until(is_back, timeout=GRACE_SECONDS)
            await looker.mark_dead(started_at)
            assert await own_world.jobs.requeue_orphans(3) == []
        after = await own_world.row(job_id)
    assert (after["token"], after["status"], scheduler.worker_id or name) == (before["token"], "running", name)


async def _server_started_at(world: World) -> datetime:
    async def asked() -> datetime | None:
        try:
            value: datetime = await world.pool.fetchval("SELECT pg_postmaster_start_time()")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return None
        return value

    answer = await until(asked)
    assert answer is not None
    return answer


async def test_a_living_worker_loses_nothing_however_often_its_connection_is_cut(
    world: World, started: MakeScheduler, gate: Gate
) -> None:
    """Each time the looker comes between the loss and the next connection, and cuts the lease."""
    scheduler = await started(jobs.hang)
    gate.stand_before(scheduler)
    job_id = await scheduler.schedule(jobs.hang, execution_time=datetime.now(UTC))
    await until(lambda: scheduler.active_jobs == {job_id})
    before = await world.row(job_id)
    lease = await held_lease(world)
    suspicion = Suspicion(world.workers, own_lease=lease, sweep_in=lambda _: None)
    rescuer = Rescuer(world.workers, world.jobs, own_lease=lease, config=EngineConfig())

    for _ in range(CUTS):
        gate.open.clear()
        cut = await lease_of(world, scheduler)
        await world.pool.execute("SELECT pg_terminate_backend($1)", cut["backend_pid"])
        await until(suspicion.run_once)
        shortened = await lease_of(world, scheduler)
        gate.open.set()

        async def is_back(lost: int = cut["backend_pid"]) -> bool:
            row = await lease_of(world, scheduler)
            return bool(row["backend_pid"] != lost and row["seconds_left"] > 50)

        await until(is_back, timeout=GRACE_SECONDS)
        assert shortened["seconds_left"] <= GRACE_SECONDS
        assert await rescuer.run_once() == Rescued()

    after = await world.row(job_id)
    assert (after["token"], after["status"], after["interruptions"]) == (before["token"], "running", 0)
