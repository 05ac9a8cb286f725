"""What the heartbeat does when it is nudged, cut off or buried."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from engine import jobs
from pg_scheduler import Scheduler
from pg_scheduler._engine.completions import Completions
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.rescuer import Rescuer
from pg_scheduler._engine.slots import Slots
from pg_scheduler._engine.suspicion import Suspicion
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.workers import LeaseStore, WorkerCard
from pg_scheduler.errors import MainLoopStalled
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from engine.conftest import MakeScheduler
    from support.world import World


def now() -> datetime:
    return datetime.now(UTC)


async def lease_of(world: World, scheduler: Scheduler) -> asyncpg.Record:
    row = await world.pool.fetchrow(
        "SELECT backend_pid, backend_watched, extract(epoch FROM lease_until - now())::float8 AS seconds_left"
        " FROM scheduler_workers WHERE id = $1",
        scheduler.worker_id,
    )
    assert row is not None
    return row


async def beaten(world: World, scheduler: Scheduler) -> None:
    """Ask for a beat, and wait for it."""
    await world.pool.execute("UPDATE scheduler_workers SET lease_until = now() + interval '9 s'")
    await scheduler.send_heartbeat("any")

    async def renewed() -> bool:
        return bool((await lease_of(world, scheduler))["seconds_left"] > 50)

    await until(renewed)


async def held_lease(world: World, *, seconds: float = 60) -> Lease:
    """The lease of a looker whose own beats have come for long."""
    clock = [0.0]
    lease = Lease(seconds, clock=lambda: clock[0])
    lease.begin("looker", 0.0, await world.pool.fetchval("SELECT pg_postmaster_start_time()"))
    lease.acknowledge(seconds / 2, lease.server_started_at)
    clock[0] = seconds
    lease.acknowledge(seconds, lease.server_started_at)
    return lease


async def dead_worker(world: World, dsn: str, worker_id: str, **changes: Any) -> None:
    """The row of a process that has gone without a word; its lease is long."""
    card: dict[str, Any] = {
        "tenant": "", "queues": ["default"], "schedules": [], "slots": 1, "version": "0", "pod": None, "pod_uid": None,
    }  # fmt: skip
    connection = await asyncpg.connect(dsn)
    pid = connection.get_server_pid()
    await LeaseStore(connection, place="").register(WorkerCard(worker_id=worker_id, **card | changes), ["t"], 3600)
    await connection.close()

    async def gone() -> bool:
        return not await world.pool.fetchval("SELECT count(*) FROM pg_stat_get_activity($1)", pid)

    await until(gone)


async def test_an_idle_worker_notices_the_loss_of_its_connection_at_once(world: World, started: MakeScheduler) -> None:
    scheduler = await started(lease_seconds=3600)
    await beaten(world, scheduler)  # its next beat is 20 minutes away
    before = await lease_of(world, scheduler)

    await world.pool.execute("SELECT pg_terminate_backend($1)", before["backend_pid"])

    async def has_another() -> bool:
        return bool((await lease_of(world, scheduler))["backend_pid"] != before["backend_pid"])

    await until(has_another)
    assert (await lease_of(world, scheduler))["backend_watched"]


async def test_suspicion_plans_a_sweep_for_the_end_of_the_shortened_lease(world: World, dsn: str) -> None:
    await dead_worker(world, dsn, "gone")
    planned: list[float] = []
    suspicion = Suspicion(world.workers, own_lease=await held_lease(world), sweep_in=planned.append)

    assert await suspicion.run_once() == 1

    assert 7 < planned[0] <= 8


async def test_who_has_not_held_its_own_lease_for_one_lease_suspects_nobody(world: World, dsn: str) -> None:
    await dead_worker(world, dsn, "gone")
    lease = await held_lease(world)
    lease.miss()
    lease.acknowledge(60.0, lease.server_started_at)
    suspicion = Suspicion(world.workers, own_lease=lease, sweep_in=lambda _: None)

    assert await suspicion.run_once() == 0


async def test_a_planned_sweep_comes_at_its_time(world: World, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await dead_worker(world, dsn, "gone")
    await world.pool.execute("UPDATE scheduler_workers SET lease_until = now() + interval '0.2 s'")
    rescuer = Rescuer(
        world.workers, world.jobs, own_lease=await held_lease(world), config=EngineConfig(lease_seconds=3600)
    )
    pauses: list[float] = []
    sweep = rescuer._pass

    async def sweep_and_note() -> float:
        pauses.append(await sweep())
        return pauses[-1]

    monkeypatch.setattr(rescuer, "_pass", sweep_and_note)
    stopping = asyncio.Event()
    running = asyncio.create_task(rescuer.run(stopping))
    await until(lambda: pauses)  # the next sweep is in 12 to 15 minutes

    rescuer.sweep_in(0.2)

    async def buried() -> bool:
        return bool(await world.pool.fetchval("SELECT state = 'dead' FROM scheduler_workers"))

    await until(buried)
    stopping.set()
    rescuer.wake()
    await running


async def test_a_buried_worker_writes_then_stops_then_lives_again(
    world: World, started: MakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    flush_is_asked_for = asyncio.Event()
    complete, wake, stop, register = JobStore.complete, Completions.wake, Slots.stop, LeaseStore.register

    async def complete_when_asked(self: JobStore, batch: Any, worker_id: str) -> set[int]:
        if batch:
            await flush_is_asked_for.wait()
            done.append("written")
        return await complete(self, batch, worker_id)

    def wake_and_note(self: Completions) -> None:
        flush_is_asked_for.set()
        wake(self)

    def stop_and_note(self: Slots, *args: Any) -> None:
        done.append("stopped")
        stop(self, *args)

    async def register_and_note(self: LeaseStore, *args: Any) -> None:
        done.append("registered")
        await register(self, *args)

    monkeypatch.setattr(JobStore, "complete", complete_when_asked)
    monkeypatch.setattr(Completions, "wake", wake_and_note)
    scheduler = await started(jobs.hang, quick)
    assert scheduler._worker.engine is not None
    finished_tokens = scheduler._worker.engine.heartbeat._finished_tokens
    monkeypatch.setattr(Slots, "stop", stop_and_note)
    monkeypatch.setattr(LeaseStore, "register", register_and_note)
    await scheduler.schedule(jobs.hang, execution_time=now())
    finished = await scheduler.schedule(quick, execution_time=now())
    await until(lambda: len(finished_tokens()) == 1 == len(scheduler.active_jobs))

    await world.bury()
    await scheduler.send_heartbeat("any")

    await until(lambda: "registered" in done and not scheduler.active_jobs)
    assert done[:3] == ["written", "stopped", "registered"]
    assert (await world.row(finished))["status"] == "completed"


async def quick() -> None:
    """End at once."""


async def test_a_loop_that_stood_still_too_long_ends_the_beats_and_wait_failed_raises(
    world: World,
) -> None:
    told: list[MainLoopStalled] = []

    async def block() -> None:
        time.sleep(2.5)  # noqa: ASYNC251  the fault

    scheduler = Scheduler(world.pool, max_stall=1.0)
    scheduler.register(block)
    scheduler.on_stall(told.append)
    await scheduler.start()
    try:
        backend = (await lease_of(world, scheduler))["backend_pid"]
        job_id = await scheduler.schedule(block, execution_time=now())

        with pytest.raises(MainLoopStalled, match="max_stall allows more"):
            await asyncio.wait_for(scheduler.wait_failed(), PATIENCE)
        assert len(told) == 1
        assert not await world.pool.fetchval("SELECT count(*) FROM pg_stat_get_activity($1)", backend)
    finally:
        await scheduler.shutdown()
    assert (await world.row(job_id))["status"] == "completed"


async def test_send_heartbeat_renews_the_lease_now(world: World, started: MakeScheduler) -> None:
    scheduler = await started()

    for _ in range(2):  # the first beat comes by itself
        await beaten(world, scheduler)


async def test_the_seeds_loops_end_with_the_worker(started: MakeScheduler) -> None:
    scheduler = await started()
    loops = [asyncio.create_task(loop()) for loop in (scheduler.monitor_heartbeats, scheduler.periodic_orphan_recovery)]
    await asyncio.sleep(0)
    assert not any(loop.done() for loop in loops)

    await scheduler.shutdown()

    await asyncio.wait_for(asyncio.gather(*loops), PATIENCE)
    await scheduler.monitor_heartbeats()
    await scheduler.periodic_orphan_recovery()
    await scheduler.send_heartbeat("any")


async def test_recover_orphaned_jobs_takes_those_of_the_dead(world: World, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    job = await world.running(await world.worker())
    scheduler = Scheduler(pool)
    living = await scheduler.recover_orphaned_jobs()
    await world.bury()

    assert (living, await scheduler.recover_orphaned_jobs()) == (0, 1)
    assert (await world.row(job.job_id))["status"] == "pending"


async def test_start_takes_the_jobs_of_the_dead_at_once(world: World, started: MakeScheduler) -> None:
    job = await world.running(await world.worker())
    await world.bury()

    await started()  # which may sweep in 60 s at the earliest

    assert (await world.row(job.job_id))["status"] == "pending"


async def test_start_takes_the_jobs_of_this_containers_earlier_process(
    world: World, started: MakeScheduler, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {}
    for worker_id, pod_uid in (("earlier", "uid-1"), ("elsewhere", "uid-2")):
        await dead_worker(world, dsn, worker_id, pod_uid=pod_uid)
        held[worker_id] = await world.running(worker_id)
    monkeypatch.setenv("PGSCHEDULER_POD_UID", "uid-1")

    await started()

    statuses = {worker_id: (await world.row(job.job_id))["status"] for worker_id, job in held.items()}
    assert statuses == {"earlier": "pending", "elsewhere": "running"}


@pytest.mark.parametrize(
    ("lease", "threshold", "expected"), [(60, 120, 60), (30, 120, 30), (60, 20, 20)], ids=["seed", "lease", "threshold"]
)
async def test_the_seeds_constants_set_the_lease(
    world: World, pool: asyncpg.Pool[asyncpg.Record], lease: int, threshold: int, expected: int
) -> None:
    class Mine(Scheduler):
        LEASE_DURATION = lease
        HEARTBEAT_THRESHOLD = threshold
        WORKER_ID_LENGTH = 13

    async with Mine(pool) as scheduler:
        left = (await lease_of(world, scheduler))["seconds_left"]

        assert expected - 5 < left < expected + 1  # a beat may come between the query's clock and its snapshot
        assert len(str(scheduler.worker_id)) == 13
