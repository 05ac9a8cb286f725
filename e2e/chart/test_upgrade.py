"""From the previous release to this one, back, and forward again, while jobs and a schedule run.

Invariant: the previous release is what was released: its chart, and its wheel in the pods. What a person types is what
docs/how-to/upgrade.md says.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from cluster import kept_releases
from cluster.image import PROJECT_IMAGE
from support.objects import periodic_job, scheduled_job, task
from support.paths import ROOT
from support.releases import MIDDLE_HELM, with_ledger

if TYPE_CHECKING:
    from support.releases import Release, Shell
    from support.tenants import Tenant

_PREVIOUS = kept_releases.previous()
_JOBS = [f"job-{number}" for number in range(6)]
_TICK, _SPARE = "tick", "spare"
_KEPT = 10_000  # rows of the schedule: all of them
# What the release after this one leaves: more than anybody here knows, and nothing that keeps them from reading.
_OF_A_LATER_RELEASE = (
    "ALTER TABLE scheduled_jobs ADD COLUMN of_a_later_release integer DEFAULT 0",
    "INSERT INTO scheduler_migrations (version, name, sha256, min_reader) VALUES (9001, 'later', 'x', 1)",
)
_FIELD = "ofALaterRelease"
_CRD_WITH_IT = [
    {
        "op": "add",
        "path": f"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{_FIELD}",
        "value": {"type": "string"},
    }
]
_TICKS = """
SELECT count(*) AS ticks, extract(epoch FROM max(j.tick_at) - min(j.tick_at)) + 1 AS seconds,
    count(*) FILTER (WHERE j.status = 'completed') AS completed, count(r.result) AS results
FROM scheduled_jobs j JOIN scheduler_schedules s ON s.id = j.schedule_id LEFT JOIN scheduler_results r USING (job_id)
WHERE j.tenant = $1 AND s.source_name = $2
"""
_INTERRUPTED = "SELECT job_id FROM scheduled_jobs WHERE tenant = $1 AND interruptions > 0"


def lines_of(section: str) -> str:
    """What the page tells its reader to run."""
    page = (ROOT / "docs" / "how-to" / "upgrade.md").read_text(encoding="utf-8")
    (text,) = re.findall(rf"^## {section}\n(.*?)(?:^## |\Z)", page, re.MULTILINE | re.DOTALL)
    found: list[str] = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return found[0]


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("helm", [MIDDLE_HELM], indirect=True)
def test_jobs_and_ticks_outlive_the_way_from_the_previous_release_and_back(
    tenant: Tenant, release: Release, shell: Shell
) -> None:
    def typed(section: str, more: str = "") -> None:
        lines = lines_of(section).replace(" billing charts", " shop charts").replace(" billing -n", " shop -n")
        shell(lines.replace("-n billing", f"-n {tenant.name}").replace(" --wait", f" --wait{more}"))

    repository, _, tag = PROJECT_IMAGE.rpartition(":")
    to_this_image = f" --set image.repository={repository} --set image.tag={tag}"
    values = with_ledger(workers=1, image={"repository": kept_releases.RELEASES_REPOSITORY})
    release.install(_PREVIOUS.chart, **values)
    assert _images(tenant) == {_PREVIOUS.image}
    tenant.apply(_ticking(), periodic_job(_SPARE), *(_holding(name) for name in _JOBS))
    tenant.wait("all run", lambda: {*_JOBS, _TICK, _SPARE} <= {run.label for run in tenant.ledger.all_runs()})

    typed("Upgrade", to_this_image)
    assert _images(tenant) == {PROJECT_IMAGE}
    _end(tenant, *_JOBS[:2])

    tenant.database.execute(*_OF_A_LATER_RELEASE)
    typed("Go back")
    assert _images(tenant) == {_PREVIOUS.image}
    _end(tenant, *_JOBS[2:4])
    tenant.apply(scheduled_job("of-the-previous-release"))
    tenant.wait_for("sjob/of-the-previous-release", "condition=Complete")
    _more_ticks(tenant, _TICK)
    _say_more_than_it_knows(tenant)
    assert _FIELD in tenant.condition(f"pjob/{_SPARE}", "Stalled")["message"]
    _more_ticks(tenant, _SPARE)
    tenant.patch(f"pjob/{_SPARE}", **{_FIELD: None})
    tenant.wait_for(f"pjob/{_SPARE}", "condition=Ready")

    typed("Upgrade", to_this_image)
    assert _images(tenant) == {PROJECT_IMAGE}
    _end(tenant, *_JOBS[4:])
    _more_ticks(tenant, _TICK)

    tenant.patch(f"pjob/{_TICK}", suspend=True)
    tenant.wait("nothing runs", lambda: all(run.has_ended for run in tenant.ledger.runs(_TICK)[-3:]))
    tenant.wait("every second has its run and its result", lambda: _every_tick_has_ended(tenant))
    assert tenant.database.fetch(_INTERRUPTED, tenant.name) == []
    ended = [run.label for run in tenant.ledger.all_runs() if run.has_ended and run.label in _JOBS]
    assert sorted(ended) == _JOBS


def _holding(name: str) -> dict[str, object]:
    template = task("hold", label=name)
    template["spec"]["resultPolicy"] = "Status"
    return scheduled_job(name, template)


def _ticking() -> dict[str, object]:
    """A job each second that takes longer than that: at every instant some run."""
    template = task("nap", label=_TICK, seconds=1.5)
    template["spec"]["resultPolicy"] = "Database"
    return periodic_job(
        _TICK, template, overlapPolicy="Allow", missedRunPolicy="RunAll", successfulJobsHistoryLimit=_KEPT
    )


def _images(tenant: Tenant) -> set[str]:
    """What all pods of the release run; none that is about to end is left."""
    asked = ("get", "pods", "--selector=app.kubernetes.io/instance=shop", "--output=json")
    pods = json.loads(tenant.kubectl(*asked))["items"]
    return {
        container["image"]
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        for container in pod["spec"]["containers"]
    }


def _end(tenant: Tenant, *names: str) -> None:
    """Let jobs end, and see each bring what it has to."""
    for name in names:
        tenant.ledger.release(name)
    for name in names:
        tenant.wait_for(f"sjob/{name}", "condition=Complete")
        assert tenant.get(f"sjob/{name}")["status"]["result"] == name


def _say_more_than_it_knows(tenant: Tenant) -> None:
    """Use a field that the kinds of a later release have."""

    def is_kept() -> bool:
        tenant.patch(f"pjob/{_SPARE}", **{_FIELD: "x"})
        return _FIELD in tenant.get(f"pjob/{_SPARE}")["spec"]

    tenant.kubectl("patch", "crd", "periodicjobs.pgscheduler.io", "--type=json", "--patch", json.dumps(_CRD_WITH_IT))
    tenant.wait("the field is kept", is_kept)
    tenant.wait_for(f"pjob/{_SPARE}", "condition=Stalled")


def _more_ticks(tenant: Tenant, name: str) -> None:
    """From now on; those that are planned already do not count."""
    before = len(tenant.ledger.runs(name))
    tenant.wait("the schedule goes on", lambda: len(tenant.ledger.runs(name)) > before + 2)


def _every_tick_has_ended(tenant: Tenant) -> bool:
    (row,) = tenant.database.fetch(_TICKS, tenant.name, _TICK)
    ticks, seconds, completed, results = row
    return bool(ticks == seconds == completed == results)
