"""Who decides how many replicas a Deployment has, when several would like to. Without nodes its pods stay pending."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from support.objects import worker_pool

if TYPE_CHECKING:
    from cluster.cluster import Manifest
    from support.tenants import Tenant

pytestmark = pytest.mark.usefixtures("operator")

_HPA: Manifest = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "theirs"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "workers"},
        "minReplicas": 1,
        "maxReplicas": 3,
    },
}


def _deploy(tenant: Tenant, replicas: int = 1) -> None:
    tenant.kubectl("create", "deployment", "workers", "--image=localhost/none:1", f"--replicas={replicas}")


def _replicas(tenant: Tenant) -> int:
    wished: int = tenant.get("deployment/workers")["spec"]["replicas"]
    return wished


def _wait_for_reason(tenant: Tenant, pool: str, reason: str) -> None:
    tenant.wait(
        reason, lambda: tenant.condition(f"wpool/{pool}", "ScalingActive").get("reason") == reason, timeout_seconds=20
    )


def test_scale_of_the_pool_is_carried_out(tenant: Tenant) -> None:
    _deploy(tenant)
    tenant.apply(worker_pool("pool", target="workers", mode="External", maxReplicas=4))
    tenant.wait_for("wpool/pool", "condition=ScalingActive")

    tenant.kubectl("scale", "wpool/pool", "--replicas=3")
    tenant.wait("three replicas", lambda: _replicas(tenant) == 3)
    tenant.kubectl("scale", "wpool/pool", "--replicas=9")
    tenant.wait("no more than the maximum", lambda: _replicas(tenant) == 4)

    assert tenant.get("wpool/pool")["status"]["selector"] == "app=workers"
    assert tenant.table("wpool")["pool"].keys() >= {"TARGET", "READY", "DESIRED", "DUE", "SCALING"}


def test_autoscaler_of_the_deployment_is_left_alone_until_it_is_gone(tenant: Tenant) -> None:
    _deploy(tenant)
    tenant.apply(_HPA, worker_pool("pool", target="workers", minReplicas=2, maxReplicas=4))
    _wait_for_reason(tenant, "pool", "ForeignAutoscaler")
    assert _replicas(tenant) == 1

    tenant.kubectl("delete", "hpa/theirs")
    tenant.wait("the minimum", lambda: _replicas(tenant) == 2, timeout_seconds=20)


def test_older_of_two_pools_has_the_target(tenant: Tenant) -> None:
    _deploy(tenant)
    tenant.apply(worker_pool("older", target="workers", minReplicas=2, maxReplicas=4))
    made_at = datetime.fromisoformat(tenant.get("wpool/older")["metadata"]["creationTimestamp"])
    tenant.wait("another second", lambda: datetime.now(UTC) >= made_at + timedelta(seconds=1))
    tenant.wait("the older one's minimum", lambda: _replicas(tenant) == 2)
    tenant.apply(worker_pool("younger", target="workers", minReplicas=3, maxReplicas=4))
    _wait_for_reason(tenant, "younger", "TargetInUse")
    assert _replicas(tenant) == 2


def test_replicas_that_somebody_keeps_writing_are_left_alone(tenant: Tenant) -> None:
    _deploy(tenant)
    tenant.apply(worker_pool("pool", target="workers", minReplicas=3, maxReplicas=4))
    for _ in range(3):
        tenant.wait("the pool's wish", lambda: _replicas(tenant) == 3)
        tenant.kubectl("scale", "deployment/workers", "--replicas=1")

    _wait_for_reason(tenant, "pool", "ReplicasContested")
    assert _replicas(tenant) == 1


def test_of_the_deployment_the_operator_manages_replicas_through_the_scale(tenant: Tenant) -> None:
    _deploy(tenant)
    tenant.apply(worker_pool("pool", target="workers", minReplicas=2, maxReplicas=4))
    tenant.wait("the minimum", lambda: _replicas(tenant) == 2)

    answer = tenant.kubectl("get", "deployment/workers", "--show-managed-fields", "--output=json")
    (ours,) = [each for each in json.loads(answer)["metadata"]["managedFields"] if "pgscheduler" in each["manager"]]
    assert (ours["subresource"], ours["fieldsV1"]) == ("scale", {"f:spec": {"f:replicas": {}}})
