"""Pods, as far as pools need them: whose they are, whether they stand, and what the ReplicaSet is told of them.

Invariant: of a pod nothing is written but one annotation, and nothing else of it is kept.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler_operator.errors import ObjectGone
from pg_scheduler_operator.resources import Pod, PodStage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pg_scheduler_operator.gateway.kube import KubeApi

DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_TEMPLATE: Final = "pod-template-hash"
_ENDED: Final = {"Succeeded", "Failed"}
_PAGE: Final = 500


async def pods_of(api: KubeApi, namespace: str, selector: str) -> Sequence[Pod]:
    """The pods that a ReplicaSet has made under this selector and that have not ended."""
    pods: list[Pod] = []
    token: str | None = None
    while True:
        path = f"/api/v1/namespaces/{namespace}/pods"
        rest: dict[str, Any] = {"continue": token}
        page = await api.get(path, labelSelector=selector, limit=_PAGE, **rest)
        pods += [_pod(item) for item in page["items"] or () if _counts(item)]
        token = page["metadata"].get("continue") or None
        if token is None:
            return pods


async def set_deletion_cost(api: KubeApi, namespace: str, pod: str, cost: int | None) -> None:
    """Write the annotation, or remove it; nothing when the pod is gone."""
    annotations = {DELETION_COST: None if cost is None else str(cost)}
    try:
        await api.patch(f"/api/v1/namespaces/{namespace}/pods/{pod}", {"metadata": {"annotations": annotations}})
    except ObjectGone:
        return


def _counts(item: Mapping[str, Any]) -> bool:
    owners = item["metadata"].get("ownerReferences") or ()
    is_of_replica_set = any(owner.get("controller") and owner["kind"] == "ReplicaSet" for owner in owners)
    return is_of_replica_set and item["status"].get("phase") not in _ENDED


def _pod(item: Mapping[str, Any]) -> Pod:
    metadata = item["metadata"]
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        stage=_stage(item),
        is_terminating="deletionTimestamp" in metadata,
        template=(metadata.get("labels") or {}).get(_TEMPLATE, ""),
        deletion_cost=_cost((metadata.get("annotations") or {}).get(DELETION_COST)),
        grace_seconds=item["spec"].get("terminationGracePeriodSeconds", 30),
    )


def _stage(item: Mapping[str, Any]) -> PodStage:
    if not item["spec"].get("nodeName"):
        return PodStage.UNSCHEDULED
    if item["status"].get("phase") == "Pending":
        return PodStage.PENDING
    conditions = {each["type"]: each["status"] for each in item["status"].get("conditions") or ()}
    return PodStage.READY if conditions.get("Ready") == "True" else PodStage.UNREADY


def _cost(text: str | None) -> int | None:
    """What the ReplicaSet would read; it takes no number for none."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
