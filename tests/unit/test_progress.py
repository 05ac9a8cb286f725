"""A run that is cut off has said what it knew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import progress

TESTS = Path(__file__).parents[1]
MODULE = """
import os, signal

def test_good(): pass
def test_bad(): assert [] == [1], "not this"
def test_endless(): os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_failure_is_told_at_once_and_an_interrupted_run_names_the_test_it_was_in(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from support.progress import *")
    (tmp_path / "test_it.py").write_text(MODULE)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=.", "."],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )

    while_running, _, afterwards = run.stdout.partition("= FAILURES =")
    assert "test_it.py::test_bad, call: AssertionError: not this" in while_running
    named = afterwards.partition("interrupted in")[2].splitlines()
    assert "test_it.py::test_endless" in named
    assert "test_it.py::test_good" not in named


@pytest.mark.parametrize(("cores", "processes"), [(None, 2), (2, 4), (64, 8)])
def test_processes_follow_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int | None, processes: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert progress.pytest_xdist_auto_num_workers() == processes
