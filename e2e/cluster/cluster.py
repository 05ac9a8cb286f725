"""A real Kubernetes cluster inside the sandbox, for as long as a with-block.

Invariant: entered means usable: the API server is ready, the controllers run, every node is Ready. Left means gone, so
that another cluster may follow in the same sandbox. Nothing waits for a time, only for signals, and a wait ends at once
with the log of the server that died.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from cluster import dns, network, sandbox
from cluster.api import Api, Request
from cluster.api_proxy import ApiProxy
from cluster.components import ControlPlane
from cluster.kit import Kit
from cluster.node import Node
from cluster.pki import Authority, write_kubeconfig
from cluster.processes import CommandError, Component, output_of
from cluster.progress import Progress
from cluster.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

T = TypeVar("T")
Manifest = dict[str, Any]

_START_SECONDS = 60
_NAMESPACES = "/api/v1/namespaces"
_STATE = Path("/run/pgscheduler-e2e/state")
_RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


class Cluster:
    """Configuration and logs stay in `workdir`. One cluster runs at a time."""

    def __init__(
        self, workdir: Path, *, nodes: int = 0, kit: Kit | None = None, progress: Progress | None = None
    ) -> None:
        self.workdir = workdir
        workdir.mkdir(parents=True, exist_ok=True)
        self.gateway = network.GATEWAY
        self.nodes: list[Node] = []
        self._node_numbers = count(1)  # none twice: what a node leaves behind stays
        self._initial_nodes = nodes
        self._kit = kit or Kit.from_environment()
        self._progress = progress or Progress()
        self._cgroup = sandbox.cgroup()
        self._authority = Authority(workdir / "pki")
        admin = self._authority.issue("admin", "/O=system:masters/CN=admin", usage="clientAuth")
        self._control_plane = ControlPlane(
            binaries=self._kit.binaries, folder=workdir, state=_STATE, authority=self._authority
        )
        self.kubeconfig = self._control_plane.kubeconfig("admin", admin)
        self.api = Api(self._authority.own.certificate, admin)
        self.env = self._environment()
        self._components: list[Component] = []
        self._teardown = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as teardown:
            teardown.callback(self._stop)
            self._start()
            teardown.enter_context(dns.serving(self.api, self.gateway))
            self._teardown = teardown.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._teardown.close()

    def add_node(self) -> Node:
        """One more machine: n1, n2, … Returns when it is Ready."""
        node = self._new_node()
        with self._progress.phase(f"node {node.name}"):
            node.start()
        return node

    def remove_node(self, node: Node) -> None:
        """Switch it off and make Kubernetes forget it."""
        node.kill()
        self.nodes.remove(node)
        self.kubectl("delete", "node", node.name, "--ignore-not-found")

    def kubectl(self, *arguments: str, stdin: str = "", timeout_seconds: float = 60) -> str:
        """What it prints, as the cluster's admin; CommandError has what it complains about."""
        __tracebackhide__ = True
        command = [str(self._kit.binaries / "kubectl"), *arguments]
        return output_of(command, given=stdin, env=self.env, timeout_seconds=timeout_seconds)

    def shell(self, script: str, *, folder: Path, timeout_seconds: float = 60) -> str:
        """What lines for a shell print that begin in a folder, with our kubectl as the cluster's admin."""
        __tracebackhide__ = True
        env = {**self.env, "PATH": f"{self._kit.binaries}:{self.env['PATH']}"}
        command = ["sh", "-e", "-c", f'cd "$0"\n{script}', str(folder)]
        return output_of(command, env=env, timeout_seconds=timeout_seconds)

    def apply(self, manifests: str | Manifest | Iterable[Manifest], *, namespace: str = "default") -> None:
        """YAML, one object or several."""
        self.kubectl("apply", "--namespace", namespace, "--filename", "-", stdin=_to_text(manifests))

    @contextmanager
    def namespace(self) -> Iterator[str]:
        """A fresh one under restricted Pod Security. Its end, 5 to 10 s of work, is not waited for."""
        name = f"t-{secrets.token_hex(4)}"
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": _RESTRICTED}}
        self.api.send_all([Request(method="POST", path=_NAMESPACES, body=manifest)])
        # Without its default ServiceAccount, pods are refused.
        self.wait(f"namespace {name}", lambda: self._has_service_account(name))
        try:
            yield name
        finally:
            if self.api.get(f"{_NAMESPACES}/{name}"):
                self.api.send_all([Request(method="DELETE", path=f"{_NAMESPACES}/{name}")])

    @contextmanager
    def api_proxy(self) -> Iterator[ApiProxy]:
        """Another address of the API server, which fails when a test wants it to."""
        serving = self._authority.issue("api-proxy", "/CN=api-proxy", usage="serverAuth", names=["IP:127.0.0.1"])
        authority = self._authority.own.certificate
        with ApiProxy(network.API_SERVER_URL, authority=authority, serving=serving) as proxy:
            yield proxy

    def service_account_kubeconfig(self, namespace: str, name: str, *, server: str = network.API_SERVER_URL) -> Path:
        """For a local process that is to act under the account's own rights. The account must exist."""
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration=4h").strip()
        return write_kubeconfig(
            self.workdir / f"{namespace}.{name}.{urlsplit(server).port}.kubeconfig",
            server=server,
            authority=self._authority.own.certificate,
            user={"token": token},
            namespace=namespace,
        )

    def wait(self, what: str, probe: Callable[[], T], *, timeout_seconds: float = 30) -> T:
        """The first true answer of the probe; ends early if a server or node dies by itself."""
        __tracebackhide__ = True
        return wait_for(what, probe, timeout_seconds=timeout_seconds, check=self.check)

    def check(self) -> None:
        """Raise if something died that nobody killed."""
        for component in self._components:
            component.check()
        for node in self.nodes:
            node.check()

    def report(self, namespace: str) -> str:
        """What one wants to see of a namespace when its test has failed."""
        asked = [
            ("get", "pods", "--output", "wide"),
            ("get", "pgs", "--output", "wide"),
            ("get", "events", "--sort-by", ".lastTimestamp"),
            *(("logs", pod, "--all-containers", "--prefix", "--tail", "50") for pod in self._pods(namespace)),
        ]
        return "\n".join(self._attempt("--namespace", namespace, *arguments) for arguments in asked)

    def logs_on_failure(self) -> str:
        """Where to look."""
        return f"logs of the cluster's servers: {self.workdir}/*.log, of its nodes: {self.workdir}/n*/*.log"

    def _environment(self) -> dict[str, str]:
        # Discovery and Helm's caches go by host and port, which every cluster shares: each has its own.
        caches = {
            "KUBECACHEDIR": "kube-cache",
            "HELM_CACHE_HOME": "helm/cache",
            "HELM_CONFIG_HOME": "helm/config",
            "HELM_DATA_HOME": "helm/data",
        }
        return {
            **os.environ,
            **{name: str(self.workdir / folder) for name, folder in caches.items()},
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": f"{self._kit.binaries}{os.pathsep}{os.environ['PATH']}",
        }

    def _start(self) -> None:
        _STATE.mkdir(parents=True)
        network.raise_bridge()
        nodes = [self._new_node() for _ in range(self._initial_nodes)]
        with self._progress.phase("API server"):
            self._run("etcd", self._control_plane.etcd())
            self._run("kube-apiserver", self._control_plane.api_server())
            for node in nodes:
                node.launch()
            self.wait("API server", self.api.is_ready, timeout_seconds=_START_SECONDS)
        with self._progress.phase("controllers"):
            self._run("kube-controller-manager", self._control_plane.controller_manager())
            self._run("kube-scheduler", self._control_plane.scheduler())
            self.wait("controllers", lambda: self._has_service_account("default"), timeout_seconds=_START_SECONDS)
        for node in nodes:
            with self._progress.phase(f"node {node.name}"):
                node.wait_ready()

    def _new_node(self) -> Node:
        node = Node(
            next(self._node_numbers),
            folder=self.workdir,
            cgroup=self._cgroup,
            kit=self._kit,
            authority=self._authority,
            api=self.api,
        )
        self.nodes.append(node)
        return node

    def _run(self, name: str, command: list[str]) -> None:
        self._components.append(Component.start(name, command, self.workdir / f"{name}.log"))

    def _stop(self) -> None:
        for node in self.nodes:
            node.kill()
        for component in reversed(self._components):
            component.kill()
        network.remove_bridge()
        shutil.rmtree(_STATE)

    def _has_service_account(self, namespace: str) -> bool:
        return self.api.get(f"{_NAMESPACES}/{namespace}/serviceaccounts/default") is not None

    def _pods(self, namespace: str) -> list[str]:
        try:
            return self.kubectl("get", "pods", "--namespace", namespace, "--output", "name").split()
        except CommandError:  # told by the first thing that is asked
            return []

    def _attempt(self, *arguments: str) -> str:
        try:
            return self.kubectl(*arguments)
        except CommandError as error:
            return str(error)


def _to_text(manifests: str | Manifest | Iterable[Manifest]) -> str:
    if isinstance(manifests, str):
        return manifests
    if isinstance(manifests, dict):  # by itself: kubectl leaves no validation of lists to the API server
        return json.dumps(manifests)
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [*manifests]})
