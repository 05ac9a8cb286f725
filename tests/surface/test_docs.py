"""What the documents promise is there: examples that run, anchors, files, commands."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

import pg_scheduler.cli.extras
import pg_scheduler_operator.errors
from pg_scheduler.cli.group import pgscheduler as group
from pg_scheduler.errors import PgSchedulerError
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import asyncpg

README = (ROOT / "README.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
MODULES_WITH_ERRORS = (pg_scheduler.cli.extras, pg_scheduler_operator.errors)


def error_classes(root: type[PgSchedulerError] = PgSchedulerError) -> Iterator[type[PgSchedulerError]]:
    """Every class of the tree that the two packages define."""
    if root.__module__.startswith(("pg_scheduler.", "pg_scheduler_operator.")):
        yield root
    for child in root.__subclasses__():
        yield from error_classes(child)


CLASSES = sorted({cls.__name__: cls for cls in error_classes()}.values(), key=lambda cls: cls.code)


@pytest.mark.parametrize("error", CLASSES, ids=lambda cls: cls.__name__)
def test_error_has_its_anchor(error: type[PgSchedulerError]) -> None:
    assert f'## <a id="{error.code.lower()}"></a>{error.code}: {error.__name__}\n' in ERRORS


def test_error_codes_are_unique_and_their_anchors_too() -> None:
    codes = [cls.code for cls in CLASSES]

    assert len(set(codes)) == len(codes)
    assert re.findall(r'^## <a id="(.*?)"', ERRORS, re.MULTILINE) == [code.lower() for code in codes]


async def test_readme_example_runs(dsn: str, pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(example)

    ran = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={"PGSCHEDULER_DSN": dsn},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert "is committed\ninvoice for order 4711\n" in ran.stdout
    assert await pool.fetchval("SELECT status FROM scheduled_jobs WHERE task LIKE '%send_invoice'") == "completed"
    assert await pool.fetchval("SELECT interval_seconds FROM scheduler_schedules") == 15 * 60


def commands_in(text: str) -> set[str]:
    """The words after ``pgscheduler`` in code, where they can only be a command."""
    return set(re.findall(r"(?:`|^|/)pgscheduler ([a-z]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/reference/errors.md"])
def test_commands_in_the_documents_exist(name: str) -> None:
    named = commands_in((ROOT / name).read_text(encoding="utf-8"))

    assert named
    assert named <= set(group.list_commands(click.Context(group)))


@pytest.mark.parametrize(
    "name",
    ["README.md", "CONTRIBUTING.md", "docs/index.md", "docs/explanation/benchmarks.md", "docs/reference/errors.md"],
)
def test_links_to_files_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)

    assert [target for target in targets if not (ROOT / name).parent.joinpath(target).exists()] == []


def test_make_targets_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z0-9]+)", README + (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))

    assert named
    assert [target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
