"""The first process of a node: containerd, its images, then the kubelet.

Invariant: the node's processes live in a process and mount namespace of their own, and this is the first of them; when
it ends, or is killed, the kubelet, containerd and every container die in the same instant, as with a machine.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster import mounts
from cluster.api import Api
from cluster.node_files import CONTAINERD_SOCKET
from cluster.processes import CommandError, Component, output_of, tail
from cluster.waiting import wait_for

_KEPT_IN_MEMORY = ("/run", "/var/lib/kubelet", "/var/lib/cni", "/var/log/containers")
_START_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """What the node's first process is told, as JSON in its argument."""

    name: str
    address: str
    folder: str
    kubelet: str
    kubeconfig: str
    authority: str
    images: tuple[str, ...]

    def to_argument(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, argument: str) -> NodePlan:
        return cls(**json.loads(argument))


def _lay_out() -> None:
    for folder in _KEPT_IN_MEMORY:
        mounts.memory(Path(folder))
    for name in ("lock", "containerd", "netns", "kubelet"):
        (Path("/run") / name).mkdir()
    # The sandbox's own is below the /run of before; runc wants it for an exec.
    Path(os.environ["TMPDIR"]).mkdir(parents=True)
    mounts.stand_in_sysctls()


def _containerd(plan: NodePlan) -> Component:
    folder = Path(plan.folder)
    started = Component.start(
        "containerd", ["containerd", "-c", str(folder / "containerd.toml")], folder / "containerd.log"
    )
    wait_for("containerd", _containerd_answers, timeout_seconds=_START_SECONDS, check=started.check)
    for image in plan.images:
        _ctr("images", "import", image)
    return started


def _containerd_answers() -> bool:
    try:
        _ctr("version")
    except CommandError:
        return False
    return True


def _ctr(*arguments: str) -> None:
    output_of(["ctr", "--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io", *arguments])


def _kubelet(plan: NodePlan) -> Component:
    # A kubelet that finds no API server backs off for seconds.
    wait_for("the API server", Api(Path(plan.authority)).is_ready, timeout_seconds=_START_SECONDS)
    folder = Path(plan.folder)
    command = [
        plan.kubelet,
        f"--config={folder / 'kubelet.json'}",
        f"--kubeconfig={plan.kubeconfig}",
        f"--hostname-override={plan.name}",
        f"--node-ip={plan.address}",
        "--root-dir=/run/kubelet",
        "--cert-dir=/run/kubelet/pki",
    ]
    return Component.start("kubelet", command, folder / "kubelet.log")


def _first_to_end(servers: list[Component]) -> Component:
    # Being process 1 here, it is also who reaps the shims that containerd orphans.
    by_process = {server.process.pid: server for server in servers}
    while True:
        ended, _ = os.wait()
        if ended in by_process:
            return by_process[ended]


def main() -> None:
    plan = NodePlan.from_argument(sys.argv[1])
    _lay_out()
    ended = _first_to_end([_containerd(plan), _kubelet(plan)])
    sys.exit(f"{ended.name} of {plan.name} ended; {tail(ended.log)}")


if __name__ == "__main__":
    main()
