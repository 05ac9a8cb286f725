"""The chart rendered by the real Helm.

Invariant: what a test does not say is as a user would have it: only a database is named.
"""

from __future__ import annotations

import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from support import helm
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Render = Callable[..., list[dict[str, Any]]]

CHART = ROOT / "charts" / "pgscheduler"
VALUES_FILES = sorted((ROOT / "examples" / "values").glob("*.yaml"))
A_DATABASE = ("database.existingSecret=db",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(ROOT / "tests" / "chart"):
            item.add_marker(pytest.mark.needs("helm"))


@cache
def run_helm(*arguments: str, version: str = helm.VERSIONS[-1]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm.program(version), *arguments], capture_output=True, text=True, check=False)


def template(
    *sets: str, values: Path | None = None, version: str = helm.VERSIONS[-1], more: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """``helm template shop`` in the namespace ns."""
    named = A_DATABASE if values is None and not any(one.startswith("database.") for one in sets) else ()
    given = [part for one in (*named, *sets) for part in ("--set", one)]
    files = [] if values is None else ["--values", str(values)]
    return run_helm("template", "shop", str(CHART), "--namespace", "ns", *given, *files, *more, version=version)


@pytest.fixture
def render() -> Render:
    """The objects that the chart makes of some ``--set`` and a values file; ``kind`` picks those of one kind."""

    def rendered(*sets: str, kind: str | None = None, **options: Any) -> list[dict[str, Any]]:
        told = template(*sets, **options)
        assert told.returncode == 0, told.stderr
        bodies = [body for body in yaml.safe_load_all(told.stdout) if body]
        return [body for body in bodies if kind in {None, body["kind"]}]

    return rendered


def pod_specs(bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of everything among them that makes pods."""
    return [
        body["spec"] if body["kind"] == "Pod" else body["spec"]["template"]["spec"]
        for body in bodies
        if body["kind"] in {"Pod", "Job", "Deployment", "StatefulSet"}
    ]
