"""What the chart lets the operator do: this much and no more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cluster.processes import CommandError
from support.objects import scheduled_job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster.cluster import Cluster
    from support.programs import StartProgram
    from support.tenants import Tenant

_GOLDEN = {
    "get list patch watch periodicjobs.pgscheduler.io",
    "delete get list patch watch scheduledjobs.pgscheduler.io",
    "get list watch workerpools.pgscheduler.io",
    "patch periodicjobs/status.pgscheduler.io",
    "patch scheduledjobs/status.pgscheduler.io",
    "patch workerpools/status.pgscheduler.io",
    "get patch deployments/scale.apps",
    "list patch pods",
    "list horizontalpodautoscalers.autoscaling",
    "create events.events.k8s.io",
    "get namespaces",  # of kube-system alone
    "get customresourcedefinitions.apiextensions.k8s.io",  # our three alone
}
# Every authenticated account may ask what it may do.
_EVERYBODYS = ("authorization.k8s.io", "authentication.k8s.io")
_FORBIDDEN = (
    "get secrets",
    "list secrets",
    "get configmaps",
    "watch pods",
    "update pods",
    "delete pods",
    "create pods",
    "create pods/exec",
    "get nodes",
    "patch deployments.apps",
    "delete deployments.apps",
    "create jobs.batch",
    "create scheduledjobs.pgscheduler.io",
    "update scheduledjobs.pgscheduler.io",
    "delete periodicjobs.pgscheduler.io",
    "patch workerpools.pgscheduler.io",
    "patch customresourcedefinitions.apiextensions.k8s.io",
    "create rolebindings.rbac.authorization.k8s.io",
    "create serviceaccounts/token",
    "impersonate users",
)


@pytest.fixture(scope="module")
def as_operator(cluster: Cluster, operator_rights: str) -> tuple[str, str]:
    kubeconfig: Path = cluster.service_account_kubeconfig(operator_rights, "pgscheduler-operator")
    return ("--kubeconfig", str(kubeconfig))


def test_operator_may_do_this_and_no_more(cluster: Cluster, as_operator: tuple[str, str]) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "default"},
    }
    answer = json.loads(
        cluster.kubectl(
            *as_operator, "create", "--validate=false", "--filename", "-", "--output", "json", stdin=json.dumps(review)
        )
    )

    assert not answer["status"]["incomplete"]
    assert {right for rule in answer["status"]["resourceRules"] for right in _rights(rule)} == _GOLDEN


@pytest.mark.parametrize("what", _FORBIDDEN)
def test_operator_may_not(cluster: Cluster, as_operator: tuple[str, str], what: str) -> None:
    verb, resource = what.split()
    with pytest.raises(CommandError, match=r"ended with 1: $"):
        cluster.kubectl(*as_operator, "auth", "can-i", verb, resource, "--all-namespaces", "--quiet")


def test_operator_is_refused_a_secret(cluster: Cluster, as_operator: tuple[str, str]) -> None:
    with pytest.raises(CommandError, match=r"Forbidden.*cannot get resource"):
        cluster.kubectl(*as_operator, "--namespace", "default", "get", "secret", "anything")


def test_namespaced_operator_serves_and_sees_no_other_namespace(
    tenant: Tenant, new_tenant: Callable[[], Tenant], start_operator: StartProgram
) -> None:
    other = new_tenant()
    start_operator()
    other.apply(scheduled_job("theirs"))
    tenant.apply(scheduled_job("mine"))
    tenant.wait_for("sjob/mine", "condition=Ready")

    assert "status" not in other.get("sjob/theirs")
    assert other.rows("theirs") == []
    account = f"system:serviceaccount:{tenant.name}:pgscheduler-operator"
    with pytest.raises(CommandError, match="cannot list resource"):
        other.kubectl("get", "sjob", "--as", account)


def _rights(rule: dict[str, list[str]]) -> set[str]:
    return {
        f"{' '.join(sorted(rule['verbs']))} {resource}.{group}".rstrip(".")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if group not in _EVERYBODYS
    }
