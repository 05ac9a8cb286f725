"""What the pages on schedules show and name is there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pg_scheduler import Scheduler, periodic
from pg_scheduler.schedule_options import ScheduleOptions
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

REFERENCE = (ROOT / "docs" / "reference" / "periodic.md").read_text(encoding="utf-8")
HOW_TO = (ROOT / "docs" / "how-to" / "suspend-a-schedule.md").read_text(encoding="utf-8")


async def test_the_example_suspends_triggers_and_resumes(
    dsn: str, pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path
) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", HOW_TO, re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(example)

    ran = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={"PGSCHEDULER_DSN": dsn, "PYTHONPATH": str(ROOT / "worker")},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert (ran.returncode, ran.stderr, ran.stdout) == (0, "", "True\n")
    assert await pool.fetchval("SELECT suspended FROM scheduler_schedules") is False
    assert await pool.fetchval("SELECT job_name FROM scheduled_jobs") == "periodic_clean_up"


@pytest.mark.parametrize(
    "parameter", sorted({*inspect.signature(periodic).parameters, *ScheduleOptions.__annotations__} - {"options"})
)
def test_every_parameter_is_described(parameter: str) -> None:
    assert f"`{parameter}`" in REFERENCE


def test_the_calls_exist() -> None:
    named = set(re.findall(r"`(?:await )?(\w+)\(", REFERENCE))

    assert {"get_periodic_jobs", "suspend_schedule", "schedule_status"} <= named
    assert [name for name in named if not hasattr(Scheduler, name)] == []
