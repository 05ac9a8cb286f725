"""Values: each is documented and known to the schema, each bad one refused by name and, if secret, not repeated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from chart.conftest import CHART, template
from support import helm
from support.chart_page import PAGE, page, values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
NO_DATABASE = "database.existingSecret="
BAD = {
    NO_DATABASE: "No database is named. Give exactly one of\n  database.existingSecret",
    "database.url=postgresql://u:geheim@h/d": "Several databases are named: database.existingSecret, database.url",
    "replicaCount=-1": "'/replicaCount': minimum: got -1, want 0",
    "replicaCount=two": "'/replicaCount': got string, want integer",
    "replicaCount=11": "'/replicaCount': maximum: got 11, want 10",
    "nosuch=1": "additional properties 'nosuch' not allowed",
    "worker.nosuch=1": "nosuch",
    "worker.pools.default.queus={a}": "queus",
    "worker.pools.default.spec.targetRef.name=x": "spec.targetRef is the Deployment that the chart makes",
    "worker.pools.default.spec.autoscaling.minReplicas=6": "minReplicas is 6 and maxReplicas is 5. Give a maxReplicas",
    "worker.pools=null": "worker.pools is empty",
    "worker.pools.Upper.queues={a}": "Upper",
    "worker.slots=0": "/worker/slots",
    "worker.leaseSeconds=0": "'/worker/leaseSeconds': minimum: got 0, want 1",
    "worker.leaseSeconds=abc": "'/worker/leaseSeconds': got string, want integer",
    "worker.leaseSeconds=1000000000": "'/worker/leaseSeconds': maximum: got",
    "worker.apps={-v}": "/worker/apps/0",
    "watchNamespaces={UPPER}": "/watchNamespaces/0",
    "watchNamespaces={a,a}": "/watchNamespaces",
    "clusterName=a/b": "/clusterName",
    "image.digest=latest": "/image/digest",
    "image.pullPolicy=Sometimes": "/image/pullPolicy",
    "tenantLimits.billing.maxPending=0": "/tenantLimits/billing/maxPending",
    "tenantLimits.billing.most=1": "most",
    "logFormat=xml": "/logFormat",
    "networkPolicy.databasePorts={0}": "/networkPolicy/databasePorts/0",
    "podDisruptionBudget.maxUnavailable=0": "/podDisruptionBudget/maxUnavailable",
    "database.dev.storage=lots": "/database/dev/storage",
    "extraEnv[0].value=x": "/extraEnv/0",
    "migrations.run=never": "/migrations/run",
    "migrations.run=job": "migrations.existingSecret is empty",
    "migrations.existingSecret=owner": "migrations.existingSecret is set and migrations.run is operator",
    "migrations.roles=true": "migrations.roles is set and migrations.run is operator",
    "retention.completed=1h": "/retention/completed",
    "retention.failed=7": "/retention/failed",
    "retention.cancelled=10000d": "/retention/cancelled",
    "retention.expired=last 1000000000": "/retention/expired",
    "retention.keys=forever": "/retention/keys",
    "status.errorText=256": "/status/errorText",
}


@pytest.mark.parametrize("version", helm.VERSIONS)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_value_is_refused_by_its_name(bad: str, version: str) -> None:
    told = template("database.existingSecret=db", bad, version=version)

    assert told.returncode == 1
    assert BAD[bad] in told.stderr
    assert "geheim" not in told.stderr


@pytest.mark.parametrize("version", helm.VERSIONS)
def test_a_url_that_is_none_is_not_repeated(version: str) -> None:
    told = template("database.url=mysql://u:geheim@h/d", version=version)

    assert told.returncode == 1
    assert "database.url" in told.stderr
    assert "geheim" not in told.stderr + told.stdout


def test_nothing_at_all_to_install_is_said_to_be_so() -> None:
    told = template("operator.enabled=false", "worker.enabled=false")

    assert "there is nothing to install" in told.stderr


@pytest.mark.parametrize("version", helm.VERSIONS)
def test_a_hook_cannot_migrate_a_database_that_the_release_makes_later(version: str) -> None:
    sets = ("database.dev.enabled=true", "migrations.run=job", "migrations.existingSecret=owner")

    assert "migrations.run is job and database.dev.enabled is true" in template(*sets, version=version).stderr


@pytest.mark.parametrize(
    "good",
    [
        "replicaCount=0",
        "worker.pools.default.spec=null",
        "tenantLimits.\\*.maxPending=5",
        "retention.keys=9999d",
        "retention.failed=last 0",
    ],
)
def test_the_edges_are_taken(good: str) -> None:
    assert template(good).returncode == 0


def test_the_schema_knows_the_values_and_no_others() -> None:
    assert set(_paths(DEFAULTS)) <= set(_known(SCHEMA))
    assert {path for path in _known(SCHEMA) if not path.startswith("global")} - set(_paths(DEFAULTS)) <= {
        path for path in _known(SCHEMA) if ".resources." in f".{path}." or ".pools." in f".{path}."
    }


def test_every_value_is_documented() -> None:
    assert {value.path for value in values()} == {path for path in _paths(DEFAULTS) if "pools." not in path} | {
        "worker.pools.default.queues",
        "worker.pools.default.spec",
    }
    assert all(value.meaning.endswith(".") for value in values())


def test_the_reference_page_is_made_from_the_values() -> None:
    assert PAGE.read_text() == page()


def _paths(value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Of everything that is not a table of the chart's own."""
    for name, inner in value.items():
        path = f"{prefix}{name}"
        if (
            isinstance(inner, dict)
            and inner
            and name not in {"resources", "podSecurityContext", "securityContext", "spec"}
        ):
            yield from _paths(inner, f"{path}.")
        else:
            yield path


def _known(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        if inner.get("additionalProperties") is False:
            yield from _known(inner, f"{path}.")
        elif name == "pools":
            yield from _known(inner["additionalProperties"], f"{path}.default.")
        else:
            yield path
