"""What every test against a real Kubernetes stands on.

Invariant: one cluster and one PostgreSQL a session, one namespace and one database a test. The cluster has no node
until the first test below e2e/pods, and e2e/run.py runs those last: to e2e/operator it is an API server with
controllers, whether the other tier runs or not.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

import pytest

from cluster import postgres
from cluster.cluster import Cluster
from cluster.kit import Kit, NotPreparedError
from cluster.progress import Progress
from support.paths import ROOT
from support.programs import Programs
from support.releases import rendered
from support.tenants import Tenant

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from cluster.cluster import Manifest
    from cluster.postgres import Database, Databases

OPERATOR_NAMESPACE = "pgscheduler"
_OPERATOR_ALONE = {
    "database": {"existingSecret": "pgscheduler-database", "allowInsecure": True},
    "worker": {"enabled": False},
}


def pytest_sessionstart() -> None:
    try:
        Kit.from_environment()
    except NotPreparedError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what the cluster knows of it, while it still knows."""
    report = yield
    if report.failed:
        fixtures: dict[str, object] = getattr(item, "funcargs", {})
        report.sections += [*_known_of(fixtures)]
    return report


def _known_of(fixtures: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    cluster, tenant = fixtures.get("cluster"), fixtures.get("tenant")
    if isinstance(cluster, Cluster):
        yield "cluster", cluster.logs_on_failure()
        namespace = tenant.name if isinstance(tenant, Tenant) else fixtures.get("namespace")
        namespaces = [namespace, OPERATOR_NAMESPACE if cluster.nodes else None]
        for name in filter(None, namespaces):
            yield f"namespace {name}", cluster.report(str(name))
    for started in fixtures.values():
        if isinstance(started, Programs):
            yield "programs", started.report()


@pytest.fixture(scope="session")
def progress(request: pytest.FixtureRequest) -> Progress:
    """Writes past pytest's capture: a start that hangs must show where."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            print(f"\ne2e: {line}", flush=True)

    return Progress(write)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, progress: Progress) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), progress=progress) as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace() as name:
        yield name


@pytest.fixture(scope="session")
def databases(cluster: Cluster, progress: Progress) -> Iterator[Databases]:
    with ExitStack() as stack:
        with progress.phase("PostgreSQL"):
            server = stack.enter_context(postgres.running(cluster.gateway))
        yield server


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    with databases.fresh() as fresh:
        yield fresh


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> None:
    """Our kinds, served."""
    cluster.kubectl("apply", "--server-side", "--filename", str(ROOT / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=20s", "--filename", str(ROOT / "crds"))


@pytest.fixture(scope="session")
def operators_manifests(cluster: Cluster) -> list[Manifest]:
    """What the chart makes for an operator that serves all namespaces."""
    return rendered(cluster, OPERATOR_NAMESPACE, "pgscheduler", **_OPERATOR_ALONE)


@pytest.fixture(scope="session")
def operator_rights(cluster: Cluster, operators_manifests: list[Manifest]) -> str:
    """All of that but the Deployment; the namespace of the ServiceAccount."""
    namespace = {"name": OPERATOR_NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace})
    rights = [one for one in operators_manifests if one["kind"] != "Deployment"]
    cluster.apply(rights, namespace=OPERATOR_NAMESPACE)
    return OPERATOR_NAMESPACE
