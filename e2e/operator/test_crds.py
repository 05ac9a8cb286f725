"""The kinds as kubectl shows and explains them, from what the API server made of crds/."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from support.objects import FAR_AWAY, periodic_job, scheduled_job, worker_pool
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.cluster import Cluster
    from support.tenants import Tenant

_CRDS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))}
_OPENAPI = "/openapi/v3/apis/pgscheduler.io/v1alpha1"


@pytest.mark.usefixtures("crds")
def test_every_field_is_explained(cluster: Cluster) -> None:
    def published() -> list[dict[str, Any]]:
        schemas = (cluster.api.get(_OPENAPI) or {"components": {"schemas": {}}})["components"]["schemas"]
        ours = [schema for name, schema in schemas.items() if name.startswith("io.pgscheduler.")]
        return ours if len(ours) >= len(_CRDS) else []

    schemas = cluster.wait("the kinds in OpenAPI", published)

    assert [path for schema in schemas for path in _unexplained(schema, "")] == []


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize("plural", _CRDS)
def test_kubectl_explains_a_kind_with_all_its_fields(cluster: Cluster, plural: str) -> None:
    schema = _CRDS[plural]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def explained() -> bool:
        told = cluster.kubectl("explain", plural, "--recursive")
        return {*schema["properties"]["spec"]["properties"]} <= {*re.findall(r"^\s+(\w+)\t", told, re.MULTILINE)}

    cluster.wait(f"kubectl explain {plural}", explained)


@pytest.mark.usefixtures("operator")
def test_columns_are_those_of_the_kinds_and_hold_no_nonsense(tenant: Tenant) -> None:
    tenant.apply(
        scheduled_job("job", runAt=FAR_AWAY),
        periodic_job("job", schedule={"cron": ["0 0 1 1 *"]}),
        worker_pool("pool", target="absent", maxReplicas=2),
    )
    tenant.wait_for("sjob/job pjob/job", "condition=Ready")

    for plural, crd in _CRDS.items():
        columns = [column["name"].upper() for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]]
        shown = tenant.kubectl("get", plural, "--output", "wide")
        assert shown.splitlines()[0].split() == ["NAME", *columns]
        assert "<invalid>" not in shown
        assert "<unknown>" not in shown


def _unexplained(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        if not field.get("description"):
            yield here
        if here != ".metadata":  # Kubernetes' own
            yield from _unexplained(field, here)
            yield from _unexplained(field.get("items", {}), f"{here}[]")
