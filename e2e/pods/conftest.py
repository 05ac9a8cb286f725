"""The same cluster, with real nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.cluster import Cluster
    from cluster.node import Node


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
