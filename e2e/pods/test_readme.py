"""The README's own commands, from an empty namespace to a job that has run."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from cluster.image import PROJECT_IMAGE
from support.deployments import NO_TLS
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.cluster import Cluster
    from cluster.postgres import Database

_PLACEHOLDER = "postgresql://user:password@host:5432/database"
_NAMESPACE = "billing"
# Other tests have installed the operator already: what a new user creates is made to be as the README says.
_CREATE = re.compile(r"^(kubectl (?:-n \S+ )?create .*?[^\\])$", re.MULTILINE | re.DOTALL)


def blocks() -> list[str]:
    """What the section tells its reader to run."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## In Kubernetes\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The folders that the commands name, with the image that the nodes have and the database's lack of TLS."""
    for name in ("crds", "deploy", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for path in (tmp_path / "deploy").rglob("*.yaml"):
        path.write_text(re.sub(r"(image: )pgscheduler:\S+", rf"\g<1>{PROJECT_IMAGE}", path.read_text()))
        path.write_text(
            path.read_text().replace("          env:\n", f"          env:\n            - {json.dumps(NO_TLS)}\n")
        )
    return tmp_path


@pytest.fixture
def billing(cluster: Cluster) -> Iterator[None]:
    """The README's own namespace, gone afterwards."""
    yield
    cluster.kubectl("delete", "namespace", _NAMESPACE, "--ignore-not-found", "--wait=false")


@pytest.mark.usefixtures("billing", "operator_namespace")
def test_commands_of_the_readme_run_the_examples(
    cluster: Cluster, operators_database: Database, checkout: Path
) -> None:
    for block in blocks():
        script = _CREATE.sub(r"\1 --dry-run=client --output=yaml | kubectl apply --filename -", block)
        script = script.replace(_PLACEHOLDER, operators_database.pod_dsn)
        shown = cluster.shell(script, folder=checkout, timeout_seconds=180)

    assert re.search(r"scheduledjob\S*/hello .*True", shown)
    assert "disk-space" in shown
    cluster.kubectl("-n", _NAMESPACE, "wait", "--for=condition=ScalingActive", "--timeout=20s", "wpool/workers")
    assert cluster.get("deployment", "workers", namespace=_NAMESPACE)["spec"]["replicas"] >= 1
