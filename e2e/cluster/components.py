"""The command lines of the control plane.

Invariant: pure; what is started, and in which order, is the cluster's to decide. The controller manager and the
scheduler must find a ready API server, or they back off for seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster import network
from cluster.pki import certificate_user, write_kubeconfig

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.pki import Authority, Credentials

_ETCD = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"
_API_SERVER_NAMES = (
    f"IP:{network.API_SERVER}",
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
    "DNS:kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """The four servers of a cluster without nodes."""

    binaries: Path
    folder: Path
    state: Path
    authority: Authority

    def etcd(self) -> list[str]:
        return [
            str(self.binaries / "etcd"),
            "--name=e2e",
            f"--data-dir={self.state / 'etcd'}",
            "--log-level=warn",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            f"--listen-peer-urls={_ETCD_PEER}",
            f"--initial-advertise-peer-urls={_ETCD_PEER}",
            f"--initial-cluster=e2e={_ETCD_PEER}",
            "--unsafe-no-fsync",  # it lives in memory and as long as the sandbox
        ]

    def api_server(self) -> list[str]:
        authority = self.authority.own.certificate
        serving = self.authority.issue("apiserver", "/CN=kube-apiserver", usage="serverAuth", names=_API_SERVER_NAMES)
        to_kubelets = self.authority.issue(
            "apiserver-kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", usage="clientAuth"
        )
        signing, checking = self.authority.service_account_key()
        return [
            str(self.binaries / "kube-apiserver"),
            f"--etcd-servers={_ETCD}",
            f"--bind-address={network.API_SERVER}",
            f"--advertise-address={network.API_SERVER}",
            "--secure-port=443",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={authority}",
            f"--kubelet-client-certificate={to_kubelets.certificate}",
            f"--kubelet-client-key={to_kubelets.key}",
            f"--kubelet-certificate-authority={authority}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={checking}",
            f"--service-account-signing-key-file={signing}",
            f"--service-cluster-ip-range={network.SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--profiling=false",
        ]

    def controller_manager(self) -> list[str]:
        signing = self.authority.folder / "service-accounts.key"
        return [
            str(self.binaries / "kube-controller-manager"),
            *self._as_leaderless_client("kube-controller-manager"),
            "--use-service-account-credentials=true",
            f"--root-ca-file={self.authority.own.certificate}",
            f"--service-account-private-key-file={signing}",
            # Its default lies in /usr, which it tries to write to.
            f"--flex-volume-plugin-dir={self.folder / 'volume-plugins'}",
            # A dead node is NotReady after 10 s instead of 50 s; node_files has the kubelet's side of it.
            "--node-monitor-grace-period=10s",
            "--node-monitor-period=1s",
        ]

    def scheduler(self) -> list[str]:
        return [str(self.binaries / "kube-scheduler"), *self._as_leaderless_client("kube-scheduler")]

    def _as_leaderless_client(self, name: str) -> list[str]:
        credentials = self.authority.issue(name, f"/CN=system:{name}", usage="clientAuth")
        return [
            f"--kubeconfig={self.kubeconfig(name, credentials)}",
            "--secure-port=0",
            "--leader-elect=false",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        ]

    def kubeconfig(self, name: str, credentials: Credentials) -> Path:
        return write_kubeconfig(
            self.folder / f"{name}.kubeconfig",
            server=network.API_SERVER_URL,
            authority=self.authority.own.certificate,
            user=certificate_user(credentials),
        )
