"""Schedules that code declares, ticking in running workers."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler import scheduler as scheduler_module
from pg_scheduler.periodic import PeriodicJobConfig, PeriodicRegistry
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from engine.conftest import MakeScheduler
    from support.world import World


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Declares a schedule in a registry of this test's own."""
    registry = PeriodicRegistry()
    monkeypatch.setattr(scheduler_module, "periodic_registry", registry)

    def declare(function: Any, **settings: Any) -> None:
        registry.add(PeriodicJobConfig(function, **settings))

    return declare


async def test_an_interval_ticks_on_its_grid_once_over_three_workers(
    world: World, started: MakeScheduler, declare: Callable[..., None]
) -> None:
    runs: list[int] = []

    async def each_second() -> None:
        runs.append(1)

    declare(each_second, interval=timedelta(seconds=1))
    for _ in range(3):
        await started()

    await until(lambda: len(runs) >= 3)
    rows = await world.pool.fetch(
        "SELECT tick_at, started_at, job_name FROM scheduled_jobs WHERE started_at IS NOT NULL ORDER BY tick_at"
    )
    ticks = [row["tick_at"] for row in rows]
    assert {later - earlier for earlier, later in pairwise(ticks)} == {timedelta(seconds=1)}
    assert {row["job_name"] for row in rows} == {"periodic_each_second"}
    assert all(row["started_at"] >= row["tick_at"] for row in rows)


async def test_a_changed_rule_edits_the_row(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, declare: Callable[..., None]
) -> None:
    async def job() -> None: ...

    declare(job, interval=timedelta(hours=1))
    first = await started()
    await first.shutdown()
    (row,) = await pool.fetch("SELECT interval_seconds FROM scheduler_schedules")
    assert row["interval_seconds"] == 3600

    redeclared = PeriodicRegistry()
    redeclared.add(PeriodicJobConfig(job, cron="30 2 * * *"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler_module, "periodic_registry", redeclared)
        await started()

    (row,) = await pool.fetch("SELECT interval_seconds, cron FROM scheduler_schedules")
    assert (row["interval_seconds"], row["cron"]) == (None, ["30 2 * * *"])


async def test_what_code_disables_does_not_tick(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, declare: Callable[..., None]
) -> None:
    async def job() -> None: ...

    declare(job, interval=timedelta(seconds=1), enabled=False)
    await started()

    (row,) = await pool.fetch("SELECT enabled, next_tick_at FROM scheduler_schedules")
    assert (row["enabled"], row["next_tick_at"]) == (False, None)


async def test_a_worker_lists_what_it_declares_and_knows(
    pool: asyncpg.Pool[asyncpg.Record], started: MakeScheduler, declare: Callable[..., None]
) -> None:
    async def job() -> None: ...

    declare(job, interval=timedelta(hours=1))
    await started()

    (row,) = await pool.fetch("SELECT tasks, schedules FROM scheduler_workers")
    assert [text.rsplit(".", 1)[-1] for text in row["schedules"]] == ["job"]
    assert row["schedules"][0] in row["tasks"]
