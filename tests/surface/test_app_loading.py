"""What ``pgscheduler worker APP`` accepts, and what it says of the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pg_scheduler.cli import app_loading
from pg_scheduler.errors import AppNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

TASK = "async def run(): ...\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; imports of the test are undone."""
    modules, paths = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = paths
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_module_is_found_in_the_working_folder(folder: Path) -> None:
    (folder / "shop_tasks.py").write_text(TASK + "NAME = 'shop'\n")

    app = app_loading.load("shop_tasks")

    assert app.module.NAME == "shop"
    assert app.factory is None


def test_dotted_module_is_found(folder: Path) -> None:
    (folder / "shop_pkg").mkdir()
    (folder / "shop_pkg" / "tasks.py").write_text(TASK + "NAME = 'inner'\n")

    assert app_loading.load("shop_pkg.tasks").module.NAME == "inner"


def test_path_is_loaded_and_sees_its_neighbours(folder: Path) -> None:
    (folder / "jobs").mkdir()
    (folder / "jobs" / "neighbour_of_jobs.py").write_text("NAME = 'neighbour'\n")
    (folder / "jobs" / "shop_jobs.py").write_text(TASK + "from neighbour_of_jobs import NAME\n")

    app = app_loading.load("jobs/shop_jobs.py")

    assert app.module.__name__ == "shop_jobs"
    assert app.module.NAME == "neighbour"


def test_attribute_names_a_factory(folder: Path) -> None:
    (folder / "shop_app.py").write_text("def make(pool):\n    return pool\n")

    factory = app_loading.load("shop_app:make").factory

    assert factory is not None
    assert factory("pool") == "pool"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "neither a module nor a path"),
        ("shop tasks", "neither a module nor a path"),
        ("../tasks", "neither a module nor a path"),
        ("a/b/tasks", "neither a module nor a path"),
        ("no_such_module_here", "no module named no_such_module_here"),
        ("no_such_package.tasks", "no module named no_such_package"),
        ("no_such_file.py", "no such file: no_such_file.py"),
        ("app.py:make", "a path takes no attribute"),
        ("good:missing", "good has no attribute 'missing'"),
        ("good:", "good has no attribute ''"),
        ("good:NAME", "not callable under 'NAME'"),
        ("broken.py", "broken.py does not import: SyntaxError"),
        ("raises", "raises does not import: RuntimeError: no luck"),
        ("raises.py", "raises.py does not import: RuntimeError: no luck"),
        ("exits", "exits does not import: SystemExit"),
        ("needs", "needs does not import: ModuleNotFoundError: No module named 'not_installed_here'"),
        ("json.py", "a module named json is loaded already"),
    ],
)
def test_anything_else_is_app_not_found(folder: Path, name: str, said: str) -> None:
    (folder / "good.py").write_text("NAME = 'x'\n")
    (folder / "broken.py").write_text("def (\n")
    (folder / "raises.py").write_text("raise RuntimeError('no luck')\n")
    (folder / "exits.py").write_text("raise SystemExit(7)\n")
    (folder / "needs.py").write_text("import not_installed_here\n")
    (folder / "json.py").write_text("")

    with pytest.raises(AppNotFound) as caught:
        app_loading.load(name)

    assert said in caught.value.what


def test_error_names_the_line_of_the_users_code(folder: Path) -> None:
    (folder / "raises.py").write_text("\n\nraise RuntimeError('no luck')\n")

    with pytest.raises(AppNotFound) as caught:
        app_loading.load("raises.py")

    assert caught.value.why == f"at {folder / 'raises.py'}:3"


def test_a_file_that_fails_can_be_loaded_after_it_is_mended(folder: Path) -> None:
    file = folder / "mended.py"
    file.write_text("1 / 0\n")
    with pytest.raises(AppNotFound):
        app_loading.load("mended.py")

    file.write_text(TASK + "NAME = 'mended now, and of another size'\n")

    assert app_loading.load("mended.py").module.NAME.startswith("mended")


def test_long_name_is_shortened() -> None:
    with pytest.raises(AppNotFound) as caught:
        app_loading.load("x" * 5000)

    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shop/tasks.py", "shop/tasks.py"),
        ("shop", "shop/__init__.py"),
        ("shop.tasks", "shop/tasks.py"),
        ("shop.tasks:make", "shop/tasks.py"),
        ("json", None),
        ("json.decoder", None),
    ],
)
def test_locate_finds_without_importing(folder: Path, name: str, expected: str | None) -> None:
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").write_text("raise RuntimeError\n")
    (folder / "shop" / "tasks.py").write_text("raise RuntimeError\n")

    assert app_loading.locate(name) == (None if expected is None else Path(expected))


@pytest.mark.parametrize("name", ["nowhere.py", "nowhere", "nowhere.tasks", "a b", "postgresql://db"])
def test_locate_refuses_what_is_not_there(name: str) -> None:
    with pytest.raises(AppNotFound):
        app_loading.locate(name)


@pytest.mark.parametrize(
    "code",
    [
        "async def run(): ...\n",
        "from pg_scheduler import task\n@task(name='{name}')\nasync def _run(): ...\n",
        "import datetime, pg_scheduler as p\n@p.periodic(every=datetime.timedelta(1))\nasync def _run(): ...\n",
        "from pg_scheduler import task\ndef make():\n    @task(name='{name}')\n    async def run(): ...\nmake()\n",
    ],
    ids=["async def", "task", "periodic", "nested task"],
)
def test_each_kind_of_task_counts(folder: Path, request: pytest.FixtureRequest, code: str) -> None:
    name = f"counts_{request.node.callspec.indices['code']}"
    (folder / f"{name}.py").write_text(code.replace("{name}", name))

    app_loading.load(f"{name}.py")
    app_loading.load(name)


@pytest.mark.parametrize(
    "code",
    ["", "def run(): ...\n", "async def _run(): ...\n", "from asyncio import sleep\n", "async def run():\n    yield\n"],
)
def test_module_without_a_task_is_refused(folder: Path, request: pytest.FixtureRequest, code: str) -> None:
    name = f"holds_none_{request.node.callspec.indices['code']}"
    (folder / f"{name}.py").write_text(code)

    with pytest.raises(AppNotFound, match="holds no task"):
        app_loading.load(name)
