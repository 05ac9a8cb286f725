"""Who may do what: the operator, the hooks, people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler_operator.plugin.leader import SELECTOR
from pg_scheduler_operator.resources import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chart.conftest import Render

Rights = dict[tuple[str, str], set[str]]
OPERATOR: Rights = {
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
READS, WRITES = {"get", "list", "watch"}, {"create", "update", "patch", "delete", "deletecollection"}
JOBS = {("pgscheduler.io", "periodicjobs"), ("pgscheduler.io", "scheduledjobs")}
POOLS = ("pgscheduler.io", "workerpools")


def rights(role: dict[str, Any]) -> Rights:
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def one(bodies: Sequence[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [body for body in bodies if (body["kind"], body["metadata"]["name"]) == (kind, name)]
    return found


def test_the_operator_may_do_what_it_does_and_no_more(render: Render) -> None:
    role = one(render(), "ClusterRole", "ns-shop-pgscheduler-operator")

    assert rights(role) == OPERATOR
    assert all(rule.keys() == {"apiGroups", "resources", "verbs"} for rule in role["rules"])


def test_the_operator_may_renew_its_one_lease_and_tell_the_clusters_identity_and_its_kinds(render: Render) -> None:
    bodies = render()
    role = one(bodies, "Role", "shop-pgscheduler-operator")
    lease = one(bodies, "Lease", "shop-pgscheduler-operator")
    namespaces, kinds = one(bodies, "ClusterRole", "ns-shop-pgscheduler-operator-identity")["rules"]

    assert rights(role) == {
        ("coordination.k8s.io", "leases"): {"get", "update"},
        ("events.k8s.io", "events"): {"create"},
    }
    assert role["rules"][0]["resourceNames"] == [lease["metadata"]["name"]]
    assert "spec" not in lease
    # kubectl pgscheduler finds it by these
    assert dict(label.split("=") for label in SELECTOR.split(",")).items() <= lease["metadata"]["labels"].items()
    assert (namespaces["resourceNames"], namespaces["verbs"]) == (["kube-system"], ["get"])
    assert kinds["resources"] == ["customresourcedefinitions"]
    assert (kinds["resourceNames"], kinds["verbs"]) == ([kind.crd_name for kind in Kind], ["get"])


def test_with_namespaces_the_operator_has_its_rights_there_alone(render: Render) -> None:
    bodies = render("watchNamespaces={a,b}")
    bindings = [body for body in bodies if "roleRef" in body and "annotations" not in body["metadata"]]
    wide = {body["roleRef"]["name"] for body in bindings if body["kind"] == "ClusterRoleBinding"}
    narrow = {
        body["metadata"]["namespace"] for body in bindings if body["roleRef"]["name"] == "ns-shop-pgscheduler-operator"
    }

    assert wide == {"ns-shop-pgscheduler-operator-identity"}
    assert narrow == {"a", "b"}


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        (
            "crds",
            {("apiextensions.k8s.io", "customresourcedefinitions"): {"get", "patch"}},
        ),
        (
            "release",
            {
                **{key: {"list", "patch"} for key in JOBS},
                ("coordination.k8s.io", "leases"): {"get", "update"},
            },
        ),
        ("test", {("pgscheduler.io", "scheduledjobs"): {"get", "delete"}}),
    ],
)
def test_a_hook_may_do_its_one_thing(render: Render, hook: str, expected: Rights) -> None:
    bodies = render("crds.upgrade=true")
    account = {"kind": "ServiceAccount", "name": f"shop-pgscheduler-{hook}", "namespace": "ns"}
    references = [body["roleRef"] for body in bodies if account in body.get("subjects", ())]
    roles = [one(bodies, reference["kind"], reference["name"]) for reference in references]

    assert {key: verbs for role in roles for key, verbs in rights(role).items()} == expected
    for role in roles:
        for rule in role["rules"]:
            named = {"customresourcedefinitions": 3, "leases": 1}.get(rule["resources"][0])
            assert named is None or len(rule["resourceNames"]) == named


def test_people_get_what_their_role_in_the_namespace_says(render: Render) -> None:
    by_role = {
        label.removeprefix("rbac.authorization.k8s.io/aggregate-to-"): rights(body)
        for body in render(kind="ClusterRole")
        for label in body["metadata"]["labels"]
        if "/aggregate-to-" in label
    }

    assert by_role == {
        "view": dict.fromkeys([*JOBS, POOLS], READS),
        "edit": dict.fromkeys(JOBS, WRITES),
        "admin": {POOLS: WRITES, ("pgscheduler.io", "workerpools/scale"): {"get", "update", "patch"}},
    }


def test_no_role_is_wide_or_reads_secrets(render: Render) -> None:
    bodies = render("crds.upgrade=true")
    roles = [body for body in bodies if body["kind"] in {"Role", "ClusterRole"}]
    rules = [rule for role in roles for rule in role["rules"]]

    assert not {"*", "bind", "escalate", "impersonate"} & {verb for rule in rules for verb in rule["verbs"]}
    assert not {"*", "secrets", "configmaps", "pods/exec", "serviceaccounts/token"} & {
        resource for rule in rules for resource in rule["resources"]
    }
    assert not {"*"} & {group for rule in rules for group in rule["apiGroups"]}


def test_rights_go_to_accounts_of_the_release_only(render: Render) -> None:
    bodies = render("crds.upgrade=true")
    accounts = {body["metadata"]["name"] for body in bodies if body["kind"] == "ServiceAccount"}
    subjects = [subject for body in bodies for subject in body.get("subjects", ())]

    assert {(subject["kind"], subject["namespace"]) for subject in subjects} == {("ServiceAccount", "ns")}
    assert {subject["name"] for subject in subjects} == accounts - {"shop-pgscheduler-worker"}


def test_no_rights_are_made_where_somebody_else_makes_them(render: Render) -> None:
    roles = [body["metadata"] for body in render("rbac.create=false") if body["kind"] in {"Role", "ClusterRole"}]

    assert all("helm.sh/hook" in role["annotations"] for role in roles)
