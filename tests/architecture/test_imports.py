"""Imports go downwards, and never through the package's front door."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import pg_scheduler
from support.paths import LIBRARY, ROOT, parsed, short_name

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT_SCRIPT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def test_import_contracts_are_kept() -> None:
    run = subprocess.run(
        [sys.executable, "-c", ENVIRONMENT_SCRIPT, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("module", sorted(LIBRARY.rglob("*.py")), ids=short_name)
def test_module_does_not_import_the_package_root(module: Path) -> None:
    """The root imports every public module: a module that imports it works by the luck of the order."""
    root_imports = [
        alias.name
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.ImportFrom) and node.module == "pg_scheduler"
        for alias in node.names
        if alias.name in {*pg_scheduler.__all__, "__version__"}
    ]
    bare_imports = [
        alias.name
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "pg_scheduler"
    ]
    assert root_imports + bare_imports == []
