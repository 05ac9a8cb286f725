"""The chart by the real Helm, on a cluster of its own.

Invariant: one release at a time, for its operator serves all namespaces; a test that leaves one behind uninstalls it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from support.paths import ROOT
from support.releases import NEWEST_HELM, Release, ledger_and_secret, program
from support.tenants import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.cluster import Cluster
    from cluster.postgres import Database
    from support.releases import Shell

_SECONDS = 240


@pytest.fixture(scope="session")
def cluster(cluster: Cluster) -> Cluster:
    """The session's cluster with its node."""
    cluster.add_node()
    return cluster


@pytest.fixture
def helm(request: pytest.FixtureRequest) -> str:
    """Which one: the newest, unless the test says so."""
    version: str = getattr(request, "param", NEWEST_HELM)
    return version


@pytest.fixture
def shell(cluster: Cluster, helm: str, tmp_path: Path) -> Shell:
    """Lines run in a checkout, by somebody who has helm and kubectl."""
    (tmp_path / "helm").symlink_to(program(helm))
    return lambda lines: cluster.shell(f"PATH={tmp_path}:$PATH\n{lines}", folder=ROOT, timeout_seconds=_SECONDS)


@pytest.fixture
def release(cluster: Cluster, namespace: str, helm: str) -> Iterator[Release]:
    release = Release(cluster, namespace, program(helm))
    yield release
    if release.is_there():
        release.uninstall()
    _forget_our_kinds(cluster)


@pytest.fixture
def tenant(cluster: Cluster, namespace: str, database: Database) -> Tenant:
    """The release's own namespace as that of a tenant."""
    return Tenant(cluster, namespace, database)


@pytest.fixture
def prepared(tenant: Tenant) -> None:
    """What the values `with_ledger` name."""
    tenant.apply(*ledger_and_secret(tenant.database.pod_dsn))


@pytest.fixture
def volume(cluster: Cluster, tmp_path: Path) -> Iterator[None]:
    """What a cluster with a storage class would make for a claim."""
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o777)
    name = f"volume-{secrets.token_hex(4)}"
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": str(folder)},
        "persistentVolumeReclaimPolicy": "Retain",
    }
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
    yield
    cluster.kubectl("delete", "persistentvolume", name, "--wait=false")


@pytest.fixture
def leaves_nothing(cluster: Cluster) -> Iterator[None]:
    """Of what our pages tell people to make, however far the test came."""
    yield
    for namespace in ("shop", "billing"):
        release = Release(cluster, namespace, program(NEWEST_HELM), name=namespace)
        if release.is_there():
            release.uninstall()
        cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")
    _forget_our_kinds(cluster)


def _forget_our_kinds(cluster: Cluster) -> None:
    """What one Helm has made is not what another one would make: each finds a cluster without them."""
    cluster.kubectl("delete", "--filename", str(ROOT / "crds"), "--ignore-not-found")
