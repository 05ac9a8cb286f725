"""What pools ask of the API server, against one that answers as told and records what it was asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from pg_scheduler_operator.gateway.scales import KubeTargets
from pg_scheduler_operator.resources import Kind, Pod, PodStage, TargetScale, WorkerPoolSpec, read
from support.operator_world import body, worker_pool

if TYPE_CHECKING:
    from support.api_server import Served

POOL = read(WorkerPoolSpec, body(Kind.WORKER_POOL, worker_pool()), cluster="default")
assert isinstance(POOL.spec, WorkerPoolSpec)
META, TARGET = POOL.meta, POOL.spec.target_ref
SCALE_PATH = "/apis/apps/v1/namespaces/billing/deployments/workers/scale"


async def test_scale_is_read_with_its_selector(server: Served) -> None:
    told, api = server
    told.answer(200, {"spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "app=w"}})
    told.answer(200, {"spec": {}})
    told.answer(404)
    targets = KubeTargets(api)

    assert [await targets.scale_of(META, TARGET) for _ in range(3)] == [
        TargetScale(wanted=3, existing=2, selector="app=w"),
        TargetScale(wanted=0, existing=0),
        None,
    ]


@pytest.mark.parametrize(
    ("wanted", "content"),
    [
        (0, {"spec": {"replicas": 5}}),
        (
            3,
            [
                {"op": "test", "path": "/spec/replicas", "value": 3},
                {"op": "replace", "path": "/spec/replicas", "value": 5},
            ],
        ),
    ],
)
async def test_scale_is_written_over_what_was_read_and_nothing_else_of_the_target(
    server: Served, wanted: int, content: Any
) -> None:
    told, api = server

    await KubeTargets(api).scale(META, TARGET, wanted=wanted, replicas=5)

    ((method, path, _, sent),) = told.requests
    assert (method, path, sent) == ("PATCH", f"{SCALE_PATH}?fieldManager=pgscheduler-operator", content)


def pod(name: str, *, owner: str = "ReplicaSet", phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    owners = [{"kind": owner, "controller": True}]
    made = {"name": name, "uid": f"uid-{name}", "creationTimestamp": "2026-11-24T12:00:00Z", "ownerReferences": owners}
    status = {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]}
    return {
        "metadata": made | metadata,
        "spec": {"terminationGracePeriodSeconds": 330, "nodeName": "n1"},
        "status": status,
    }


async def test_pods_are_those_of_replica_sets_that_have_not_ended(server: Served) -> None:
    told, api = server
    cost = "controller.kubernetes.io/pod-deletion-cost"
    page = [
        pod("a", annotations={cost: "-5"}, labels={"pod-template-hash": "x"}),
        pod("job", owner="Job"),
        pod("evicted", phase="Failed"),
        {**pod("orphan"), "metadata": {**pod("orphan")["metadata"], "ownerReferences": None}},
    ]
    rest = [
        pod("going", deletionTimestamp="2026-11-24T12:01:00Z", annotations={cost: "soon"}),
        {**pod("new"), "spec": {"terminationGracePeriodSeconds": 330}, "status": {"phase": "Pending"}},
        pod("pulling", phase="Pending"),
        {**pod("failing"), "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}},
    ]
    told.answer(200, {"items": page, "metadata": {"continue": "more"}})
    told.answer(200, {"items": rest, "metadata": {}})

    pods = await KubeTargets(api).pods(META, "app in (w),tier=x")

    at = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert pods == [
        Pod(name="a", uid="uid-a", created_at=at, template="x", deletion_cost=-5, grace_seconds=330),
        Pod(name="going", uid="uid-going", created_at=at, is_terminating=True, grace_seconds=330),
        Pod(name="new", uid="uid-new", created_at=at, stage=PodStage.UNSCHEDULED, grace_seconds=330),
        Pod(name="pulling", uid="uid-pulling", created_at=at, stage=PodStage.PENDING, grace_seconds=330),
        Pod(name="failing", uid="uid-failing", created_at=at, stage=PodStage.UNREADY, grace_seconds=330),
    ]
    first, second = (unquote(path) for _, path, _, _ in told.requests)
    assert first == "/api/v1/namespaces/billing/pods?labelSelector=app in (w),tier=x&limit=500".replace(" ", "+")
    assert second.endswith("&continue=more")


@pytest.mark.parametrize(("cost", "written"), [(-7, "-7"), (None, None)])
async def test_of_a_pod_one_annotation_is_written(server: Served, cost: int | None, written: str | None) -> None:
    told, api = server

    await KubeTargets(api).set_deletion_cost(META, "a", cost)

    ((method, path, kind, content),) = told.requests
    assert (method, path.partition("?")[0]) == ("PATCH", "/api/v1/namespaces/billing/pods/a")
    assert kind == "application/merge-patch+json"
    assert content == {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": written}}}


async def test_cost_of_a_pod_that_is_gone_is_nothing_to_write(server: Served) -> None:
    told, api = server
    told.answer(404)

    await KubeTargets(api).set_deletion_cost(META, "a", None)


async def test_autoscalers_are_those_of_deployments(server: Served) -> None:
    told, api = server
    names = [("hpa", "Deployment", "workers"), ("ours", "WorkerPool", "pool")]
    items = [
        {"metadata": {"name": name}, "spec": {"scaleTargetRef": {"kind": kind, "name": target}}}
        for name, kind, target in names
    ]
    told.answer(200, {"items": items})

    assert await KubeTargets(api).autoscalers("billing") == {"workers": "hpa"}


async def test_pools_of_a_namespace_have_their_kind(server: Served) -> None:
    """A list names it once, for all its items."""
    told, api = server
    told.answer(200, {"items": [{"metadata": {"name": "w"}}]})

    assert await KubeTargets(api).pools("billing") == [{"kind": "WorkerPool", "metadata": {"name": "w"}}]
