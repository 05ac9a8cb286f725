"""As a person who tries it out: no database of one's own, no tasks of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.paths import ROOT
from support.releases import DEV_VOLUME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.cluster import Cluster
    from support.releases import Release


@pytest.fixture
def _volume(cluster: Cluster, tmp_path: Path) -> Iterator[None]:
    """What a cluster with a storage class would make for the claim."""
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o777)
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": str(folder)},
        "persistentVolumeReclaimPolicy": "Retain",
    }
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": DEV_VOLUME}, "spec": spec})
    yield
    cluster.kubectl("delete", "persistentvolume", DEV_VOLUME, "--wait=false")


@pytest.mark.usefixtures("_volume")
def test_one_command_gives_a_running_system_with_a_database_of_its_own(
    cluster: Cluster, namespace: str, release: Release
) -> None:
    notes = release.install(database={"dev": {"enabled": True}})
    cluster.kubectl("-n", namespace, "apply", "-f", str(ROOT / "examples" / "manifests" / "hello.yaml"))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Complete", "sjob/hello", "--timeout=60s")

    assert "WARNING" in notes
    release.upgrade(database={"dev": {"enabled": True}}, podAnnotations={"step": "two"})
    release.test()  # the password is still that of the data
    cluster.kubectl("-n", namespace, "delete", "pod", "--selector=app.kubernetes.io/component=database")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
    release.test()
    cluster.kubectl("-n", namespace, "get", "sjob/hello")
