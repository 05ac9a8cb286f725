"""The operator and workers as pods of the project's image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from cluster.image import PROJECT_IMAGE
from cluster.processes import CommandError
from support.addresses import path_of
from support.ledger import TASKS_FILE

if TYPE_CHECKING:
    from cluster.cluster import Cluster, Manifest
    from support.tenants import Tenant

_WORKERS = Path(__file__).parents[1] / "pods" / "workers.yaml"
_LEDGER = "ledger-tasks"
_BESIDE_WORKERS = {"labelSelector": {"matchLabels": {"app": "workers"}}, "topologyKey": "kubernetes.io/hostname"}
_ON_ALL_NODES = {
    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": _BESIDE_WORKERS}]
}
_ONE_A_NODE = {"requiredDuringSchedulingIgnoredDuringExecution": [_BESIDE_WORKERS]}
# Evicted from a dead node at once, not after the default of 300 s.
_LEAVE_DEAD_NODES = [
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}
    for key in ("not-ready", "unreachable")
]


def database_secret(dsn: str, *, name: str = "pgscheduler-database") -> Manifest:
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"dsn": dsn}}


def wait_until_operator_serves(cluster: Cluster, namespace: str) -> None:
    """Of a Deployment that was just made, or whose pod was just deleted."""
    deployment = ("--namespace", namespace, "deployment/pgscheduler-operator")

    def serves() -> bool:
        try:
            return "serving" in cluster.kubectl("logs", *deployment)
        except CommandError:  # no container to have a log of
            return False

    cluster.wait("the operator serves", serves, timeout_seconds=60)


def _slow(seconds: int, security: Manifest) -> Manifest:
    command = ["python", "-c", f"import time; time.sleep({seconds})"]
    return {"name": "slow", "image": PROJECT_IMAGE, "command": command, "securityContext": security}


class Deployments:
    """The Deployment `workers` of a tenant: pods/workers.yaml with what a test needs changed."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        tenant.apply(database_secret(tenant.database.pod_dsn))

    def deploy_workers(
        self,
        *,
        replicas: int = 1,
        of_ledger: bool = True,
        start_seconds: int = 0,
        one_a_node: bool = False,
        **variables: str,
    ) -> None:
        """Apply it and wait for its pods.

        `of_ledger`: with the tasks of `ledger_tasks`, not those of the examples. `start_seconds`: what its image would
        take to arrive. `one_a_node`: a node has room for no second one.
        """
        manifest = yaml.safe_load(_WORKERS.read_text())
        manifest["spec"]["replicas"] = replicas
        pod = manifest["spec"]["template"]["spec"]
        pod["affinity"] = {"podAntiAffinity": _ONE_A_NODE if one_a_node else _ON_ALL_NODES}
        pod["tolerations"] = _LEAVE_DEAD_NODES
        (container,) = pod["containers"]
        container["image"] = PROJECT_IMAGE
        container["env"] += [{"name": name, "value": value} for name, value in variables.items()]
        if start_seconds:
            pod["initContainers"] = [_slow(start_seconds, container["securityContext"])]
        if of_ledger:
            self._mount_ledger(pod, container)
        self._tenant.apply(manifest)
        self._tenant.kubectl("rollout", "status", "deployment/workers", "--timeout=120s", timeout_seconds=130)

    def replicas(self) -> int:
        """As wished."""
        wished: int = self._tenant.get("deployment/workers")["spec"]["replicas"]
        return wished

    def scale(self, replicas: int) -> None:
        """By hand, past every pool."""
        self._tenant.kubectl("scale", "deployment/workers", f"--replicas={replicas}")

    def ready(self) -> int:
        """Replicas that are ready; 0 while some that are ending still exist."""
        status = self._tenant.get("deployment/workers")["status"]
        ready: int = status.get("readyReplicas", 0)
        return ready if len(self.pods()) == ready else 0

    def pods(self) -> list[str]:
        """Those that exist, ending ones too."""
        return [pod["metadata"]["name"] for pod in self._pods()]

    def pod_on(self, node: str) -> str:
        """The name of the only one there."""
        (name,) = [pod["metadata"]["name"] for pod in self._pods() if pod["spec"].get("nodeName") == node]
        return str(name)

    def ready_pods(self) -> set[str]:
        """Those that are said to be; one on a dead node is for a while yet."""
        return {pod["metadata"]["name"] for pod in self._pods() if _is_ready(pod)}

    def kill(self, pod: str) -> None:
        """Without a grace, and without waiting for the kubelet to say that it is gone."""
        self._tenant.kubectl("delete", "pod", pod, "--grace-period=0", "--force")

    def _pods(self) -> list[Manifest]:
        found = self._tenant.cluster.api.get(f"{path_of(self._tenant.name, 'pod')}?labelSelector=app%3Dworkers")
        assert found is not None
        pods: list[Manifest] = found["items"]
        return pods

    def _mount_ledger(self, pod: Manifest, container: Manifest) -> None:
        metadata, data = {"name": _LEDGER}, {TASKS_FILE.name: TASKS_FILE.read_text()}
        self._tenant.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
        pod["volumes"] = [{"name": "tasks", "configMap": {"name": _LEDGER}}]
        container["volumeMounts"] = [{"name": "tasks", "mountPath": "/app"}]
        container["args"] = ["worker", TASKS_FILE.name]


def _is_ready(pod: Manifest) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
