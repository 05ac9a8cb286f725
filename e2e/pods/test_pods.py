"""The line through in real pods: the image, its rights, scaling, and the death of a pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.deployments import wait_until_operator_serves
from support.objects import AT_ONCE, FAR_AWAY, scheduled_job, task, worker_pool
from support.paths import ROOT

if TYPE_CHECKING:
    from cluster.cluster import Cluster
    from support.deployments import Deployments
    from support.tenants import Tenant

_JOBS = 40


def test_examples_complete_in_pods(tenant: Tenant, deployments: Deployments) -> None:
    deployments.deploy_workers(of_ledger=False)

    tenant.apply_file(ROOT / "examples" / "manifests")

    tenant.wait_for("sjob/hello sjob/count-primes", "condition=Complete", timeout_seconds=10)
    tenant.wait_for("pjob/disk-space", "condition=LastRunSucceeded")
    assert tenant.get("pjob/disk-space")["status"]["counts"]["planned"] >= 1


def test_pool_goes_up_for_a_backlog_and_back_to_zero(tenant: Tenant, deployments: Deployments) -> None:
    deployments.deploy_workers(replicas=0, PGSCHEDULER_SLOTS="5")
    tenant.apply(worker_pool("pool", target="workers", slots_hint=5, maxReplicas=4, scaleDown=AT_ONCE))
    tenant.wait_for("wpool/pool", "condition=ScalingActive")
    names = [f"job-{number}" for number in range(_JOBS)]

    tenant.apply(*(scheduled_job(name, task("nap", label=name, seconds=3)) for name in names))
    tenant.wait("four replicas", lambda: deployments.replicas() == 4)
    tenant.wait_for("sjob --all", "condition=Complete", timeout_seconds=60)
    tenant.wait("no replicas", lambda: deployments.replicas() == 0, timeout_seconds=30)
    tenant.wait("no pods", lambda: not deployments.pods(), timeout_seconds=40)

    runs = tenant.ledger.all_runs()
    assert sorted(run.label for run in runs) == sorted(names)
    assert all(run.has_ended for run in runs)
    assert len({run.host for run in runs}) > 1
    assert {tenant.row(name)["attempt"] for name in names} == {1}


def test_job_of_a_killed_pod_is_finished_by_another(tenant: Tenant, deployments: Deployments) -> None:
    deployments.deploy_workers(replicas=2, PGSCHEDULER_LEASE="5")
    tenant.apply(scheduled_job("busy", task("hold", label="busy")))
    tenant.wait_for("sjob/busy", "condition=Started")
    (first,) = tenant.ledger.runs("busy")
    token = tenant.row("busy")["token"]

    deployments.kill(first.host)

    tenant.wait("another start", lambda: len(tenant.ledger.runs("busy")) == 2, timeout_seconds=30)
    tenant.ledger.release("busy")
    tenant.wait_for("sjob/busy", "condition=Complete")
    killed, second = tenant.ledger.runs("busy")
    assert (killed.has_ended, second.has_ended) == (False, True)
    assert second.host != killed.host
    row = tenant.row("busy")
    assert row["token"] > token
    assert (row["attempt"], row["interruptions"]) == (2, 1)
    assert tenant.get("sjob/busy")["status"]["attempt"] == 2


def test_operator_pod_ends_when_it_is_told(cluster: Cluster, operator_namespace: str, tenant: Tenant) -> None:
    """Sooner than its grace of 10 s: as process 1 it has no default handlers to end it."""
    pods = ("--namespace", operator_namespace, "--selector=app.kubernetes.io/component=operator")
    cluster.kubectl("delete", "pods", *pods, "--timeout=8s")
    wait_until_operator_serves(cluster, operator_namespace)

    tenant.apply(scheduled_job("first", runAt=FAR_AWAY))
    tenant.wait_for("sjob/first", "condition=Ready")
