"""What the documents promise is there: examples that run, anchors, files, commands."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

import pg_scheduler
import pg_scheduler.cli.extras
import pg_scheduler_operator.errors
from pg_scheduler.cli.group import pgscheduler as group
from pg_scheduler.errors import PgSchedulerError
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import asyncpg

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
MODULES_WITH_ERRORS = (pg_scheduler.cli.extras, pg_scheduler_operator.errors)
"""Named so that they stay imported: a class is in the tree once its module is."""


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


def run_python(code: str, dsn: str, folder: Path) -> str:
    """What a document's program prints; it has to end well and to say nothing else."""
    (folder / "example.py").write_text(code)
    ran = subprocess.run(
        [sys.executable, "example.py"],
        cwd=folder,
        env={"PGSCHEDULER_DSN": dsn, "PYTHONPATH": str(ROOT / "worker")},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


def python_in(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


async def test_readme_example_runs(dsn: str, pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path) -> None:
    printed = run_python(python_in(README)[0], dsn, tmp_path)

    assert printed.endswith("is committed\ninvoice for order 4711\n")
    assert await pool.fetchval("SELECT status FROM scheduled_jobs WHERE task LIKE '%send_invoice'") == "completed"
    assert await pool.fetchval("SELECT interval_seconds FROM scheduler_schedules") == 15 * 60


def test_readme_and_how_to_show_what_the_example_runs() -> None:
    _, charge = python_in(README)
    example = (ROOT / "examples" / "library" / "charge.py").read_text()
    how_to = (ROOT / "docs" / "how-to" / "commit-with-completion.md").read_text()

    assert charge in example
    assert charge in python_in(how_to)


async def test_readme_sql_runs(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    (statement,) = re.findall(r"`(SELECT scheduler_enqueue.*?)`", README)

    job_id = await pool.fetchval(statement)

    assert await pool.fetchval("SELECT task FROM scheduled_jobs WHERE job_id = $1", job_id) == "shop.mail:send_receipt"


def test_tutorial_runs(dsn: str, tmp_path: Path) -> None:
    (program,) = python_in((DOCS / "tutorial" / "first-job.md").read_text())
    program = program.replace("EmbeddedPostgres()", f"nullcontext(SimpleNamespace(dsn={dsn!r}))")
    imports = "from contextlib import nullcontext\nfrom types import SimpleNamespace\n"

    printed = run_python(imports + program, dsn, tmp_path).splitlines()

    assert [line for line in printed if line != "tick" and not line.startswith("job ")] == [
        "Hello, world!",
        "cancelled: True",
        "worked at attempt 2",
    ]
    assert "tick" in printed


FERNET = """
from support.codecs import KeyedCodec

class Fernet(KeyedCodec):
    def __init__(self, key):
        super().__init__(key.encode())

class MultiFernet:
    def __init__(self, fernets):
        self.encrypt, self.decrypt = fernets[0].encode, fernets[0].decode
"""


def test_encryption_runs(dsn: str, tmp_path: Path) -> None:
    """With what has the names of cryptography's parts, which is no package of ours."""
    (program,) = python_in((DOCS / "how-to" / "encrypt-arguments.md").read_text())
    (tmp_path / "cryptography").mkdir()
    (tmp_path / "cryptography" / "fernet.py").write_text(FERNET)
    keys = "import os, sys\n" + f"os.environ['PAYLOAD_KEYS'] = 'a,b'\nsys.path.append({str(ROOT / 'tests')!r})\n"

    charged, stored = run_python(keys + program, dsn, tmp_path).splitlines()

    assert charged == "charged 4111 1111"
    assert stored.startswith('{"args":null,"encoded":"')


def test_promise_is_the_same_in_readme_and_docs() -> None:
    page = (DOCS / "explanation" / "promise.md").read_text()
    (promise,) = re.findall(r"<!-- the promise -->\n(.*)<!-- end -->", page, re.DOTALL)

    assert promise in README


@pytest.mark.parametrize("page", ["docs/explanation/design-decisions.md", "SECURITY.md"])
def test_tests_that_the_documents_name_exist(page: str) -> None:
    named = named_tests((ROOT / page).read_text(encoding="utf-8"))
    sources = "\n".join(path.read_text() for tier in ("tests", "e2e") for path in (ROOT / tier).rglob("test_*.py"))

    assert len(named) > 25
    assert [name for name in named if f"def {name}(" not in sources] == []


def test_every_threat_has_a_control_and_a_test() -> None:
    _, _, table = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("|---|---|---|\n")
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]

    assert len(rows) >= 18
    assert [threat for threat, control, tests in rows if not (control.strip() and named_tests(tests))] == []


def named_tests(text: str) -> set[str]:
    return set(re.findall(r"`(test_\w+)`", text))


def commands_in(text: str) -> set[str]:
    """The words after ``pgscheduler`` in code, where they can only be a command."""
    return set(re.findall(r"(?:`|^|/)pgscheduler ([a-z]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", PAGES)
def test_commands_in_the_documents_exist(name: str) -> None:
    named = commands_in((ROOT / name).read_text(encoding="utf-8"))

    assert named <= set(group.list_commands(click.Context(group)))


def anchors_of(text: str) -> set[str]:
    """What a link may name after ``#``: explicit anchors, and headings as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="(.*?)">', text))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")

    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text):
        path = (ROOT / name).parent.joinpath(target) if target else ROOT / name
        assert path.exists(), target
        assert not anchor or anchor in anchors_of(path.read_text(encoding="utf-8")), f"{target}#{anchor}"


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([^)#]+\.md)\)", (DOCS / "index.md").read_text()))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}

    assert pages - linked == {"index.md"}


@pytest.mark.parametrize("file", ["README.md", "docs/how-to/run-workers-in-pods.md", "examples/image/Dockerfile"])
def test_the_image_that_people_are_told_of_is_of_this_release(file: str) -> None:
    told = re.findall(r"pgscheduler:(\d[\d.]*\d)", (ROOT / file).read_text(encoding="utf-8"))

    assert set(told) == {pg_scheduler.__version__}


def test_readme_names_this_release() -> None:
    assert f"**Status: {pg_scheduler.__version__}," in README


def test_make_targets_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", README + (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))

    assert named
    assert [target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
