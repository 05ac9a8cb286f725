"""CRDs that change get a higher revision, and an operator tells of those that are older than it."""

from __future__ import annotations

import logging
import tarfile
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from pg_scheduler_operator.crdgen import REVISION, crds
from pg_scheduler_operator.metrics import CRDS_OUTDATED, Metrics
from pg_scheduler_operator.resources import CRD_REVISION
from pg_scheduler_operator.revisions import Revisions
from pg_scheduler_operator.status import Reason
from support.operator_world import FakeCluster
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from pg_scheduler_operator.gateway.kube import KubeResources

FIXTURES = ROOT / "tests" / "fixtures"
RECORDED = FIXTURES / "crd_revisions.yaml"
CHARTS = sorted((FIXTURES / "releases").glob("*/*.tgz"))
OLDER, NEWER = {"a.pgscheduler.io": REVISION - 1}, {"a.pgscheduler.io": REVISION, "b.pgscheduler.io": REVISION + 1}


def test_every_crd_carries_the_revision() -> None:
    assert {crd["metadata"]["annotations"][CRD_REVISION] for crd in crds()} == {str(REVISION)}


def test_crds_that_change_get_a_higher_revision() -> None:
    digest = sha256(yaml.safe_dump([crd["spec"] for crd in crds()], sort_keys=True).encode()).hexdigest()
    recorded = yaml.safe_load(RECORDED.read_text(encoding="utf-8"))

    assert list(recorded) == list(range(1, REVISION + 1))
    assert recorded[REVISION] == digest, (
        f"the CRDs have changed: raise crdgen.REVISION if a release has {REVISION} already, then record {digest}"
    )


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.stem)
def test_crds_that_differ_from_a_releases_have_a_higher_revision_than_those(chart: Path) -> None:
    with tarfile.open(chart) as archive:
        files = [archive.extractfile(name) for name in archive.getnames() if "/crds/" in name]
        released = [yaml.safe_load(file.read()) for file in files if file is not None]
    (revision,) = {int(crd["metadata"].get("annotations", {}).get(CRD_REVISION, 0)) for crd in released}

    assert len(released) == len(crds())
    assert revision < REVISION if specs(released) != specs(crds()) else revision == REVISION


def specs(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    return {crd["metadata"]["name"]: crd["spec"] for crd in bodies}


async def test_older_crds_are_told_of_once_and_again_when_they_are_older_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster, metrics = FakeCluster(), Metrics()
    revisions = Revisions(cast("KubeResources", cluster), metrics)
    told = []
    for found in (NEWER, OLDER, OLDER, NEWER, OLDER):
        cluster.revisions = found
        await revisions.look()
        told.append((metrics.values(CRDS_OUTDATED)[()], len(cluster.warnings)))

    assert told == [(0, 0), (1, 1), (1, 1), (0, 1), (1, 2)]
    reason, note = cluster.warnings[0]
    assert reason is Reason.CRDS_OUTDATED
    assert note.startswith("the CRDs a.pgscheduler.io are older than this release")
    assert note.endswith("pgscheduler crds | kubectl apply --server-side -f -")
    records = [record for record in caplog.records if note in record.getMessage()]
    assert [record.levelno for record in records] == [logging.WARNING] * 2


async def test_who_may_not_read_the_crds_says_nothing_of_them(caplog: pytest.LogCaptureFixture) -> None:
    cluster, metrics = FakeCluster(), Metrics()
    revisions = Revisions(cast("KubeResources", cluster), metrics)
    await revisions.look()
    cluster.revisions = None

    await revisions.look()

    assert not metrics.values(CRDS_OUTDATED)
    assert not caplog.records
    assert not cluster.warnings
