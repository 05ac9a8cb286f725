"""Deployments as pools see them: through their scale alone, with who else scales them, and their pods.

Invariant: a number of replicas is written only over the one that was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pg_scheduler_operator.errors import ObjectGone
from pg_scheduler_operator.gateway import pods
from pg_scheduler_operator.resources import API_VERSION, Kind, TargetScale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pg_scheduler_operator.gateway.kube import KubeApi
    from pg_scheduler_operator.resources import Meta, Pod, TargetRef


class KubeTargets:
    """What the pools of a cluster scale."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    async def scale_of(self, meta: Meta, target: TargetRef) -> TargetScale | None:
        """Replicas of a target in the namespace of ``meta``, None when there is no such target."""
        try:
            scale = await self._api.get(_scale_path(meta, target))
        except ObjectGone:
            return None
        status = scale.get("status") or {}
        return TargetScale(
            wanted=scale["spec"].get("replicas", 0),
            existing=status.get("replicas", 0),
            selector=status.get("selector", ""),
        )

    async def scale(self, meta: Meta, target: TargetRef, *, wanted: int, replicas: int) -> None:
        """Give the target this many replicas, unless it wants another number than ``wanted`` by now."""
        await self._api.patch(_scale_path(meta, target), _steps(wanted, replicas))

    async def pods(self, meta: Meta, selector: str) -> Sequence[Pod]:
        """The pods of a target, those that are ending too."""
        return await pods.pods_of(self._api, meta.key.namespace, selector)

    async def set_deletion_cost(self, meta: Meta, pod: str, cost: int | None) -> None:
        """Write the annotation of a pod, or (None) remove it; nothing when the pod is gone."""
        await pods.set_deletion_cost(self._api, meta.key.namespace, pod, cost)

    async def pools(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        """The bodies of all pools of a namespace."""
        answer = await self._api.get(f"/apis/{API_VERSION}/namespaces/{namespace}/{Kind.WORKER_POOL.plural}")
        return [{**item, "kind": Kind.WORKER_POOL.value} for item in answer["items"] or ()]

    async def autoscalers(self, namespace: str) -> Mapping[str, str]:
        """The HorizontalPodAutoscalers of a namespace, by the name of the Deployment that they scale."""
        answer = await self._api.get(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers")
        found = ((item["spec"]["scaleTargetRef"], item["metadata"]["name"]) for item in answer["items"] or ())
        return {reference["name"]: name for reference, name in found if reference["kind"] == "Deployment"}


def _scale_path(meta: Meta, target: TargetRef) -> str:
    return f"/apis/{target.api_version.value}/namespaces/{meta.key.namespace}/deployments/{target.name}/scale"


def _steps(wanted: int, replicas: int) -> Any:
    """A scale leaves out a 0, and a JSON patch can neither test nor replace what is left out."""
    if wanted == 0:
        return {"spec": {"replicas": replicas}}
    return [
        {"op": "test", "path": "/spec/replicas", "value": wanted},
        {"op": "replace", "path": "/spec/replicas", "value": replicas},
    ]
