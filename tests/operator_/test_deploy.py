from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy"

RIGHTS = {
    ("pgscheduler.io", "periodicjobs"): {"get", "list", "watch", "patch"},
    ("pgscheduler.io", "scheduledjobs"): {"get", "list", "watch", "patch"},
    ("pgscheduler.io", "workerpools"): {"get", "list", "watch"},
    ("pgscheduler.io", "periodicjobs/status"): {"patch"},
    ("pgscheduler.io", "scheduledjobs/status"): {"patch"},
    ("pgscheduler.io", "workerpools/status"): {"patch"},
    ("apps", "deployments/scale"): {"get", "patch"},
    ("", "pods"): {"list", "patch"},
    ("autoscaling", "horizontalpodautoscalers"): {"list"},
    ("events.k8s.io", "events"): {"create"},
}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def test_operator_may_do_what_it_does_and_no_more() -> None:
    (role,) = [document for document in documents("rbac.yaml") if document["kind"] == "ClusterRole"]

    rights = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }

    assert rights == RIGHTS
    assert all(rule.keys() == {"apiGroups", "resources", "verbs"} for rule in role["rules"])


def test_rights_go_to_the_operators_account_only() -> None:
    (binding,) = [document for document in documents("rbac.yaml") if document["kind"] == "ClusterRoleBinding"]
    (account,) = [document for document in documents("rbac.yaml") if document["kind"] == "ServiceAccount"]
    (deployment,) = documents("operator.yaml")

    assert binding["subjects"] == [{"kind": "ServiceAccount", **account["metadata"]}]
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert deployment["metadata"]["namespace"] == account["metadata"]["namespace"]


def test_operators_pod_is_restricted() -> None:
    (deployment,) = documents("operator.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_database_comes_from_a_secret() -> None:
    (deployment,) = documents("operator.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable for variable in container["env"]}

    assert "secretKeyRef" in variables["PGSCHEDULER_DSN"]["valueFrom"]
    assert set(variables) == {"PGSCHEDULER_DSN", "PGSCHEDULER_CLUSTER_NAME", "PGSCHEDULER_WATCH_NAMESPACES"}
