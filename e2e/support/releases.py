"""A release of the chart, by the real Helm."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml

from cluster.kit import Kit
from cluster.processes import output_of
from support.deployments import database_secret
from support.ledger import TASKS_FILE
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster.cluster import Cluster, Manifest

    Shell = Callable[[str], str]

CHART = ROOT / "charts" / "pgscheduler"
OLDEST_HELM, MIDDLE_HELM, NEWEST_HELM = "3.19.0", "4.2.3", "4.3.1"
_LEDGER = "ledger-tasks"
_SECONDS = 180


def rendered(cluster: Cluster, namespace: str, name: str, **values: Any) -> list[Manifest]:
    """What the chart makes of some values, but for its hooks and CRDs."""
    command = [str(program(NEWEST_HELM)), "template", name, str(CHART), "--namespace", namespace, "--no-hooks"]
    told = output_of([*command, "--values", "-"], given=json.dumps(values), env=cluster.env)
    return [manifest for manifest in yaml.safe_load_all(told) if manifest]


def program(version: str) -> Path:
    return Kit.from_environment().helm / f"helm-{version}"


def with_ledger(*, workers: int = 2, **more: Any) -> dict[str, Any]:
    """Workers that know the ledger's tasks, from the ConfigMap and the Secret of `ledger_and_secret`."""
    scaling = {"minReplicas": workers, "maxReplicas": workers}
    worker = {
        "apps": [f"/tasks/{TASKS_FILE.name}"],
        "shutdownSeconds": 3,
        "slots": 10,
        "pools": {"default": {"spec": {"autoscaling": scaling, "drain": {"timeoutSeconds": 3}}}},
        "extraVolumes": [{"name": "tasks", "configMap": {"name": _LEDGER}}],
        "extraVolumeMounts": [{"name": "tasks", "mountPath": "/tasks"}],
    }
    return {"database": {"existingSecret": "pgscheduler-database", "allowInsecure": True}, "worker": worker, **more}


def ledger_and_secret(dsn: str) -> tuple[Manifest, Manifest]:
    """What `with_ledger` names."""
    data = {TASKS_FILE.name: TASKS_FILE.read_text()}
    ledger = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _LEDGER}, "data": data}
    return database_secret(dsn), ledger


class Release:
    """One release in a namespace, and the helm that it is handled with."""

    def __init__(self, cluster: Cluster, namespace: str, helm: Path, *, name: str = "shop") -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._helm = helm
        self._name = name

    def install(self, chart: Path = CHART, /, **values: Any) -> str:
        """What helm prints once everything is ready."""
        return self._run("install", self._name, str(chart), "--wait", values=values)

    def upgrade(self, **values: Any) -> str:
        return self._run("upgrade", self._name, str(CHART), "--wait", values=values)

    def change(self, one: str) -> str:
        """Upgrade with one value set, all others as they are."""
        return self._run("upgrade", self._name, str(CHART), "--wait", "--reuse-values", "--set", one)

    def rollback(self, revision: int) -> str:
        return self._run("rollback", self._name, str(revision), "--wait")

    def test(self) -> None:
        """Raises if it fails."""
        assert re.search(r"^Phase: +Succeeded$", self._run("test", self._name), re.MULTILINE)

    def uninstall(self) -> str:
        return self._run("uninstall", self._name, "--wait")

    def is_there(self) -> bool:
        listed = [str(self._helm), "list", "--namespace", self._namespace, "--short"]
        return self._name in output_of(listed, env=self._cluster.env).split()

    def _run(self, *arguments: str, values: dict[str, Any] | None = None) -> str:
        __tracebackhide__ = True
        given = () if values is None else ("--values", "-")
        return output_of(
            [str(self._helm), *arguments, "--namespace", self._namespace, "--timeout", f"{_SECONDS}s", *given],
            given="" if values is None else json.dumps(values),
            env=self._cluster.env,
            timeout_seconds=_SECONDS + 20,
        )
