"""``pgscheduler operator`` and ``crds``: what they need, and what they say when it is not there."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from support.commands import RunCommand

DSN = {"PGSCHEDULER_DSN": "postgresql://app:s3cret@127.0.0.1:1/app"}


def nowhere(tmp_path: Path) -> dict[str, str]:
    """No kubeconfig, and no pod's variables."""
    return {"HOME": str(tmp_path), "KUBECONFIG": "", "KUBERNETES_SERVICE_HOST": ""}


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({}, "$PGSCHEDULER_DSN"),
        ({"PGSCHEDULER_DSN": ""}, "$PGSCHEDULER_DSN"),
        (DSN | {"PGSCHEDULER_CLUSTER_NAME": "No Name"}, "$PGSCHEDULER_CLUSTER_NAME"),
        (DSN | {"PGSCHEDULER_WATCH_NAMESPACES": "good,Bad"}, "$PGSCHEDULER_WATCH_NAMESPACES"),
    ],
)
def test_wrong_setting_is_named(
    pgscheduler: RunCommand, tmp_path: Path, settings: dict[str, str], variable: str
) -> None:
    ended = pgscheduler("operator", env=nowhere(tmp_path) | settings)

    assert variable in ended.require_block("PGS-001", exit_code=2)
    assert "s3cret" not in ended.err


def test_operator_outside_of_kubernetes_says_so(pgscheduler: RunCommand, tmp_path: Path) -> None:
    ended = pgscheduler("operator", env=nowhere(tmp_path) | DSN)

    ended.require_block("PGS-043", exit_code=3)


def test_api_server_that_does_not_answer_is_exit_3(pgscheduler: RunCommand, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{taken.getsockname()[1]}"}}],
            "users": [{"name": "x", "user": {"token": "s3cret"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))

        ended = pgscheduler("operator", env=nowhere(tmp_path) | DSN | {"KUBECONFIG": str(tmp_path / "kubeconfig")})

    ended.require_block("PGS-045", exit_code=3)
    assert "s3cret" not in ended.err


def test_module_is_the_operator_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "pg_scheduler_operator", "--help"], capture_output=True, text=True, check=True
    ).stdout

    assert "Settings are variables" in shown


def test_crds_prints_what_the_repository_holds(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("crds")

    printed = {document["metadata"]["name"]: document for document in yaml.safe_load_all(ended.out)}
    kept = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    assert printed == {document["metadata"]["name"]: document for document in kept}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["periodicjobs.yaml", "scheduledjobs.yaml", "workerpools.yaml"]),
        (["--format", "json-schema"], ["periodicjob.json", "scheduledjob.json", "workerpool.json"]),
    ],
)
def test_crds_and_json_schemas_are_written_as_files(
    pgscheduler: RunCommand, tmp_path: Path, options: list[str], names: list[str]
) -> None:
    ended = pgscheduler("crds", *options, "--output-dir", "a/schemas")

    assert (ended.exit_code, ended.out) == (0, ""), ended
    written = {path.name: yaml.safe_load(path.read_text()) for path in (tmp_path / "a" / "schemas").iterdir()}
    assert sorted(written) == names
    if not options:
        assert written == {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")}


def test_json_schemas_need_a_folder(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("crds", "--format", "json-schema")

    assert ended.exit_code == 2
    assert "--output-dir" in ended.err
