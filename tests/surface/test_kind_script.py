"""e2e/kind/run.sh where there is no Docker: what it asks of docker, go, helm and kubectl, each of them a stub.

It is the one script that is tested so: nothing here can start a container the way Docker does. In the cluster tier
e2e/chart/test_kind.py runs it by the real helm and kubectl.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

import pg_scheduler
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_SCRIPT = ROOT / "e2e" / "kind" / "run.sh"
_PROGRAMS = ("docker", "go", "helm", "kubectl")
_COREUTILS = ("bash", "cat", "dirname", "git", "mktemp", "rm", "sed")
_IMAGE = f"pgscheduler:{pg_scheduler.__version__}"
# Writes down what it is asked; kind has the clusters CLUSTERS; it fails at the call that FAILS_AT begins.
_STUB = """#!/bin/bash
call="${0##*/} $*"
echo "$call" >> "$CALLS"
case "$call" in *"kind get clusters") echo "${CLUSTERS:-}" ;; esac
case "$call" in "${FAILS_AT:-nothing}"*) exit 1 ;; esac
"""


class Machine:
    """A PATH of stubs, and what was asked of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = folder / "bin"
        self._programs.mkdir()
        for name in _COREUTILS:
            (self._programs / name).symlink_to(shutil.which(name) or f"/bin/{name}")
        for name in _PROGRAMS:
            (self._programs / name).write_text(_STUB)
            (self._programs / name).chmod(0o755)

    def without(self, *names: str) -> None:
        for name in names:
            (self._programs / name).unlink()

    def run(self, **env: str) -> subprocess.CompletedProcess[str]:
        given = {"PATH": str(self._programs), "TMPDIR": str(self._folder), "CALLS": str(self._folder / "calls")}
        return subprocess.run([_SCRIPT], env=given | env, capture_output=True, text=True, check=False)

    @property
    def calls(self) -> list[str]:
        """Without the checkout's place."""
        written = self._folder / "calls"
        text = written.read_text() if written.exists() else ""
        return [re.sub(r"^go -C \S+ tool ", "", line) for line in text.replace(f"{ROOT}/", "").splitlines()]

    def kubeconfigs(self) -> list[Path]:
        return [*self._folder.glob("tmp*")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_steps_from_the_image_to_the_end_of_the_cluster(machine: Machine) -> None:
    ended = machine.run()

    assert (ended.returncode, ended.stderr) == (0, "")
    assert [" ".join(call.split()[:3]) for call in machine.calls] == [
        "docker info",
        "kind get clusters",
        "docker build --tag",
        "kind create cluster",
        "kind load docker-image",
        "helm install shop",
        "helm test shop",
        "kubectl --namespace shop",
        "kubectl --namespace shop",
        "helm uninstall shop",
        "kubectl delete namespace",
        "kind delete cluster",
    ]
    assert f"docker build --tag {_IMAGE} --build-arg VERSION={pg_scheduler.__version__} " in machine.calls[2]
    assert f"kind load docker-image {_IMAGE} " in machine.calls[4]
    assert "apply -f examples/manifests/hello.yaml" in machine.calls[7]
    assert machine.kubeconfigs() == []
    assert ended.stdout.endswith("=== all is well\n=== delete the cluster\n")


def test_chart_is_installed_as_the_readme_says(machine: Machine) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (told,) = re.findall(r"^helm install shop [^`]*?examples\.tasks\}'$", readme, re.MULTILINE)

    machine.run()

    assert machine.calls[5].split() == told.replace("\\\n", " ").replace("'", "").split()


@pytest.mark.parametrize("call", ["helm install", "helm test", "kubectl --namespace shop wait"])
def test_a_step_that_fails_ends_it_shows_why_and_the_cluster_goes(machine: Machine, call: str) -> None:
    ended = machine.run(FAILS_AT=call)

    assert ended.returncode == 1
    assert [asked.split()[3] for asked in machine.calls[-4:-1]] == ["get", "get", "logs"]
    assert machine.calls[-1].startswith("kind delete cluster")
    assert machine.kubeconfigs() == []
    assert "all is well" not in ended.stdout


def test_kept_cluster_stays_and_its_kubeconfig_is_told(machine: Machine) -> None:
    ended = machine.run(KEEP="yes")

    assert not any(call.startswith("kind delete") for call in machine.calls)
    assert "delete it with: go -C " in ended.stdout
    (kubeconfig,) = machine.kubeconfigs()
    assert f"look at it with: export KUBECONFIG={kubeconfig}\n" in ended.stdout


def test_a_cluster_that_is_there_already_is_left_alone(machine: Machine) -> None:
    ended = machine.run(CLUSTERS="other\npgscheduler-e2e")

    assert ended.returncode == 2
    assert "there is a cluster pgscheduler-e2e already; delete it with: go -C " in ended.stderr
    assert machine.calls == ["docker info", "kind get clusters"]


@pytest.mark.parametrize("call", ["go -C", "docker build"])
def test_nothing_is_deleted_where_nothing_was_made(machine: Machine, call: str) -> None:
    ended = machine.run(FAILS_AT=call)

    assert ended.returncode == 1
    assert not any(call.startswith("kind delete") for call in machine.calls)


def test_what_is_missing_is_named_and_nothing_begins(machine: Machine) -> None:
    machine.without("docker", "helm")

    ended = machine.run()

    assert (ended.returncode, ended.stderr) == (2, "not on PATH: docker helm\n")
    assert machine.calls == []


def test_docker_without_its_daemon_is_named(machine: Machine) -> None:
    ended = machine.run(FAILS_AT="docker info")

    assert ended.returncode == 2
    assert "no Docker daemon answers" in ended.stderr
    assert machine.calls == ["docker info"]


def test_kind_is_pinned() -> None:
    assert re.search(r"^tool sigs\.k8s\.io/kind$", (_SCRIPT.parent / "go.mod").read_text(), re.MULTILINE)
    assert re.search(r"^sigs\.k8s\.io/kind v\S+ h1:", (_SCRIPT.parent / "go.sum").read_text(), re.MULTILINE)
