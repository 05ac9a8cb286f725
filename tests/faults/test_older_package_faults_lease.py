"""Processes killed, frozen, blocked and told to end, with their jobs in their hands.

Named after the rows of design page 3 §3.4, which say what the older package does then; page 7, F1-F6 and F41.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from faults import fault_tasks
from faults.conftest import APP, as_if_it_had_beaten_for_a_lease, id_of, submit
from support.cgroups import frozen, short_of_memory, stopped
from support.needs import needs
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import asyncpg

    from engine.conftest import MakeScheduler
    from faults.conftest import Record
    from support.commands import Running
    from support.world import World


def takes_over(scheduler: Any, *tasks: str) -> None:
    """Know the harmful tasks by their names in the processes, but end them at once."""
    for task in tasks:
        scheduler._registry.add(_end_at_once(task), f"fault_tasks:{task}")


def _end_at_once(task: str) -> Any:
    async def rerun(name: str, *_: object) -> None:
        fault_tasks._note("rerun", name)

    rerun.__name__ = task
    return rerun


async def statuses(world: World) -> dict[str, str]:
    return {row["job_id"]: row["status"] for row in await world.pool.fetch("SELECT job_id, status FROM scheduled_jobs")}


async def test_sigkill_mid_job_second_start_within_20_seconds_with_the_default_lease(
    world: World, started: MakeScheduler, start_process: Callable[..., Running], record: Record
) -> None:
    victim = start_process()
    await submit(world, "hang", "job")
    await until(lambda: record.names("start") == ["job"])
    survivor = await started()
    as_if_it_had_beaten_for_a_lease(survivor)
    takes_over(survivor, "hang")

    os.kill(victim.process.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    await until(lambda: record.names("rerun") == ["job"])

    assert time.monotonic() - killed_at <= 2 * 20, "more than what a slow machine may make of 20 seconds"

    async def completed() -> bool:
        return await statuses(world) == {"job": "completed"}

    await until(completed)
    row = await world.row("job")
    assert (row["attempt"], row["interruptions"], row["worker_id"]) == (2, 1, survivor.worker_id)


@pytest.mark.parametrize("freeze", [stopped, pytest.param(frozen, marks=needs("cgroups"))])
async def test_frozen_worker_comes_back_under_a_new_name_and_its_late_result_is_refused_20_of_20(
    world: World,
    started: MakeScheduler,
    start_process: Callable[..., Running],
    record: Record,
    dsn: str,
    freeze: Callable[[int], AbstractContextManager[None]],
) -> None:
    lease_seconds, count = 2.0, 20
    queues = [f"q{number}" for number in range(count)]
    process = start_process(program=(str(APP), dsn, str(lease_seconds), ",".join(queues)))
    for queue in queues:
        await submit(world, "nap", f"nap-{queue}", 1.0, queue=queue)
        await submit(world, "hang", f"hang-{queue}", queue=queue)

    async def all_registered() -> bool:
        return bool(await world.pool.fetchval("SELECT count(*) = $1 FROM scheduler_workers", count))

    await until(all_registered)
    await until(lambda: len(set(record.names("start"))) == 2 * count)
    await world.pool.execute("UPDATE scheduled_jobs SET execution_time = now()")  # the naps, in their second run
    await _naps_anew(world, record, queues)
    with freeze(process.process.pid):
        buried = {row["id"] for row in await world.pool.fetch("SELECT id FROM scheduler_workers")}

        # Its own lease is longer: from that comes how long the server may take to answer it, here on a shared machine.
        survivor = await started(lease_seconds=9 * lease_seconds, queues=tuple(queues), max_concurrent_jobs=100)
        as_if_it_had_beaten_for_a_lease(survivor)
        takes_over(survivor, "hang", "nap")
        await until(lambda: len(record.names("rerun")) == 2 * count)
        await until(lambda: not survivor.active_jobs)
        await until(lambda: _all_completed(world))
        ends = await _ends(world)
    woken_at = time.time()

    async def all_live_again() -> bool:
        rows = await world.pool.fetch("SELECT id FROM scheduler_workers WHERE state = 'alive'")
        return len({row["id"] for row in rows} - buried) == count + 1

    await until(all_live_again)
    await until(lambda: len(record.names("stopped")) == count)
    await until(lambda: len(record.names("end")) >= count)
    beat_seconds = lease_seconds / 3
    late = [line["at"] - woken_at for line in record.events() if line["event"] == "stopped"]
    assert max(late) < beat_seconds + 1.5, late  # the beat, and what 20 workers take on a shared machine
    assert await _ends(world) == ends
    assert await _all_completed(world)
    assert {row["worker_id"] for row in await world.pool.fetch("SELECT worker_id FROM scheduled_jobs")} == {
        survivor.worker_id
    }


async def _naps_anew(world: World, record: Record, queues: list[str]) -> None:
    """A nap may have ended while the last worker of twenty was still starting: let each sleep again."""
    await world.pool.execute("DELETE FROM scheduled_jobs WHERE status = 'completed'")
    for queue in queues:
        await submit(world, "nap", f"late-{queue}", 3.0, queue=queue)

    async def only_ours() -> bool:
        await world.pool.execute("DELETE FROM scheduled_jobs WHERE job_id LIKE 'nap-%' AND status = 'completed'")
        left = await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE job_id LIKE 'nap-%'")
        return bool(left == 0)

    await until(only_ours)
    await until(lambda: sum(name.startswith("late-") for name in record.names("start")) == len(queues))


async def _all_completed(world: World) -> bool:
    return set((await statuses(world)).values()) == {"completed"}


async def _ends(world: World) -> list[asyncpg.Record]:
    return await world.pool.fetch("SELECT job_id, token, finished_at FROM scheduled_jobs ORDER BY job_id")


async def test_loop_blocked_by_sleep_or_cpu_work_is_one_start_unless_the_gil_is_held(
    world: World, started: MakeScheduler, start_process: Callable[..., Running], record: Record
) -> None:
    lease_seconds = 2.0
    tasks = {"block": 3 * lease_seconds, "burn": 3 * lease_seconds, "hold_the_gil": 8.0}
    for task, seconds in tasks.items():
        await submit(world, task, task, seconds)
    workers = [start_process("--lease", str(lease_seconds), "--slots", "1") for _ in tasks]
    await until(lambda: sorted(record.names("start")) == sorted(tasks))

    survivor = await started(lease_seconds=lease_seconds)
    takes_over(survivor, *tasks)
    await until(lambda: sorted(record.names("end")) == sorted(tasks))
    await until(lambda: _all_completed(world))

    assert record.names("rerun") == ["hold_the_gil"]
    attempts = {task: (await world.row(task))["attempt"] for task in tasks}
    assert attempts == {"block": 1, "burn": 1, "hold_the_gil": 2}
    assert (await world.row("hold_the_gil"))["worker_id"] == survivor.worker_id
    await until(lambda: any("this process stood still" in worker.err for worker in workers))
    await until(lambda: any("in hold_the_gil (" in worker.err for worker in workers))
    await until(lambda: any("in block (" in worker.err for worker in workers))


async def test_a_worker_whose_loop_is_stuck_for_ever_ends_with_70_and_says_where(
    world: World, start_process: Callable[..., Running]
) -> None:
    worker = start_process("--max-stall", "1.5")
    await submit(world, "block", "for ever", 1000)

    assert await asyncio.to_thread(worker.wait, 30) == 70

    assert "error PGS-015" in worker.err
    assert "in block (" in worker.err


async def test_a_job_that_kills_its_worker_ends_failed_and_its_neighbours_lose_one_attempt_at_most(
    world: World, started: MakeScheduler, start_process: Callable[..., Running], record: Record
) -> None:
    lease_seconds = 1.5
    await started(lease_seconds=lease_seconds, queues=("of the sweeper",))
    first = [await submit(world, "nap", f"first-{n}", 0.5) for n in range(5)]
    await submit(world, "die", "poison", 0.3)
    codes = [await _death_of(start_process("--lease", str(lease_seconds)))]
    await world.pool.execute(  # from now on it dies after its neighbours have ended, or they would be suspects as well
        """UPDATE scheduled_jobs SET task_data = '{"args": ["poison", 1.5], "kwargs": {}}' WHERE job_id = 'poison'"""
    )
    for deaths in range(1, 4):
        await _interrupted(world, deaths)
        # New neighbours that still run when it dies for the second time; from then on it runs alone.
        for n in range(3):
            await submit(world, "nap", f"fresh-{deaths}-{n}", 3)
        codes.append(await _death_of(start_process("--lease", str(lease_seconds))))
    await _interrupted(world, 4)
    start_process("--lease", str(lease_seconds))
    await until(lambda: _all_but_poison_completed(world))
    poison = await world.row("poison")
    rows = await world.pool.fetch("SELECT job_id, interruptions FROM scheduled_jobs WHERE job_id <> 'poison'")
    charged = {row["job_id"] for row in rows if row["interruptions"]}
    starts = [(line["pid"], line["name"]) for line in record.events() if line["event"] == "start"]
    killed = [pid for pid, name in starts if name == "poison"]
    assert len(killed) == 4
    assert codes == [1, -signal.SIGSEGV, 1, -signal.SIGSEGV]
    assert [name for pid, name in starts if pid in killed[2:]] == ["poison"] * 2
    assert (poison["attempt"], poison["interruptions"], poison["error_message"]) == (4, 4, "worker died")
    assert max(row["interruptions"] for row in rows) <= 1
    assert charged <= set(first)
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_attempts WHERE job_id = 'poison'") == 4


@needs("cgroups")
async def test_a_job_that_takes_its_workers_memory_ends_failed_too(
    world: World, started: MakeScheduler, start_process: Callable[..., Running]
) -> None:
    lease_seconds = 1.5
    await started(lease_seconds=lease_seconds, queues=("of the sweeper",))
    for deaths in (1, 2):
        worker = start_process("--lease", str(lease_seconds))
        with short_of_memory(worker.process.pid, megabytes=256):  # before it can claim what the first has left
            if deaths == 1:  # the second may be dead before it has said that it has started
                await id_of(worker)
                await submit(world, "eat", "poison", max_interruptions=1)
            assert await _death_of(worker) == -signal.SIGKILL
        await _interrupted(world, deaths)
    poison = await world.row("poison")
    assert (poison["status"], poison["attempt"], poison["error_message"]) == ("failed", 2, "worker died")


async def _death_of(worker: Running) -> int:
    await until(lambda: worker.process.poll() is not None, what="the poison job kills its worker")
    return worker.wait()


async def _interrupted(world: World, times: int) -> None:
    async def is_interrupted() -> bool:
        return bool((await world.row("poison"))["interruptions"] == times)

    await until(is_interrupted)


async def _all_but_poison_completed(world: World) -> bool:
    return {status for job, status in (await statuses(world)).items() if job != "poison"} == {"completed"}


async def test_shutdown_with_long_jobs_by_sigterm_hands_the_rows_back_within_a_second(
    world: World, started: MakeScheduler, start_process: Callable[..., Running], record: Record
) -> None:
    count = 25
    worker = start_process("--shutdown-timeout", "0.5", "--queues", "default,of the victim")
    names = [await submit(world, "hang", f"job-{n}") for n in range(count)]
    await until(lambda: sorted(record.names("start")) == sorted(names))
    survivor = await started()
    takes_over(survivor, "hang")

    worker.process.terminate()
    await worker.says("SIGTERM")
    late = await submit(world, "hang", "late", queue="of the victim")
    code = await asyncio.to_thread(worker.wait, 20)
    ended_at = time.time()
    await until(lambda: len(record.names("rerun")) == count)

    assert code == 0
    assert max(line["at"] for line in record.events() if line["event"] == "rerun") - ended_at < 1
    await until(lambda: not survivor.active_jobs)
    rows = {name: await world.row(name) for name in names}
    assert {(row["attempt"], row["interruptions"]) for row in rows.values()} == {(1, 0)}
    row = await world.row(late)
    assert (row["status"], row["attempt"]) == ("pending", 0)
