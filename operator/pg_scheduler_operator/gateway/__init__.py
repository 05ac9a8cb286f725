"""The outside: where manifests live, and the database.

Invariant: above this package nothing knows whether objects live in Kubernetes or in a folder of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from pg_scheduler_operator.resources import Key, Kind, Meta, Pod, TargetRef, TargetScale
    from pg_scheduler_operator.status import Notice, Reason


class Resources(Protocol):
    """Where manifests live.

    Every method may raise ``KubernetesError``; writes to an object that is gone raise ``ObjectGone``, writes that meet
    another writer ``ObjectChanged``.
    """

    def serves(self, namespace: str) -> bool:
        """Whether objects of this namespace are served here."""

    async def get(self, key: Key) -> Mapping[str, Any] | None:
        """The object's body as it stands now, None when there is none."""

    def pages(self, kind: Kind) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """All bodies of one kind that are served, as they stand now, page by page."""

    async def uids(self) -> Collection[str]:
        """Uids of all objects that are served: complete, or an error."""

    async def set_finalizers(self, meta: Meta, finalizers: Collection[str]) -> None:
        """Replace the finalizers, unless the object has changed since ``meta`` was read."""

    async def remove(self, meta: Meta) -> None:
        """Delete the object that ``meta`` was read of."""

    async def write_status(self, meta: Meta, live: Mapping[str, Any], desired: Mapping[str, Any]) -> None:
        """Make the status ``desired``; ``live`` is what was read."""

    async def tell(self, notice: Notice) -> None:
        """Tell an event, unless it was told before."""

    async def warn(self, reason: Reason, note: str) -> None:
        """Tell an event about the operator itself, unless it was told before; a courtesy that may fail silently."""


class Targets(Protocol):
    """What pools scale, and the pods of it; errors as those of ``Resources``."""

    async def scale_of(self, meta: Meta, target: TargetRef) -> TargetScale | None:
        """Replicas of a target in the namespace of ``meta``, None when there is no such target."""

    async def scale(self, meta: Meta, target: TargetRef, *, wanted: int, replicas: int) -> None:
        """Give the target this many replicas, unless it wants another number than ``wanted`` by now."""

    async def pods(self, meta: Meta, selector: str) -> Sequence[Pod]:
        """The pods of a target, those that are ending too."""

    async def set_deletion_cost(self, meta: Meta, pod: str, cost: int | None) -> None:
        """Write the annotation of a pod, or (None) remove it; nothing when the pod is gone."""

    async def pools(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        """The bodies of all pools of a namespace."""

    async def autoscalers(self, namespace: str) -> Mapping[str, str]:
        """The HorizontalPodAutoscalers of a namespace, by the name of the Deployment that they scale."""
