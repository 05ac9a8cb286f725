"""An operator that is newer than the cluster's CRDs serves them, and says how they are brought up to date."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.objects import scheduled_job
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cluster.cluster import Cluster
    from support.programs import StartProgram
    from support.tenants import Tenant

_OLDER = "periodicjobs.pgscheduler.io"


@pytest.fixture
def bring_up_to_date(cluster: Cluster, crds: None) -> Iterator[Callable[[], None]]:  # noqa: ARG001 - there they are
    """One CRD is of a release without revisions, until this is called or the test ends."""

    def apply() -> None:
        cluster.kubectl("apply", "--server-side", "--filename", str(ROOT / "crds"))

    cluster.kubectl("annotate", "crd", _OLDER, "pgscheduler.io/crd-revision-")
    yield apply
    apply()


def test_operator_serves_older_crds_and_tells_of_them(
    tenant: Tenant, start_operator: StartProgram, bring_up_to_date: Callable[[], None]
) -> None:
    listening = {"PGSCHEDULER_LEASE_NAMESPACE": tenant.name, "PGSCHEDULER_HTTP": "127.0.0.1:0"}
    first = start_operator(**listening)
    first.says(f"CRDsOutdated: the CRDs {_OLDER} are older than this release")
    assert "pgscheduler_operator_crds_outdated 1.0" in first.tells("metrics")
    tenant.apply(scheduled_job("served"))
    tenant.wait_for("sjob/served", "condition=Ready")
    (event,) = json.loads(tenant.kubectl("get", "events", "--field-selector=reason=CRDsOutdated", "--output=json"))[
        "items"
    ]
    assert (event["type"], event["involvedObject"]["kind"]) == ("Warning", "Lease")
    assert "pgscheduler crds | kubectl apply --server-side -f -" in event["message"]
    first.terminate()

    bring_up_to_date()

    second = start_operator(**listening)
    tenant.cluster.wait("it knows", lambda: "pgscheduler_operator_crds_outdated 0.0" in second.tells("metrics"))
    assert "CRDsOutdated" not in second.log
