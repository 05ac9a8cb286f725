"""Commands for the tests of this folder: run to the end, or started and ended with the test."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.commands import Ended, RunCommand, Running, StartCommand
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

COMMAND = (sys.executable, "-m", "pg_scheduler")


@pytest.fixture
def clean_env() -> dict[str, str]:
    """This process's environment without any setting of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PGSCHEDULER_", "PG"))}


@pytest.fixture
def pgscheduler(clean_env: dict[str, str], tmp_path: Path) -> RunCommand:
    """Run ``pgscheduler`` to its end, without a terminal, in the test's folder."""

    def run(*arguments: str, env: Mapping[str, str] | None = None, timeout: float = PATIENCE) -> Ended:
        done = subprocess.run(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=clean_env | dict(env or {}),
            timeout=timeout,
        )
        return Ended(exit_code=done.returncode, out=done.stdout, err=done.stderr)

    return run


@pytest.fixture
def start_pgscheduler(clean_env: dict[str, str], tmp_path: Path) -> Iterator[StartCommand]:
    """Start ``pgscheduler`` in the test's folder, without a terminal; what runs at the end is killed."""
    started: list[Running] = []

    def start(*arguments: str, env: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL) -> Running:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=clean_env | dict(env or {}),
        )
        started.append(Running(process))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.wait()
