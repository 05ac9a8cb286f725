"""Only the database's clock decides: what a worker's own says, an hour wrong or jumping, has no effect."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from support.paths import LIBRARY, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WALL_CLOCK = {"time", "now", "utcnow", "today", "localtime", "gmtime"}
READERS = {"time", "datetime", "date"}


def parts() -> Iterator[Path]:
    for folder in ("_domain", "_engine", "_store"):
        yield from sorted((LIBRARY / folder).rglob("*.py"))


@pytest.mark.parametrize("file", [pytest.param(path, id=str(path.relative_to(LIBRARY))) for path in parts()])
def test_worker_clock_is_never_read(file: Path) -> None:
    read = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in WALL_CLOCK
        and ast.unparse(node.func.value).rpartition(".")[2] in READERS
    ]

    assert read == []
