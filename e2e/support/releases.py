"""A release of the chart, by the real Helm."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from cluster.image import PROJECT_IMAGE
from cluster.processes import output_of
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.cluster import Cluster

CHART = ROOT / "charts" / "pgscheduler"
OLDEST_HELM, NEWEST_HELM = "3.19.0", "4.3.1"
NAME = "shop"
DEV_VOLUME = "dev-database"
_REPOSITORY, _, _TAG = PROJECT_IMAGE.rpartition(":")
_IMAGE = {"image": {"repository": _REPOSITORY, "tag": _TAG}}
_SECONDS = 180


class Release:
    """One release in a namespace, and the helm that it is handled with."""

    def __init__(self, cluster: Cluster, namespace: str, helm: Path) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._helm = helm
        self.is_installed = False

    def install(self, **values: Any) -> str:
        """What helm prints once everything is ready."""
        self.is_installed = True
        return self._run("install", NAME, str(CHART), "--wait", values=values)

    def upgrade(self, **values: Any) -> str:
        return self._run("upgrade", NAME, str(CHART), "--wait", values=values)

    def rollback(self, revision: int) -> str:
        return self._run("rollback", NAME, str(revision), "--wait")

    def test(self) -> None:
        """Raises if it fails."""
        assert re.search(r"^Phase: +Succeeded$", self._run("test", NAME), re.MULTILINE)

    def uninstall(self) -> str:
        told = self._run("uninstall", NAME, "--wait")
        self.is_installed = False
        return told

    def _run(self, *arguments: str, values: dict[str, Any] | None = None) -> str:
        __tracebackhide__ = True
        given = () if values is None else ("--values", "-")
        return output_of(
            [str(self._helm), *arguments, "--namespace", self._namespace, "--timeout", f"{_SECONDS}s", *given],
            given="" if values is None else json.dumps(_IMAGE | values),
            env=self._cluster.env,
            timeout_seconds=_SECONDS + 20,
        )
