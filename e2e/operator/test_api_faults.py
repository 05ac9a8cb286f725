"""The API server fails in each way there is, while people go on: nothing is lost, and nothing is written twice."""

from __future__ import annotations

from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from cluster.api_proxy import Fault
from support import crowds
from support.agreement import JOB_KINDS, stand_as_wanted
from support.api_writes import is_allowed
from support.objects import FAR_AWAY, periodic_job, scheduled_job
from support.sizes import sized

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.api_proxy import ApiProxy
    from cluster.cluster import Cluster, Manifest
    from cluster.progress import Progress
    from support.tenants import Tenant

_FAULT_SECONDS = sized(2, full=30)
_CONVERGED_SECONDS = 60
_ROUNDS = sized(5, full=20)
_YEARLY = {"cron": ["0 0 1 1 *"]}


@pytest.fixture(scope="module")
def proxy(cluster: Cluster) -> Iterator[ApiProxy]:
    with cluster.api_proxy() as one:
        yield one


@pytest.fixture(scope="module")
def api_url(proxy: ApiProxy) -> str:
    return proxy.url


@pytest.mark.timeout(_FAULT_SECONDS + 3 * _CONVERGED_SECONDS)
@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("fault", Fault)
def test_operator_makes_up_for_what_it_missed(
    proxy: ApiProxy, tenant: Tenant, progress: Progress, fault: Fault
) -> None:
    names = [f"{fate}-{number}" for fate in ("edited", "deleted") for number in range(_ROUNDS)]
    crowds.create(tenant, (one for name in names for one in _pair(name)))
    tenant.wait("all accepted", lambda: stand_as_wanted(tenant), timeout_seconds=_CONVERGED_SECONDS)

    with proxy.failing(fault):
        _live_on(tenant)
    healed_at = monotonic()
    tenant.wait("all as wanted", lambda: stand_as_wanted(tenant), timeout_seconds=_CONVERGED_SECONDS)

    progress.say(
        f"{fault} for {_FAULT_SECONDS} s, {6 * _ROUNDS} changes: made up for in {monotonic() - healed_at:.1f} s"
    )
    assert len(crowds.bodies(tenant, *JOB_KINDS)) == 4 * _ROUNDS
    written = proxy.status_writes()
    for body in crowds.bodies(tenant, *JOB_KINDS):
        path = crowds.path_of(tenant, body["kind"], body["metadata"]["name"])
        assert written[path] <= body["metadata"]["generation"], path
    assert [write for write in proxy.writes if not is_allowed(write)] == []


def _pair(name: str) -> tuple[Manifest, Manifest]:
    return scheduled_job(name, runAt=FAR_AWAY), periodic_job(name, schedule=_YEARLY)


def _live_on(tenant: Tenant) -> None:
    """Make, edit and delete objects, spread over the length of a fault."""
    began_at = monotonic()
    for number in range(_ROUNDS):
        crowds.create(tenant, _pair(f"meanwhile-{number}"))
        crowds.patch(tenant, {(kind, f"edited-{number}"): {"suspend": True} for kind in JOB_KINDS})
        crowds.delete(tenant, *((kind, f"deleted-{number}") for kind in JOB_KINDS))
        sleep(max(0, began_at + _FAULT_SECONDS * (number + 1) / _ROUNDS - monotonic()))
