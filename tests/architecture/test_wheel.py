"""The wheel: what it holds, and that its base install needs three packages and no more."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.databases import EMPTY
from support.older_package import fill
from support.paths import ROOT
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = {"asyncpg", "cronsim", "tzdata"}
SCRIPT = ROOT / "tests" / "fixtures" / "older" / "script.py"
LOADED = """
import json, sys
before = set(sys.modules)
import pg_scheduler
added = [sys.modules[name] for name in set(sys.modules) - before]
foreign = [module for module in added if "site-packages" in (getattr(module, "__file__", None) or "")]
print(json.dumps(sorted({module.__name__.partition(".")[0] for module in foreign})))
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True)
    (wheel,) = folder.glob("pgscheduler-*-py3-none-any.whl")
    return wheel


@pytest.fixture(scope="session")
def base_install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and its base dependencies, made without a network."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in BASE:
        copy_distribution(name, site)
    return folder / "bin" / "python"


def copy_distribution(name: str, site: Path) -> None:
    for file in importlib.metadata.files(name) or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), site / file)


def packages_loaded(python: Path) -> set[str]:
    run = subprocess.run([python, "-I", "-c", LOADED], cwd="/", capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


def test_import_works_with_the_base_install(base_install: Path) -> None:
    assert packages_loaded(base_install) <= BASE | {"pg_scheduler"}


def test_import_loads_no_optional_package_that_is_there() -> None:
    assert packages_loaded(Path(sys.executable)) <= BASE | {"pg_scheduler"}


@pytest.mark.parametrize("history", ["first-run", "adopted"])
async def test_a_script_for_the_older_package_runs_unchanged_on_the_base_install(
    base_install: Path, new_database: Callable[..., str], history: str
) -> None:
    dsn = new_database(template=EMPTY)
    if history == "adopted":
        await fill(dsn)

    run = await asyncio.create_subprocess_exec(
        base_install, "-I", SCRIPT, dsn, history, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(run.communicate(), PATIENCE)

    assert out.decode() == "ran unchanged\n", err.decode()


def test_base_install_requires_only_its_three_dependencies(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    required = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert set(required) == BASE


def test_base_install_names_the_extra_of_the_command_line(base_install: Path) -> None:
    run = subprocess.run(
        [base_install, "-I", "-m", "pg_scheduler"], cwd="/", capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "pip install 'pgscheduler[cli]'" in run.stderr
    assert "Traceback" not in run.stderr


def test_wheel_holds_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {"pg_scheduler": ROOT / "worker", "pg_scheduler_operator": ROOT / "operator"}
    packages = {
        path.relative_to(folder).as_posix()
        for package, folder in sources.items()
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    added = held - packages
    assert packages - held == set()
    assert {
        name
        for name in added
        if not name.startswith(("pg_scheduler_operator/crds/", "pg_scheduler_operator/examples/"))
    } == set()
    assert "pg_scheduler_operator/examples/tasks.py" in added
