"""The files of a node: containerd's and the kubelet's configuration, and the pods' network.

Invariant: pure text from a `NodeFiles`, and every path in it is either in the node's own /run or in its folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import dns, network

if TYPE_CHECKING:
    from cluster.pki import Credentials

CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
PAUSE_IMAGE = "localhost/pause:1"
_NOTHING_EVICTS = dict.fromkeys(
    (
        "imagefs.available",
        "imagefs.inodesFree",
        "memory.available",
        "nodefs.available",
        "nodefs.inodesFree",
        "pid.available",
    ),
    "0%",  # with the sign: a plain 0 does not switch it off
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFiles:
    number: int
    folder: Path
    cgroup: str
    authority: Path
    serving: Credentials
    runc: Path
    cni: Path
    containerd_major: int

    def write(self) -> None:
        (self.folder / "cni").mkdir(parents=True)
        for name in ("pods", "volume-plugins"):
            (self.folder / name).mkdir()
        (self.folder / "cni" / "10-e2e.conflist").write_text(json.dumps(self._pod_network()))
        (self.folder / "containerd.toml").write_text(self._containerd())
        (self.folder / "kubelet.json").write_text(json.dumps(self._kubelet(), indent=2))

    def _pod_network(self) -> dict[str, object]:
        first, last = network.pod_addresses(self.number)
        addresses = {
            "subnet": network.POD_RANGE,
            "rangeStart": first,
            "rangeEnd": last,
            "gateway": network.GATEWAY,
        }
        bridge = {
            "type": "bridge",
            "bridge": network.BRIDGE,
            "isGateway": True,
            "isDefaultGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "dataDir": "/run/cni-addresses", "ranges": [[addresses]]},
        }
        return {"cniVersion": "0.4.0", "name": "e2e", "plugins": [bridge]}

    def _containerd(self) -> str:
        """Version 2 of the settings is read by containerd 1.x, version 3 by 2.x, and the plugins are named anew."""
        if self.containerd_major == 1:
            version, runtime = 2, "io.containerd.grpc.v1.cri"
            pause = f'[plugins."{runtime}"]\nsandbox_image = "{PAUSE_IMAGE}"'
            cni_folder = f'bin_dir = "{self.cni}"'
        else:
            version, runtime = 3, "io.containerd.cri.v1.runtime"
            images = '[plugins."io.containerd.cri.v1.images".pinned_images]'
            pause = f'{images}\nsandbox = "{PAUSE_IMAGE}"\n[plugins."{runtime}"]'
            cni_folder = f'bin_dirs = ["{self.cni}"]'
        # Without restrict_oom_score_adj no pod starts where the score may not be lowered.
        return f"""\
version = {version}
root = "/run/containerd-root"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{CONTAINERD_SOCKET}"
{pause}
restrict_oom_score_adj = true
disable_apparmor = true
tolerate_missing_hugetlb_controller = true
disable_hugetlb_controller = true
[plugins."{runtime}".cni]
{cni_folder}
conf_dir = "{self.folder / "cni"}"
[plugins."{runtime}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."{runtime}".containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{self.runc}"
"""

    def _kubelet(self) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": network.node_address(self.number),
            "port": 10250,
            "readOnlyPort": 0,
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.authority)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(self.serving.certificate),
            "tlsPrivateKeyFile": str(self.serving.key),
            "rotateCertificates": False,
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",  # else /kubepods stays behind
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "maxOpenFiles": 20000,
            "maxPods": 60,
            "podLogsDir": str(self.folder / "pods"),
            "volumePluginDir": str(self.folder / "volume-plugins"),
            "resolvConf": "",
            "clusterDNS": [network.GATEWAY],
            "clusterDomain": dns.DOMAIN,
            "evictionHard": _NOTHING_EVICTS,
            "imageGCHighThresholdPercent": 100,
            "makeIPTablesUtilChains": False,
            # A node that misses its lease is dead soon: see the controller manager's flags.
            "nodeStatusUpdateFrequency": "2s",
            "nodeLeaseDurationSeconds": 8,
            "kubeAPIQPS": 100,
            "kubeAPIBurst": 200,
            "logging": {"verbosity": 2},
        }
