"""A test whose program is missing is listed, or fails where everything is required."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.needs import PROGRAMS, Program, needs, on_path, table

TESTS = Path(__file__).parents[1]

CONFTEST = """
from support.needs import *
from support import needs as plugin
plugin.PROGRAMS["nosuch"] = plugin.on_path("no-such-program", debian="nosuch-package", macos="nosuch-formula")
"""
MODULE = """
from support.needs import needs

@needs("nosuch")
def test_with_it(): pass

@needs("nosuch")
def test_more_of_it(): pass

def test_without(): pass
"""


def run_pytest(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(MODULE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pytest.ini", *arguments, "."],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TESTS), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("processes", [0, 2])
def test_missing_program_is_listed_with_the_way_to_install_it(tmp_path: Path, processes: int) -> None:
    run = run_pytest(tmp_path, f"-n{processes}")
    assert run.returncode == 0, run.stdout
    assert "1 passed, 2 skipped" in run.stdout
    assert "= not run =" in run.stdout
    row = next(line for line in run.stdout.splitlines() if line.startswith("nosuch"))
    assert row.split()[:2] == ["nosuch", "2"]
    assert "apt-get install nosuch-package" in row
    assert "brew install nosuch-formula" in row


def test_missing_program_fails_where_all_is_required(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, PGSCHEDULER_TEST_REQUIRE="all")
    assert run.returncode == 1
    assert "nosuch is missing: Debian: apt-get install nosuch-package" in run.stdout


def test_needs_refuses_a_program_it_cannot_look_for() -> None:
    with pytest.raises(LookupError, match="nonsense"):
        needs("nonsense")


def test_program_is_found_where_its_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = Program(file="thing", variable="PGSCHEDULER_THING", debian="thing", macos="thing")
    assert program.find() is None
    (tmp_path / "thing").touch(mode=0o755)
    monkeypatch.setenv("PGSCHEDULER_THING", str(tmp_path))
    assert program.find() == tmp_path / "thing"


def test_program_on_path_is_found() -> None:
    assert on_path("sh", debian="dash", macos="dash").find()


def test_every_program_says_how_to_install_it() -> None:
    assert all(program.how_to_install() for program in PROGRAMS.values())


def test_table_aligns_its_columns() -> None:
    assert list(table(("a", "bc"), ("def", "g"))) == ["a    bc", "def  g"]
