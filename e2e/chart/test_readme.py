"""The README's own lines, from an empty cluster to a job that has run; then what a person does next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from cluster.image import PROJECT_IMAGE
from support.paths import ROOT
from support.releases import NEWEST_HELM, Release, program

if TYPE_CHECKING:
    from cluster.cluster import Cluster
    from cluster.postgres import Database
    from support.releases import Shell

_PLACEHOLDER = "postgresql://user:password@host:5432/database"
_OWN_IMAGE = "--set worker.image.repository=registry.example.com/billing --set worker.image.tag=v1"
_OWN_TASKS = "billing.tasks"
_DATABASE = "--set database.existingSecret=billing-database"  # of these tests, which speaks no TLS


def blocks() -> list[str]:
    """What the section tells its reader to run."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## In Kubernetes\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("volume", "leaves_nothing")
def test_the_first_lines_give_a_running_system_that_outlives_its_pods(cluster: Cluster, shell: Shell) -> None:
    shown = shell(blocks()[0])

    assert re.search(r"scheduledjob\S*/hello .*True", shown)
    assert "disk-space" in shown
    release = Release(cluster, "shop", program(NEWEST_HELM), name="shop")
    release.change("podAnnotations.step=two")
    release.test()  # the password is still that of the data
    cluster.kubectl("-n", "shop", "delete", "pod", "--selector=app.kubernetes.io/component=database")
    cluster.kubectl("-n", "shop", "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
    release.test()

    release.uninstall()
    release.install(database={"dev": {"enabled": True}})
    release.test()
    cluster.kubectl("-n", "shop", "get", "sjob/hello")


@pytest.mark.usefixtures("leaves_nothing")
def test_the_next_lines_install_it_on_a_database_that_is_there(
    cluster: Cluster, shell: Shell, database: Database
) -> None:
    lines = blocks()[1].replace(_PLACEHOLDER, database.pod_dsn)
    assert _OWN_IMAGE in lines
    assert _OWN_TASKS in lines
    assert _DATABASE in lines
    repository, _, tag = PROJECT_IMAGE.rpartition(":")
    own_image = f"--set worker.image.repository={repository} --set worker.image.tag={tag}"

    shell(
        lines.replace(_OWN_IMAGE, own_image)
        .replace(_OWN_TASKS, "pg_scheduler_operator.examples.tasks")
        .replace(_DATABASE, f"{_DATABASE} --set database.allowInsecure=true")
    )
    shell("kubectl -n billing rollout status deployment/billing-pgscheduler-default --timeout=90s")

    Release(cluster, "billing", program(NEWEST_HELM), name="billing").test()
