"""What is installed is what was locked: each package by version and hash, as pyproject.toml asks for it."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@cache
def pins(name: str) -> dict[str, str]:
    """Versions by package."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return {
        canonicalize_name(package): version
        for package, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    }


def asked_for(*extras: str) -> list[Requirement]:
    """What the project needs with these extras, those within them opened."""
    found: list[Requirement] = []
    for text in [
        *PROJECT["dependencies"],
        *(one for extra in extras for one in PROJECT["optional-dependencies"][extra]),
    ]:
        requirement = Requirement(text)
        found += asked_for(*requirement.extras) if requirement.name == PROJECT["name"] else [requirement]
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_of_a_lock_has_one_version_and_its_hashes(lock: Path) -> None:
    entries = re.findall(r"^[^#\s].*(?:\n .*)*", lock.read_text(), re.MULTILINE)

    assert entries
    assert [
        entry for entry in entries if not re.match(r"[\w.-]+==[^\s*]+", entry) or "--hash=sha256:" not in entry
    ] == []


@pytest.mark.parametrize(("lock", "extras"), [("dev", [*PROJECT["optional-dependencies"]]), ("image", ["image"])])
def test_a_lock_has_what_the_project_asks_for(lock: str, extras: list[str]) -> None:
    """`make lock` was forgotten, else."""
    amiss = {
        str(requirement): pins(lock).get(canonicalize_name(requirement.name))
        for requirement in asked_for(*extras)
        if not requirement.specifier.contains(
            pins(lock).get(canonicalize_name(requirement.name), "0"), prereleases=True
        )
    }

    assert amiss == {}


def test_what_is_tested_is_what_the_image_has() -> None:
    assert {package: version for package, version in pins("image").items() if pins("dev").get(package) != version} == {}


def test_nothing_of_the_image_is_installed_without_its_hash() -> None:
    """From an index, that is; the project's own wheel was built beside."""
    steps = re.findall(r"/pip .*\b(?:install|wheel) .*", (ROOT / "Dockerfile").read_text())

    assert len(steps) >= 5
    assert [step for step in steps if "--require-hashes" not in step and "--no-deps" not in step] == []
