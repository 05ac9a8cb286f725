"""Clocks that are wrong and that jump, a worker's and the database's (design page 7, F20 and F21)."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from faults.conftest import id_of, submit
from support.faked_clock import faked_clock
from support.needs import needs
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faults.conftest import Record
    from support.commands import Running
    from support.world import World

HOUR, HALF_A_MINUTE = timedelta(hours=1), timedelta(seconds=30)
JUMPS = [HALF_A_MINUTE, -HALF_A_MINUTE, HOUR + HALF_A_MINUTE, -HOUR - HALF_A_MINUTE]
LEASE_SECONDS = 6
SLEW_SECONDS = 0.005
"""How far the machine's two clocks may part while a test runs."""


@needs("faketime")
async def test_wrong_and_jumping_clocks_of_workers_start_nothing_early_expire_nothing_and_steal_nothing(
    world: World, start_process: Callable[..., Running], record: Record, tmp_path: Path
) -> None:
    """Of three workers one is an hour ahead, one an hour behind, and the third jumps each time when it has started."""
    with ExitStack() as stack:
        clocks = [
            stack.enter_context(faked_clock(tmp_path / f"clock-{n}", ahead))
            for n, ahead in enumerate([HOUR, -HOUR, timedelta()])
        ]
        workers = [start_process("--lease", str(LEASE_SECONDS), **clock.environment) for clock in clocks]
        for worker in workers:
            await id_of(worker)
        epoch = time.time() - time.monotonic()
        now = await world.pool.fetchval("SELECT now()")
        long = [await submit(world, "nap", f"long-{n}", 1.5 * LEASE_SECONDS) for n in range(15)]
        due = {f"soon-{n}": now + timedelta(seconds=1 + n / 20) for n in range(200)}
        for name, at in due.items():
            await submit(world, "nap", name, 0.01, execution_time=at, misfire_grace_time=1)
        later = [
            await submit(world, "nap", f"later-{n}", 0.0, execution_time=now + n * timedelta(minutes=10))
            for n in range(1, 4)
        ]
        for ahead in JUMPS:
            clocks[2].put(ahead)
            await until(partial(has_been_seen, record, epoch, ahead), timeout=20)
        await until(lambda: len(record.names("end")) == len(long) + len(due), timeout=30)

    started_at = {line["name"]: line["moment"] + epoch for line in record.events() if line["event"] == "start"}
    assert [name for name, at in due.items() if started_at[name] + SLEW_SECONDS < at.timestamp()] == []
    assert sorted(record.names("start")) == sorted([*long, *due])
    assert await ended(world) == dict.fromkeys([*long, *due], ("completed", 1, 0)) | dict.fromkeys(
        later, ("pending", 0, 0)
    )


def has_been_seen(record: Record, epoch: float, ahead: timedelta) -> bool:
    """Whether a job has started in a process whose clock was so far off."""
    return ahead.total_seconds() in {round(line["at"] - line["moment"] - epoch) for line in record.events()}


async def ended(world: World) -> dict[str, tuple[str, int, int]]:
    rows = await world.pool.fetch("SELECT job_id, status, attempt, interruptions FROM scheduled_jobs")
    return {row["job_id"]: (row["status"], row["attempt"], row["interruptions"]) for row in rows}
