"""The same cluster, with real nodes: operator and workers are pods of the project's image.

Invariant: one operator serves the whole cluster, installed from deploy/ as it stands but for the name of the image;
each test is a tenant of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from cluster.image import PROJECT_IMAGE
from support.deployments import NO_TLS, Deployments, database_secret, wait_until_operator_serves
from support.paths import ROOT
from support.tenants import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.cluster import Cluster
    from cluster.node import Node
    from cluster.postgres import Database, Databases


@pytest.fixture(scope="session")
def cluster(cluster: Cluster) -> Cluster:
    """The session's cluster with its first node."""
    cluster.add_node()
    return cluster


@pytest.fixture
def second_node(cluster: Cluster) -> Iterator[Node]:
    """A node that the test may do with as it likes. It is gone afterwards."""
    node = cluster.add_node()
    yield node
    cluster.remove_node(node)


@pytest.fixture(scope="session")
def operators_database(databases: Databases) -> Iterator[Database]:
    with databases.fresh() as fresh:
        yield fresh


@pytest.fixture(scope="session")
def operator_namespace(
    cluster: Cluster,
    crds: None,  # noqa: ARG001 - it would wait for them
    operator_rights: str,
    operators_database: Database,
) -> str:
    """Where the operator runs."""
    manifest = yaml.safe_load((ROOT / "deploy" / "operator.yaml").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    container["image"] = PROJECT_IMAGE
    container["env"].append(NO_TLS)
    cluster.apply([database_secret(operators_database.pod_dsn), manifest], namespace=operator_rights)
    wait_until_operator_serves(cluster, operator_rights)
    return operator_rights


@pytest.fixture
def tenant(
    cluster: Cluster,
    operator_namespace: str,  # noqa: ARG001 - who serves it
    namespace: str,
    operators_database: Database,
) -> Tenant:
    return Tenant(cluster, namespace, operators_database)


@pytest.fixture
def deployments(tenant: Tenant) -> Deployments:
    return Deployments(tenant)
