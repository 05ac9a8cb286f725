"""Operating a database of jobs: maintenance, restores, and the operators of several clusters beside each other.

Invariant: every method may be repeated; ``skip_tokens`` alone does something each time, and harmlessly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pg_scheduler._store.operations import OperationsStore, Owner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["HeldSweep", "Maintenance", "Operations", "Owner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """Whether jobs are claimed and ticks planned at all.

    Attributes:
        since: since when they are not; None while they are.
        set_by: who has said so.
        reason: why, in their words.
        workers: how many live.
        running: jobs that had begun before and have not ended.
    """

    since: datetime | None
    set_by: str | None
    reason: str | None
    workers: int
    running: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSweep:
    """A sweep that would withdraw suspiciously much.

    Attributes:
        cluster: whose operator holds it.
        held_at: since when.
        rows: how many objects' rows it would withdraw.
        of: of how many.
        is_confirmed: people have agreed to as many.
    """

    cluster: str
    held_at: datetime
    rows: int
    of: int
    is_confirmed: bool


class Operations:
    """Made by ``Control``; every method raises ``DatabaseUnreachable`` and ``SchemaMismatch`` as its methods do."""

    def __init__(self, store: OperationsStore) -> None:
        self._store = store

    async def maintenance(self) -> Maintenance:
        """How it stands."""
        return Maintenance(**dict(await self._store.maintenance()))

    async def begin_maintenance(self, *, by: str, reason: str = "") -> bool:
        """From now on nobody claims a job or plans a tick; what runs, finishes. Whether it was off."""
        return await self._store.set_maintenance(on=True, who=by, why=reason)

    async def end_maintenance(self) -> bool:
        """Claims and ticks go on at once; whether it was on."""
        return await self._store.set_maintenance(on=False, who="", why="")

    async def skip_tokens(self) -> None:
        """After a restore: fencing tokens go on far above any that was handed out since the copy was made."""
        await self._store.skip_tokens()

    async def claim_cluster(self, cluster: str, identity: str) -> bool:
        """Say that the cluster ``identity`` serves the rows of this name; False while another one does.

        To be repeated within each minute, after which another may have it.
        """
        return await self._store.claim_cluster(cluster, identity)

    async def other_clusters(self, cluster: str) -> Sequence[str]:
        """Other names under which rows of this database are, or were, served."""
        return await self._store.other_clusters(cluster)

    async def hold_sweep(self, cluster: str, *, rows: int, of: int) -> bool:
        """Tell people that a sweep would withdraw so much; whether they have agreed to as much."""
        return await self._store.hold_sweep(cluster, rows=rows, of=of)

    async def release_sweep(self, cluster: str) -> None:
        """The sweep was done, or would no longer withdraw so much."""
        await self._store.release_sweep(cluster)

    async def held_sweeps(self) -> Sequence[HeldSweep]:
        """What is held now."""
        return [
            HeldSweep(
                cluster=row["cluster"],
                held_at=row["held_at"],
                rows=row["held_rows"],
                of=row["held_of"],
                is_confirmed=row["is_confirmed"],
            )
            for row in await self._store.held_sweeps()
        ]

    async def confirm_sweeps(self, cluster: str | None) -> None:
        """Agree to what is held, of one cluster or, with None, of all: to as many and no more."""
        await self._store.confirm_sweeps(cluster)

    async def take_over(self, cluster: str, owners: Sequence[Owner]) -> int:
        """After a restore: give rows to the objects of the same kind, namespace and name; how many rows.

        Ended ones are given too, so that nothing runs again. Rows of an object that has rows of its own uid stay, but
        for a generation that its object has not reached any more.
        """
        return await self._store.take_over(cluster, owners)
