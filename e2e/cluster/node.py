"""A node of the cluster: real kubelet, real containers.

Invariant: `kill` is the death of a machine. It is one signal to one process, after which nothing of the node runs and
nobody was told; `start` brings the same name back empty.
"""

from __future__ import annotations

import re
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import cgroups, network
from cluster.node_files import NodeFiles
from cluster.node_init import NodePlan
from cluster.pki import certificate_user, write_kubeconfig
from cluster.preconditions import cni_folder
from cluster.processes import Component, in_own_namespaces, output_of
from cluster.waiting import wait_for

if TYPE_CHECKING:
    from cluster.api import Api
    from cluster.kit import Kit
    from cluster.pki import Authority

_READY_SECONDS = 90


class Node:
    """Made once by `Cluster.add_node`; started and killed as often as a test likes."""

    def __init__(self, number: int, *, folder: Path, cgroup: str, kit: Kit, authority: Authority, api: Api) -> None:
        self.name = f"n{number}"
        self.address = network.node_address(number)
        self.folder = folder / self.name
        self._number = number
        self._cgroup = f"{cgroup}/{self.name}"
        self._api = api
        self._plan = self._prepare(kit, authority)
        self._machine: Component | None = None
        self._started_at = datetime.now(UTC)

    def start(self) -> None:
        """Switch it on and wait until it is Ready."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        if self._machine is not None:
            self.kill()
        # Kubernetes writes whole seconds.
        self._started_at = datetime.now(UTC).replace(microsecond=0)
        self._machine = Component.start(
            f"node {self.name}",
            in_own_namespaces([sys.executable, "-m", "cluster.node_init", self._plan.to_argument()], "ipc"),
            self.folder / "node.log",
            cwd=Path(__file__).parents[1],
        )

    def wait_ready(self) -> None:
        wait_for(f"node {self.name} Ready", self.is_ready, timeout_seconds=_READY_SECONDS, check=self.check)

    def kill(self) -> None:
        """Kubelet, containerd and all containers die at once. Returns when they are gone."""
        if self._machine is not None:
            self._machine.kill()
            self._machine = None

    def check(self) -> None:
        """Raise if it died by itself."""
        if self._machine is not None:
            self._machine.check()

    def is_ready(self) -> bool:
        """By the kubelet that was started last: what the node's former life left in its status does not count.

        Also without a taint: the one of a node that is not ready goes a moment later, and evicts pods until then.
        """
        found = self._api.get(f"/api/v1/nodes/{self.name}")
        if found is None or found["spec"].get("taints"):
            return False
        return any(
            condition["type"] == "Ready"
            and condition["status"] == "True"
            and datetime.fromisoformat(condition["lastHeartbeatTime"]) >= self._started_at
            for condition in found["status"].get("conditions", [])
        )

    def _prepare(self, kit: Kit, authority: Authority) -> NodePlan:
        runc, cni = shutil.which("runc"), cni_folder()
        if runc is None or cni is None:
            raise FileNotFoundError("runc or the CNI plugins are missing: prepared for the API server only?")
        subject = f"/O=system:nodes/CN=system:node:{self.name}"
        serving = authority.issue(
            f"{self.name}-serving",
            subject,
            usage="serverAuth",
            names=[f"IP:{self.address}", f"DNS:{self.name}"],
        )
        network.add_node_address(self._number)
        cgroups.create(self._cgroup)
        NodeFiles(
            number=self._number,
            folder=self.folder,
            cgroup=self._cgroup,
            authority=authority.own.certificate,
            serving=serving,
            runc=Path(runc),
            cni=cni,
            containerd_major=_containerd_major(),
        ).write()
        kubeconfig = write_kubeconfig(
            self.folder / "kubelet.kubeconfig",
            server=network.API_SERVER_URL,
            authority=authority.own.certificate,
            user=certificate_user(authority.issue(self.name, subject, usage="clientAuth")),
        )
        return NodePlan(
            name=self.name,
            address=self.address,
            folder=str(self.folder),
            kubelet=str(kit.binaries / "kubelet"),
            kubeconfig=str(kubeconfig),
            authority=str(authority.own.certificate),
            images=tuple(map(str, kit.images)),
        )


def _containerd_major() -> int:
    found = re.search(r"\sv?(\d+)\.\d+", output_of(["containerd", "--version"]))
    if found is None:
        raise LookupError("containerd tells no version")
    return int(found.group(1))
