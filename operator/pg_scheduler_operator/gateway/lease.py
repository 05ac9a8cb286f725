"""The Lease by which one of several operators serves.

Invariant: a write names the version that was read, so that of two writers one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pg_scheduler_operator.gateway.kube import KubeApi

_MICRO_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """What a Lease says.

    Attributes:
        holder: who has it; empty while nobody has.
        transitions: how often it went from one to another.
        version: of the object that this was read from.
        metadata: of that object, given back as it was.
    """

    holder: str
    acquired_at: datetime | None
    renewed_at: datetime | None
    transitions: int
    version: str
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)


class KubeLease:
    """One Lease of the API server; it must exist, for whoever may make one may make any."""

    def __init__(self, api: KubeApi, *, namespace: str, name: str, seconds: float) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
        self._seconds = int(seconds)

    async def read(self) -> LeaseRecord:
        """As it stands."""
        return _record(await self._api.get(self._path))

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        """Replace the version that ``record`` was made of, else ``ObjectChanged``; as it then stands."""
        spec = {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": self._seconds,
            "leaseTransitions": record.transitions,
            "acquireTime": _text(record.acquired_at),
            "renewTime": _text(record.renewed_at),
        }
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**record.metadata, "resourceVersion": record.version},
            "spec": {name: value for name, value in spec.items() if value is not None},
        }
        return _record(await self._api.put(self._path, body))


def _record(body: Mapping[str, Any]) -> LeaseRecord:
    spec, metadata = body.get("spec") or {}, body["metadata"]
    return LeaseRecord(
        holder=spec.get("holderIdentity") or "",
        acquired_at=_instant(spec.get("acquireTime")),
        renewed_at=_instant(spec.get("renewTime")),
        transitions=spec.get("leaseTransitions") or 0,
        version=metadata["resourceVersion"],
        metadata=metadata,
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.strftime(_MICRO_TIME)
