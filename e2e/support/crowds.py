"""Objects by the hundred: a kubectl for each would measure kubectl."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.api import Request
from support import addresses

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cluster.cluster import Manifest
    from support.tenants import Tenant

_KINDS = ("ScheduledJob", "PeriodicJob", "WorkerPool")


def create(tenant: Tenant, manifests: Iterable[Manifest]) -> None:
    tenant.cluster.api.send_all(
        Request(method="POST", path=path_of(tenant, manifest["kind"]), body=manifest) for manifest in manifests
    )


def patch(tenant: Tenant, specs: Mapping[tuple[str, str], Manifest]) -> None:
    """Change fields of specs, by (kind, name)."""
    tenant.cluster.api.send_all(
        Request(method="PATCH", path=path_of(tenant, *which), body={"spec": spec}) for which, spec in specs.items()
    )


def delete(tenant: Tenant, *which: tuple[str, str]) -> None:
    """By (kind, name); returns when the API server knows, not when they are gone."""
    tenant.cluster.api.send_all(Request(method="DELETE", path=path_of(tenant, *one)) for one in which)


def clear(tenant: Tenant) -> None:
    """Delete our objects while there is an operator to release them; nothing may hang on a finalizer."""
    tenant.cluster.api.send_all(Request(method="DELETE", path=path_of(tenant, kind)) for kind in _KINDS)
    tenant.wait("all deleted", lambda: bodies(tenant, *_KINDS) == [], timeout_seconds=20)


def bodies(tenant: Tenant, *kinds: str) -> list[Manifest]:
    """All that there are."""
    lists: list[dict[str, Any]] = [tenant.cluster.api.get(path_of(tenant, kind)) or {"items": []} for kind in kinds]
    return [body for found in lists for body in found["items"]]


def path_of(tenant: Tenant, kind: str, name: str = "") -> str:
    """Of one object, or of all of a kind."""
    return addresses.path_of(tenant.name, kind, name)
