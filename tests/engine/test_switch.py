"""Users of the older package pg-scheduler 0.2.3 switch by changing the dependency."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pg_scheduler import Scheduler
from pg_scheduler._store.queries import QUERIES
from support.databases import EMPTY
from support.older_package import fill
from support.paths import ROOT
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.conftest import MakeScheduler
    from support.world import World

pytestmark = pytest.mark.newest_postgres

SCRIPT = ROOT / "tests" / "fixtures" / "older" / "script.py"


async def test_a_script_for_the_older_package_runs_unchanged_on_its_database(new_database: Callable[..., str]) -> None:
    dsn = new_database(template=EMPTY)
    await fill(dsn)

    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), dsn, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)

    assert out.decode() == "ran unchanged\n", err.decode()
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT job_id, status FROM scheduled_jobs WHERE job_id = ANY($1)", list(AFTERWARDS))
    await connection.close()
    assert {row["job_id"]: row["status"] for row in rows} == AFTERWARDS


AFTERWARDS = {
    "due": "completed",
    "due-exactly": "completed",
    "later": "cancelled",
    "retried": "pending",
    "broken": "failed",
    "odd-priority": "pending",
    "tick-1": "cancelled",
}


def named(name: str, told: list[str]) -> Callable[..., object]:
    """A task of its own module and file, called ``send``."""
    names: dict[str, object] = {"told": told}
    code = f"async def send():\n    told.append({name!r})\n"
    exec(compile(code, f"{name}.py", "exec"), names)  # noqa: S102 - two functions of one name need two files
    function = names["send"]
    assert callable(function)
    function.__module__ = name
    return function


async def test_a_bare_name_runs_the_one_task_that_is_called_so(world: World, started: MakeScheduler) -> None:
    told: list[str] = []
    job_id = await world.pending(task="send", job_name="send")
    await started(named("shop", told))

    await until(lambda: told, what="the job runs")

    await until(lambda: _has(world, job_id, "completed"))
    assert told == ["shop"]


async def test_a_bare_name_that_two_tasks_share_waits_and_is_told(
    world: World, started: MakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    waiting = await world.pending(task="send", job_name="send")
    with caplog.at_level(logging.WARNING, "pg_scheduler.engine"):
        scheduler = await started(named("shop", told), named("mail", told))
    clear = await world.pending(task="shop:send")
    await until(lambda: _has(world, clear, "completed"))

    assert (await world.row(waiting))["status"] == "pending"
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "1 jobs wait for a task 'send'" in warning
    assert "mail:send, shop:send" in warning or "shop:send, mail:send" in warning
    assert "send" not in scheduler.task_map


async def test_an_older_worker_is_told_of_at_the_start(
    new_database: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    dsn = new_database(template=EMPTY)
    await fill(dsn)
    worker = await asyncpg.connect(dsn)
    await worker.fetch("SELECT job_id FROM scheduled_jobs WHERE lease_until < now() FOR UPDATE SKIP LOCKED")
    async with asyncpg.create_pool(dsn, min_size=1) as pool:
        with caplog.at_level(logging.WARNING, "pg_scheduler.engine"):
            async with Scheduler(pool):
                pass
    await worker.close()

    (warning,) = (record.getMessage() for record in caplog.records if "0.2.3" in record.getMessage())
    assert "still connected" in warning
    assert "stop it" in warning


async def test_workers_that_start_together_do_not_take_each_other_for_older_ones(
    new_database: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncpg.create_pool(new_database(), min_size=2) as pool, pool.acquire() as another:
        await another.fetch(QUERIES["older_sessions"])
        with caplog.at_level(logging.WARNING, "pg_scheduler.engine"):
            async with Scheduler(pool):
                pass

    assert [record.getMessage() for record in caplog.records] == []


async def _has(world: World, job_id: str, status: str) -> bool:
    return bool((await world.row(job_id))["status"] == status)
