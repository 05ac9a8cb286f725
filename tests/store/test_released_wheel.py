"""The release before this one goes on working on this release's schema, so that a rollback and a rolling update do."""

from __future__ import annotations

import asyncio
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from support.paths import ROOT
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

WHEELS = sorted((ROOT / "tests" / "fixtures" / "releases").glob("*/*.whl"))

SCRIPT = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
import asyncpg
from pg_scheduler import Scheduler, periodic
from pg_scheduler.control import Control

done = asyncio.Event()
ticked = asyncio.Event()

async def note(n):
    done.set()

@periodic(every=timedelta(seconds=1))
async def tick():
    ticked.set()

async def main(dsn):
    async with asyncpg.create_pool(dsn, min_size=1) as pool, Scheduler(pool) as scheduler:
        await scheduler.schedule(note, execution_time=datetime.now(UTC), args=(1,))
        await asyncio.wait_for(asyncio.gather(done.wait(), ticked.wait()), 30)
        later = datetime.now(UTC) + timedelta(days=1)
        assert await scheduler.cancel_job(await scheduler.schedule(note, execution_time=later, args=(1,)))
    async with Control(dsn) as control:
        await control.demand("")
        await control.changes("c", None)
    print("served")

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.parent.name)
async def test_released_wheel_serves_this_schema(wheel: Path, dsn: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "released")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        dsn,
        env={"PYTHONPATH": str(tmp_path / "released")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)

    assert out.decode() == "served\n", err.decode()


def test_a_release_is_kept() -> None:
    assert WHEELS
