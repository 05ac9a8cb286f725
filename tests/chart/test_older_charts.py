"""What an upgrade from the chart of a kept release meets: its values are values still, what may not change has not."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from chart.conftest import CHART, run_helm, template
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CHARTS = sorted((ROOT / "tests" / "fixtures" / "releases").glob("*/*.tgz"))
FIXED = {
    "Deployment": ("selector",),
    "StatefulSet": ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"),
}
"""What of a spec may not change once it is there."""
DATABASES = ("database.existingSecret=db", "database.dev.enabled=true")


def fixed_fields(chart: Path, database: str) -> dict[tuple[str, str], dict[str, Any]]:
    told = run_helm("template", "shop", str(chart), "--namespace", "ns", "--no-hooks", "--set", database)
    assert told.returncode == 0, told.stderr
    bodies = [body for body in yaml.safe_load_all(told.stdout) if body and body["kind"] in FIXED]
    return {
        (body["kind"], body["metadata"]["name"]): {name: body["spec"].get(name) for name in FIXED[body["kind"]]}
        for body in bodies
    }


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.parent.name)
def test_values_of_a_kept_release_are_values_still(chart: Path, tmp_path: Path) -> None:
    with tarfile.open(chart) as files:
        files.extract("pgscheduler/values.yaml", tmp_path, filter="data")

    told = template(DATABASES[0], values=tmp_path / "pgscheduler" / "values.yaml")

    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.parent.name)
def test_nothing_that_may_not_change_differs_from_a_kept_release(chart: Path, database: str) -> None:
    before = fixed_fields(chart, database)

    assert before
    assert fixed_fields(CHART, database) == before


def test_a_chart_is_kept() -> None:
    assert CHARTS
