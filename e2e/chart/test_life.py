"""A release from its installation to its end, with jobs that run meanwhile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from asyncpg import InsufficientPrivilegeError

from cluster.processes import CommandError
from support.deployments import database_secret
from support.objects import scheduled_job, task
from support.releases import NEWEST_HELM, OLDEST_HELM, with_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.cluster import Cluster
    from cluster.postgres import Database, Databases
    from support.releases import Release
    from support.tenants import Tenant

_JOBS = [f"job-{number}" for number in range(8)]
_CRD = "scheduledjobs.pgscheduler.io"
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _make_older(cluster: Cluster) -> None:
    """What the cluster has of one kind knows less than that of the chart."""
    steps = [{"op": "replace", "path": "/spec/versions/0/additionalPrinterColumns", "value": [_AGE]}]
    cluster.kubectl("patch", "crd", _CRD, "--type=json", "--patch", json.dumps(steps))
    assert _columns(cluster) == 1


def _columns(cluster: Cluster) -> int:
    return len(
        json.loads(cluster.kubectl("get", "crd", _CRD, "--output=json"))["spec"]["versions"][0][
            "additionalPrinterColumns"
        ]
    )


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("helm", [OLDEST_HELM, NEWEST_HELM], indirect=True)
def test_a_release_is_installed_tested_upgraded_rolled_back_and_uninstalled_and_no_job_is_lost(
    cluster: Cluster, tenant: Tenant, release: Release
) -> None:
    release.install(**with_ledger())
    release.test()
    tenant.apply(*(scheduled_job(name, task("hold", label=name)) for name in _JOBS))
    tenant.wait("all run", lambda: len({run.label for run in tenant.ledger.all_runs()}) == len(_JOBS))

    # pods of operator and workers are replaced while every job runs
    _make_older(cluster)
    changed = with_ledger(podAnnotations={"step": "two"}, crds={"upgrade": True})
    changed["worker"]["podAnnotations"] = {"step": "two"}
    release.upgrade(**changed)
    assert _columns(cluster) > 1
    for name in _JOBS[:4]:
        tenant.ledger.release(name)
    for name in _JOBS[:4]:
        tenant.wait_for(f"sjob/{name}", "condition=Complete")
    release.rollback(1)
    for name in _JOBS[4:]:
        tenant.ledger.release(name)
    for name in _JOBS:
        tenant.wait_for(f"sjob/{name}", "condition=Complete")

    rows = tenant.database.fetch("SELECT status, interruptions FROM scheduled_jobs WHERE source_name LIKE 'job-%'")
    assert [row["status"] for row in rows] == len(_JOBS) * ["completed"]
    assert [row["interruptions"] for row in rows] == len(_JOBS) * [0]  # handed back, not lost
    ended = [run.label for run in tenant.ledger.all_runs() if run.has_ended]
    assert sorted(ended) == sorted(_JOBS)
    release.test()

    release.uninstall()

    assert len(cluster.kubectl("get", "crds", "--output", "name").split()) == 3
    left = json.loads(tenant.kubectl("get", "sjob", "--output=json"))["items"]
    assert sorted(one["metadata"]["name"] for one in left) == sorted(_JOBS)
    assert not any(one["metadata"].get("finalizers") for one in left)
    assert len(tenant.rows("job-0")) == 1
    cluster.kubectl("delete", "namespace", tenant.name, "--timeout=60s", timeout_seconds=70)


@pytest.fixture
def serving(tenant: Tenant, databases: Databases) -> Iterator[Database]:
    """The tenant's database under a login that cannot make a table."""
    with databases.served(tenant.database) as served:
        yield served


def test_a_job_migrates_before_operator_and_workers_whose_login_may_not(
    tenant: Tenant, serving: Database, release: Release
) -> None:
    wrong = tenant.database.pod_dsn.replace(":" + str(urlsplit(tenant.database.pod_dsn).password), ":wr0ng")
    tenant.apply(database_secret(serving.pod_dsn), database_secret(wrong, name="owner"))
    database = {"existingSecret": "pgscheduler-database", "allowInsecure": True}
    by_a_job = {"database": database, "migrations": {"run": "job", "existingSecret": "owner"}}
    with pytest.raises(InsufficientPrivilegeError):
        serving.execute("CREATE TABLE mine ()")

    with pytest.raises(CommandError, match="pre-install") as refused:
        release.install(**by_a_job)
    assert "wr0ng" not in str(refused.value)
    release.uninstall()

    tenant.apply(database_secret(tenant.database.pod_dsn, name="owner"))
    release.install(**by_a_job)
    release.test()

    tables = tenant.database.fetch("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert [row["tableowner"] for row in tables] == [tenant.database.name]
    release.upgrade(**by_a_job, podAnnotations={"step": "two"})
    release.test()
    assert tenant.kubectl("get", "jobs,serviceaccounts", "--output=name").count("migrations") == 0
