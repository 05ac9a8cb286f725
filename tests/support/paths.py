"""Where the project's files are."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "worker" / "pg_scheduler"
OPERATOR = ROOT / "operator" / "pg_scheduler_operator"


def shipped_modules() -> Iterator[Path]:
    """Every Python file of the two packages."""
    for package in (LIBRARY, OPERATOR):
        yield from sorted(package.rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def short_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
