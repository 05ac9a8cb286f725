"""What the chart makes is what Kubernetes takes, for every file of values and every Helm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
from openapi_schema_validator import OAS30Validator

from chart.conftest import CHART, VALUES_FILES, pod_specs, run_helm, template
from pg_scheduler import __version__
from pg_scheduler_operator.crdgen import DEFINITIONS, files, openapi
from support import helm

if TYPE_CHECKING:
    from pathlib import Path

    from chart.conftest import Render

KUBERNETES = "1.36"
EVERYTHING = (
    "database.dev.enabled=true",
    "crds.upgrade=true",
    "networkPolicy.enabled=true",
    "replicaCount=2",
    "watchNamespaces={ns,billing}",
    "commonLabels.team=jobs",
    "podAnnotations.a=b",
    "worker.podAnnotations.a=b",
    "imagePullSecrets[0].name=registry",
    "priorityClassName=high",
)
SPECS = {definition.kind.value: definition.spec for definition in DEFINITIONS}


def check(body: dict[str, Any]) -> None:
    if body["kind"] in SPECS:
        OAS30Validator(openapi(SPECS[body["kind"]])).validate(body["spec"])
    else:
        kubernetes_validate.validate(body, KUBERNETES, strict=True)


@pytest.mark.parametrize("version", helm.VERSIONS)
@pytest.mark.parametrize("values", VALUES_FILES, ids=lambda path: path.stem)
def test_every_example_is_valid_for_every_helm(render: Render, values: Path, version: str) -> None:
    for body in render(values=values, version=version):
        check(body)


@pytest.mark.parametrize("version", helm.VERSIONS)
def test_everything_at_once_is_valid_and_named_for_its_release(render: Render, version: str) -> None:
    bodies = render(*EVERYTHING, version=version)

    for body in bodies:
        check(body)
        assert "shop" in body["metadata"]["name"]
        assert body["metadata"]["labels"]["app.kubernetes.io/instance"] == "shop"
        assert body["metadata"]["labels"]["team"] == "jobs"
    assert len({(body["kind"], body["metadata"]["name"], body["metadata"].get("namespace")) for body in bodies}) == len(
        bodies
    )


@pytest.mark.parametrize("version", helm.VERSIONS)
def test_the_job_of_migrations_is_valid_for_every_helm(render: Render, version: str) -> None:
    (job,) = [
        body
        for body in render("migrations.run=job", "migrations.existingSecret=owner", version=version)
        if (body["kind"], body["metadata"]["name"]) == ("Job", "shop-pgscheduler-migrations")
    ]

    check(job)


def test_all_helms_make_the_same(render: Render) -> None:
    def told(version: str) -> dict[tuple[str, str, str | None], Any]:
        bodies = render("database.existingSecret=db", *EVERYTHING[1:], version=version)
        return {(body["kind"], body["metadata"]["name"], body["metadata"].get("namespace")): body for body in bodies}

    oldest, *others = map(told, helm.VERSIONS)

    assert all(other == oldest for other in others)


@pytest.mark.parametrize("version", helm.VERSIONS)
def test_lint_finds_nothing_wrong(version: str) -> None:
    told = run_helm("lint", str(CHART), "--strict", "--set", "database.existingSecret=db", version=version)

    assert told.returncode == 0, told.stdout + told.stderr


def test_the_versions_are_those_of_this_release(render: Render) -> None:
    told = run_helm("show", "chart", str(CHART)).stdout

    assert f"version: {__version__}\n" in told
    assert f"appVersion: {__version__}\n" in told
    for spec in pod_specs(render("database.dev.enabled=true")):
        assert [one["image"] for one in spec["containers"]] == [f"pgscheduler:{__version__}"]


def test_the_crds_are_those_of_the_code() -> None:
    assert {path.name: path.read_text() for path in (CHART / "crds").iterdir()} == files()


def test_a_digest_and_an_image_of_ones_own_reach_their_pods(render: Render) -> None:
    digest = "sha256:" + 64 * "0"
    bodies = render(f"image.digest={digest}", "worker.image.repository=shop", "worker.image.tag=v1", kind="Deployment")

    images = {body["metadata"]["name"]: body["spec"]["template"]["spec"]["containers"][0]["image"] for body in bodies}
    assert images == {"shop-pgscheduler-operator": f"pgscheduler@{digest}", "shop-pgscheduler-default": "shop:v1"}


@pytest.mark.parametrize(
    ("sets", "says", "is_silent_of"),
    [
        (("database.dev.enabled=true",), ("WARNING", "one pod, no backups"), ()),
        (("database.existingSecret=db", "database.allowInsecure=true"), ("WARNING: database.allowInsecure",), ()),
        ((), ("helm test shop -n ns", "kubectl -n ns apply", "crds.upgrade=true"), ("WARNING",)),
        (("crds.upgrade=true",), (), ("pgscheduler crds",)),
        (("watchNamespaces={a,b}",), ("serves the namespaces a, b", "which is not among watchNamespaces"), ()),
        (("worker.enabled=false",), ("workers in each namespace",), ("helm test",)),
        (("migrations.run=manual",), ("wait until the owner of the tables", "pgscheduler migrate"), ()),
        ((), (), ("pgscheduler migrate",)),
        (("operator.enabled=false",), ("Workers serve their own namespace, ns",), ("it serves", "pgscheduler crds")),
    ],
)
def test_notes_are_for_these_values(
    sets: tuple[str, ...], says: tuple[str, ...], is_silent_of: tuple[str, ...]
) -> None:
    database = () if any("database" in one for one in sets) else ("database.existingSecret=db",)
    given = [part for one in (*database, *sets) for part in ("--set", one)]

    notes = run_helm("install", "shop", str(CHART), "-n", "ns", "--dry-run=client", *given).stdout.partition("NOTES:")[
        2
    ]

    assert notes
    for text in says:
        assert text in notes
    for text in is_silent_of:
        assert text not in notes


def test_a_generated_password_is_long_and_differs_each_time() -> None:
    first, second = (template("database.dev.enabled=true", version=one).stdout for one in helm.VERSIONS[:2])

    def password(told: str) -> str:
        (line,) = (line for line in told.splitlines() if line.strip().startswith("password:"))
        return line.partition(":")[2].strip()

    assert len(password(first)) >= 32
    assert password(first) != password(second)
