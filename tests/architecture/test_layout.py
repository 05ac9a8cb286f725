"""The house: where things are, and what no file may do to the others."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

import pg_scheduler
from support.paths import ROOT, parsed, shipped_modules, short_name

if TYPE_CHECKING:
    from pathlib import Path

NAMES_OF_HISTORY = re.compile(r"_(old|new|unused|tmp|temp|legacy|copy|v\d+)$")
MODULES = list(shipped_modules())


def test_operator_folder_is_no_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_operator_folder_does_not_shadow_the_standard_module() -> None:
    subprocess.run([sys.executable, "-c", "import operator; operator.itemgetter"], cwd=ROOT, check=True)


@pytest.mark.parametrize("module", MODULES, ids=short_name)
def test_module_has_a_docstring(module: Path) -> None:
    assert ast.get_docstring(parsed(module))


@pytest.mark.parametrize("module", MODULES, ids=short_name)
def test_no_name_tells_history(module: Path) -> None:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    names = [module.stem, *(node.name for node in ast.walk(parsed(module)) if isinstance(node, kinds))]
    assert [name for name in names if NAMES_OF_HISTORY.search(name)] == []


def test_version_is_written_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "worker/pg_scheduler/__init__.py"
    assigned = [module for module in MODULES if re.search(r"^__version__\s*=", module.read_text(), re.MULTILINE)]
    assert [short_name(module) for module in assigned] == ["worker/pg_scheduler/__init__.py"]


def test_installed_version_is_that_of_the_source() -> None:
    assert importlib.metadata.version("pgscheduler") == pg_scheduler.__version__


def test_changelog_has_the_version() -> None:
    assert f"## {pg_scheduler.__version__}" in (ROOT / "CHANGELOG.md").read_text().replace("[", "").replace("]", "")


def contributing_rows() -> list[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.startswith("|") and "`" in line]


def test_contributing_table_has_ten_changes() -> None:
    assert len(contributing_rows()) >= 10


def test_every_file_that_contributing_names_exists() -> None:
    named = {path for row in contributing_rows() for path in re.findall(r"`([\w.-]+(?:/[\w.-]*)+|\w+\.\w+)`", row)}
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
