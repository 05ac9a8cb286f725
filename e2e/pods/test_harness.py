"""The pods tier stands: restricted pods run, the project's image reaches PostgreSQL, and a dead node is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cluster.image import PROJECT_IMAGE
from cluster.node_files import PAUSE_IMAGE
from cluster.processes import CommandError

if TYPE_CHECKING:
    from cluster.cluster import Cluster, Manifest
    from cluster.node import Node
    from cluster.postgres import Database

_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_ASK_WHO_IT_IS = """
import asyncio, asyncpg, sys

async def main() -> None:
    connection = await asyncpg.connect(sys.argv[1])
    print(await connection.fetchval("SELECT current_database()"))

asyncio.run(main())
"""


def _pod(name: str, *, node: str = "n1", **container: object) -> Manifest:
    main = {"name": "main", "image": PAUSE_IMAGE, "securityContext": _RESTRICTED, **container}
    spec = {"containers": [main], "nodeName": node, "restartPolicy": "Never", "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _wait_for_pod(cluster: Cluster, namespace: str, name: str, signal: str) -> None:
    cluster.kubectl("wait", f"pod/{name}", "--namespace", namespace, f"--for={signal}", "--timeout=40s")


def test_pod_is_ready_under_restricted_pod_security(cluster: Cluster, namespace: str) -> None:
    cluster.apply(_pod("restricted"), namespace=namespace)
    _wait_for_pod(cluster, namespace, "restricted", "condition=Ready")

    with pytest.raises(CommandError, match="violates PodSecurity"):
        cluster.apply(_pod("root", securityContext={"runAsUser": 0}), namespace=namespace)


def test_project_image_reaches_postgresql(cluster: Cluster, namespace: str, database: Database) -> None:
    command = ["python", "-c", _ASK_WHO_IT_IS, database.pod_dsn]
    cluster.apply(_pod("client", image=PROJECT_IMAGE, command=command), namespace=namespace)
    _wait_for_pod(cluster, namespace, "client", "jsonpath={.status.phase}=Succeeded")

    assert cluster.kubectl("logs", "client", "--namespace", namespace).strip() == database.name


def test_dead_node_is_noticed_and_comes_back(cluster: Cluster, namespace: str, second_node: Node) -> None:
    cluster.apply(_pod("lost", node=second_node.name), namespace=namespace)
    _wait_for_pod(cluster, namespace, "lost", "condition=Ready")

    second_node.kill()
    _wait_for_pod(cluster, namespace, "lost", "condition=Ready=False")

    second_node.start()
    cluster.apply(_pod("found", node=second_node.name), namespace=namespace)
    _wait_for_pod(cluster, namespace, "found", "condition=Ready")
