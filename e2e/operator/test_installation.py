"""The order in which CRDs, operator and workers come does not matter: each waits for what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.objects import FAR_AWAY, scheduled_job
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.cluster import Cluster
    from support.programs import StartProgram
    from support.tenants import Tenant

_CRDS = str(ROOT / "crds")


@pytest.fixture
def no_crds(cluster: Cluster, crds: None) -> Iterator[None]:  # noqa: ARG001 - what is taken away and given back
    cluster.kubectl("delete", "--filename", _CRDS, "--timeout=30s")
    yield
    cluster.kubectl("apply", "--server-side", "--filename", _CRDS)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=20s", "--filename", _CRDS)


@pytest.mark.usefixtures("no_crds")
def test_operator_waits_for_its_kinds(cluster: Cluster, tenant: Tenant, start_operator: StartProgram) -> None:
    operator = start_operator(wait=False)
    operator.says("waiting for the CRDs")
    operator.terminate()
    operator = start_operator(wait=False)
    operator.says("waiting for the CRDs")

    cluster.kubectl("apply", "--server-side", "--filename", _CRDS)

    operator.says("serving")
    tenant.wait("a kind", lambda: tenant.kubectl("get", "sjob") == "")
    tenant.apply(scheduled_job("first", runAt=FAR_AWAY))
    tenant.wait_for("sjob/first", "condition=Ready")


def test_worker_may_come_before_the_operator(
    tenant: Tenant, start_operator: StartProgram, start_worker: StartProgram
) -> None:
    start_worker()
    start_operator()

    tenant.apply(scheduled_job("first"))

    tenant.wait_for("sjob/first", "condition=Complete")
