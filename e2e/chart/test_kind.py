"""e2e/kind/run.sh by the real helm and kubectl, on the session's cluster: only docker and kind are played."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.paths import ROOT
from support.releases import NEWEST_HELM, program

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.cluster import Cluster

_SECONDS = 280
# A new cluster of kind's is told by the kubeconfig that it writes.
_GO = """#!/bin/sh
case "$*" in *'tool kind create cluster'*) cat '{kubeconfig}' > "$KUBECONFIG" ;; esac
"""


@pytest.fixture
def programs(cluster: Cluster, tmp_path: Path) -> Path:
    """What stands first on the PATH of somebody who runs the script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "helm").symlink_to(program(NEWEST_HELM))
    for name, script in {"docker": "#!/bin/sh\n", "go": _GO.format(kubeconfig=cluster.kubeconfig)}.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.usefixtures("volume", "leaves_nothing")
def test_the_kind_script_comes_from_an_empty_cluster_to_a_job_and_back(cluster: Cluster, programs: Path) -> None:
    shown = cluster.shell(f"PATH={programs}:$PATH\ne2e/kind/run.sh", folder=ROOT, timeout_seconds=_SECONDS)

    assert "scheduledjob.pgscheduler.io/hello condition met" in shown
    assert shown.endswith("=== all is well\n=== delete the cluster\n")
    assert "shop" not in cluster.kubectl("get", "namespaces", "--output=name")
