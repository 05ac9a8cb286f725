"""A Secret of the database that is wrong: the pods say what to mend, and nobody what is in it."""

from __future__ import annotations

import json
from secrets import token_hex
from typing import TYPE_CHECKING

from support.releases import rendered

if TYPE_CHECKING:
    from cluster.cluster import Cluster, Manifest
    from support.tenants import Tenant

_SECRET = "billing-database"  # noqa: S105  its name


def test_a_secret_without_its_key_is_named_and_not_shown(cluster: Cluster, tenant: Tenant) -> None:
    canary = token_hex(8)
    tenant.apply(_secret(password=canary), *_workers(cluster, tenant, secretKey="uri"))

    tenant.wait("an event names the key", lambda: "non-existent secret key: uri" in _events(tenant))

    (pod,) = _pods(tenant)
    assert [one["status"] for one in pod["status"]["conditions"] if one["type"] == "Ready"] == ["False"]
    assert _SECRET in json.dumps(pod["spec"]["volumes"])
    assert canary not in json.dumps(pod) + _events(tenant)


def test_an_address_that_cannot_be_used_is_said_so_and_not_shown(cluster: Cluster, tenant: Tenant) -> None:
    canary = token_hex(8)
    tenant.apply(_secret(dsn=f"mysql://app:{canary}@db/app"), *_workers(cluster, tenant))

    tenant.wait("the worker says so", lambda: "PGS-005" in _log(tenant))

    assert "the DSN is not a PostgreSQL URL" in _log(tenant)
    assert "give postgresql://user:password@host:port/database" in _log(tenant)
    assert canary not in _log(tenant) + json.dumps(_pods(tenant)) + _events(tenant)


def _secret(**data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _SECRET}, "stringData": data}


def _workers(cluster: Cluster, tenant: Tenant, **database: str) -> list[Manifest]:
    """One worker of the chart, as a Deployment that nobody scales."""
    values = {"database": {"existingSecret": _SECRET, **database}, "operator": {"enabled": False}}
    made = rendered(cluster, tenant.name, "shop", **values)
    return [manifest for manifest in made if manifest["kind"] in {"Deployment", "ServiceAccount"}]


def _pods(tenant: Tenant) -> list[Manifest]:
    pods: list[Manifest] = json.loads(tenant.kubectl("get", "pods", "--output=json"))["items"]
    return pods


def _events(tenant: Tenant) -> str:
    return tenant.kubectl("get", "events", "--output=json")


def _log(tenant: Tenant) -> str:
    return tenant.kubectl("logs", "--selector=app.kubernetes.io/component=worker", "--tail=-1", "--ignore-errors")
