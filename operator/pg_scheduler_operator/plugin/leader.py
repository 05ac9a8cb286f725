"""Who runs the operator: its Lease.

Invariant: pure; without a Lease to read nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pg_scheduler_operator.plugin.facts import Body

SELECTOR: Final = "app.kubernetes.io/name=pgscheduler,app.kubernetes.io/component=operator"
_DURATION_SECONDS: Final = 15
_CLOCKS_APART: Final = timedelta(seconds=60)
"""By how much this machine's clock may be off before a living operator seems dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """The holder of one Lease.

    Attributes:
        holder: empty when nobody holds it.
        renewed_at: None when nobody ever did.
        is_alive: whether it was renewed in time.
    """

    namespace: str
    holder: str
    renewed_at: datetime | None
    is_alive: bool

    @property
    def text(self) -> str:
        """In one line."""
        if self.is_alive:
            return f"{self.holder} leads, in namespace {self.namespace}"
        if self.renewed_at is None:
            return f"unknown: nobody has held the Lease in namespace {self.namespace}; is leader election off?"
        since = f"{self.renewed_at:%Y-%m-%dT%H:%M:%SZ}"
        return f"nobody has led in namespace {self.namespace} since {since}: schedules tick on, their status is old"


def leaders(leases: Iterable[Body], now: datetime) -> list[Leader]:
    """The operators of the cluster: one for each database."""
    return [_leader(lease, now) for lease in leases]


def _leader(lease: Body, now: datetime) -> Leader:
    spec = lease.get("spec") or {}
    renewed = spec.get("renewTime")
    renewed_at = None if renewed is None else datetime.fromisoformat(renewed)
    lasts = timedelta(seconds=spec.get("leaseDurationSeconds", _DURATION_SECONDS))
    holder = spec.get("holderIdentity") or ""
    return Leader(
        namespace=lease["metadata"]["namespace"],
        holder=holder,
        renewed_at=renewed_at,
        is_alive=bool(holder) and renewed_at is not None and now - renewed_at < lasts + _CLOCKS_APART,
    )
