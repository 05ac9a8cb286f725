"""Worker processes of this machine, as the target of a folder's WorkerPool.

Invariant: there is one set of processes, so one pool scales it: the first by name of the folder's default namespace. A
process is to its pool what a pod is, by a uid that it is told and registers.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pg_scheduler_operator.errors import ObjectChanged
from pg_scheduler_operator.gateway.manifests import DEFAULT_NAMESPACE
from pg_scheduler_operator.resources import Kind, TargetScale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pg_scheduler_operator.gateway.files import FolderResources
    from pg_scheduler_operator.resources import Meta, Pod, TargetRef


class LocalWorkers:
    """The processes that there are, and how many there should be. Who starts and stops them waits for ``changed``."""

    def __init__(self, wanted: int = 1) -> None:
        self.wanted = wanted
        self.changed = asyncio.Event()
        self._pods: dict[str, Pod] = {}

    @property
    def pods(self) -> Sequence[Pod]:
        """The processes, oldest first."""
        return list(self._pods.values())

    def want(self, replicas: int) -> None:
        """Have so many of them."""
        self.wanted = replicas
        self.changed.set()

    def put(self, pod: Pod) -> None:
        """A process was started, or something about it has changed."""
        self._pods[pod.name] = pod

    def drop(self, name: str) -> None:
        """A process has ended."""
        self._pods.pop(name, None)

    def set_cost(self, name: str, cost: int | None) -> None:
        """How soon a process is to be ended; nothing when it has."""
        if name in self._pods:
            self._pods[name] = replace(self._pods[name], deletion_cost=cost)

    def to_end(self) -> Sequence[Pod]:
        """Those that are too many, as a ReplicaSet would choose them: the cheapest, and of those the newest."""
        standing = [pod for pod in self._pods.values() if not pod.is_terminating]
        standing.sort(key=lambda pod: (pod.deletion_cost or 0, -pod.created_at.timestamp()))
        return standing[: max(0, len(standing) - self.wanted)]


class LocalTargets:
    """What the pools of a folder scale."""

    def __init__(self, resources: FolderResources, workers: LocalWorkers | None) -> None:
        self._resources = resources
        self._workers = workers

    async def scale_of(self, meta: Meta, target: TargetRef) -> TargetScale | None:
        """The processes, whatever the target is called, for the first pool."""
        del target
        names = [body["metadata"]["name"] for body in await self.pools(DEFAULT_NAMESPACE)]
        is_first = meta.key.namespace == DEFAULT_NAMESPACE and meta.key.name == min(names, default=None)
        if self._workers is None or not is_first:
            return None
        return TargetScale(wanted=self._workers.wanted, existing=len(self._workers.pods))

    async def scale(self, meta: Meta, target: TargetRef, *, wanted: int, replicas: int) -> None:
        """Have this many processes."""
        workers = self._of(meta)
        if workers.wanted != wanted:
            raise ObjectChanged(f"{target.name} wants {workers.wanted} workers by now")
        workers.want(replicas)

    async def pods(self, meta: Meta, selector: str) -> Sequence[Pod]:
        """The processes."""
        del selector  # there is one set
        return self._of(meta).pods

    async def set_deletion_cost(self, meta: Meta, pod: str, cost: int | None) -> None:
        """How soon a process is to be ended."""
        self._of(meta).set_cost(pod, cost)

    async def pools(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        """The bodies of all pools of a namespace."""
        bodies = (body for body in self._resources.bodies(Kind.WORKER_POOL) if not _is_taken_away(body))
        return [body for body in bodies if body["metadata"]["namespace"] == namespace]

    async def autoscalers(self, namespace: str) -> Mapping[str, str]:
        """A folder has none."""
        del namespace
        return {}

    def _of(self, meta: Meta) -> LocalWorkers:
        if self._workers is None:
            raise AssertionError(f"{meta.key} has no target")
        return self._workers


def _is_taken_away(body: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in body["metadata"]
