from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy"

RIGHTS = {
    ("pgscheduler.io", "periodicjobs"): {"get", "list", "watch", "patch"},
    ("pgscheduler.io", "scheduledjobs"): {"get", "list", "watch", "patch", "delete"},
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


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = [d for d in documents("rbac.yaml") if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return found


def rights(role: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_operator_may_do_what_it_does_and_no_more() -> None:
    role = one("ClusterRole", "pgscheduler-operator")

    assert rights(role) == RIGHTS
    assert all(rule.keys() == {"apiGroups", "resources", "verbs"} for rule in role["rules"])


def test_operator_may_renew_its_one_lease_and_tell_the_clusters_identity() -> None:
    (leases, _) = one("Role", "pgscheduler-operator")["rules"]
    (namespaces,) = one("ClusterRole", "pgscheduler-operator-identity")["rules"]

    assert rights(one("Role", "pgscheduler-operator")) == {
        ("coordination.k8s.io", "leases"): {"get", "update"},
        ("events.k8s.io", "events"): {"create"},
    }
    assert leases["resourceNames"] == [one("Lease", "pgscheduler-operator")["metadata"]["name"]]
    assert "spec" not in one("Lease", "pgscheduler-operator")
    assert (namespaces["resourceNames"], namespaces["verbs"]) == (["kube-system"], ["get"])


def test_people_get_what_their_role_in_the_namespace_says() -> None:
    jobs = {("pgscheduler.io", "periodicjobs"), ("pgscheduler.io", "scheduledjobs")}
    pools = ("pgscheduler.io", "workerpools")
    reads, writes = {"get", "list", "watch"}, {"create", "update", "patch", "delete", "deletecollection"}

    by_role = {
        label.removeprefix("rbac.authorization.k8s.io/aggregate-to-"): rights(document)
        for document in documents("rbac.yaml")
        for label in document["metadata"].get("labels", {})
        if "/aggregate-to-" in label
    }

    assert by_role == {
        "view": dict.fromkeys([*jobs, pools], reads),
        "edit": dict.fromkeys(jobs, writes),
        "admin": {pools: writes, ("pgscheduler.io", "workerpools/scale"): {"get", "update", "patch"}},
    }


def test_rights_go_to_the_operators_account_only() -> None:
    bindings = [document for document in documents("rbac.yaml") if document["kind"].endswith("Binding")]
    (account,) = [document for document in documents("rbac.yaml") if document["kind"] == "ServiceAccount"]
    (deployment,) = documents("operator.yaml")

    assert [binding["subjects"] for binding in bindings] == 3 * [[{"kind": "ServiceAccount", **account["metadata"]}]]
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
