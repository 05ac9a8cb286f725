"""The API server tier stands: right release, real rights, a database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import asyncpg
import pytest

from cluster import build
from cluster.processes import CommandError

if TYPE_CHECKING:
    from cluster.cluster import Cluster, Manifest
    from cluster.postgres import Database


def test_api_server_is_the_release_of_go_mod(cluster: Cluster) -> None:
    version = json.loads(cluster.kubectl("version", "--output", "json"))

    assert version["serverVersion"]["gitVersion"] == f"v{build.kubernetes_version()}"
    assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"]


def test_controllers_create_what_a_deployment_asks_for(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl(
        "--namespace", namespace, "create", "deployment", "app", "--image", "localhost/none:1", "--replicas=0"
    )
    path = f"/apis/apps/v1/namespaces/{namespace}/replicasets"

    cluster.wait("a ReplicaSet", lambda: (cluster.api.get(path) or {})["items"])


def test_service_account_acts_under_its_own_rights(cluster: Cluster, namespace: str) -> None:
    rights = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    reader = {"kind": "ServiceAccount", "name": "reader", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    group = "rbac.authorization.k8s.io/v1"
    metadata = {"name": "reader"}
    objects: list[Manifest] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": group, "kind": "Role", "metadata": metadata, "rules": rights},
        {"apiVersion": group, "kind": "RoleBinding", "metadata": metadata, "subjects": [reader], "roleRef": role},
    ]
    cluster.apply(objects, namespace=namespace)

    as_reader = ("--kubeconfig", str(cluster.service_account_kubeconfig(namespace, "reader")))

    assert "kube-root-ca.crt" in cluster.kubectl(*as_reader, "get", "configmaps")
    with pytest.raises(CommandError, match="cannot list resource"):
        cluster.kubectl(*as_reader, "get", "secrets")


async def test_database_belongs_to_the_role_of_its_address(database: Database) -> None:
    connection = await asyncpg.connect(database.dsn)
    try:
        owner = await connection.fetchval(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", database.name
        )
        assert owner == await connection.fetchval("SELECT current_user")
    finally:
        await connection.close()
