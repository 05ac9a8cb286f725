"""The page on tests is a file of tests: it passes as it stands, and it names what there is."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pg_scheduler.testing
from pg_scheduler import Scheduler
from pg_scheduler.testing import JobRun, SettableClock
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "how-to" / "test-your-jobs.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_tests_of_the_page_pass_one_after_the_other_in_one_database(dsn: str, tmp_path: Path) -> None:
    first, *others = EXAMPLES
    (tmp_path / "test_page.py").write_text("\n\n".join([first, *others]))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_mode=auto",
        "test_page.py",
    ]

    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PGSCHEDULER_DSN": dsn, "PYTHONPATH": str(ROOT / "worker")},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(EXAMPLES)} passed" in ran.stdout


def test_the_page_names_every_function_and_every_field() -> None:
    functions = [name for name in pg_scheduler.testing.__all__ if name != "JobRun"]
    members = [f"clock.{name}" for name in vars(SettableClock) if not name.startswith("_")]
    fields = [field.name for field in dataclasses.fields(JobRun)]

    assert [name for name in functions + members if name not in PAGE] == []
    assert [name for name in fields if f"`{name}`" not in PAGE] == []


def test_what_the_page_names_exists() -> None:
    called = set(re.findall(r"`(?:await )?scheduler\.(\w+)\(", PAGE))
    parameters = set(inspect.signature(pg_scheduler.testing.advance).parameters)

    assert called
    assert [name for name in called if not hasattr(Scheduler, name)] == []
    assert "patience_seconds" in parameters
    assert "backwards" in inspect.signature(SettableClock.set).parameters
