"""Statements for operating: maintenance, which cluster's rows are served, held sweeps, and what follows a restore."""

from collections.abc import Sequence
from dataclasses import dataclass

from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Record
from pg_scheduler._store.queries import QUERIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """An object as it is there now."""

    kind: str
    tenant: str
    name: str
    uid: str
    generation: int


class OperationsStore:
    """The statements of ``sql/operations.sql``."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def answer(self) -> None:
        """Return when the server has answered."""
        await self._db.fetchval(QUERIES["answer"])

    async def maintenance(self) -> Record:
        """since, set_by, reason (NULL when it is off), workers, running."""
        row = await self._db.fetchrow(QUERIES["maintenance"])
        if row is None:
            raise AssertionError("an outer join with one row has one row")
        return row

    async def set_maintenance(self, *, on: bool, who: str, why: str) -> bool:
        """Whether that was a change."""
        changed: bool = await self._db.fetchval(QUERIES["set_maintenance"], on, who, why)
        return changed

    async def skip_tokens(self) -> None:
        """No token comes again that was handed out after what was restored."""
        await self._db.fetchval(QUERIES["skip_tokens"])

    async def claim_cluster(self, cluster: str, identity: str) -> bool:
        """Whether the name is ours."""
        return await self._db.fetchval(QUERIES["claim_cluster"], cluster, identity) is not None

    async def other_clusters(self, cluster: str) -> Sequence[str]:
        """Names of clusters that have rows here, but for one."""
        return [row["cluster"] for row in await self._db.fetch(QUERIES["other_clusters"], cluster)]

    async def hold_sweep(self, cluster: str, *, rows: int, of: int) -> bool:
        """Whether people have agreed to as many; False too where the cluster is unknown."""
        return bool(await self._db.fetchval(QUERIES["hold_sweep"], cluster, rows, of))

    async def release_sweep(self, cluster: str) -> None:
        """Nothing is held any more."""
        await self._db.fetch(QUERIES["release_sweep"], cluster)

    async def held_sweeps(self) -> Sequence[Record]:
        """cluster, held_at, held_rows, held_of, is_confirmed."""
        return await self._db.fetch(QUERIES["held_sweeps"])

    async def confirm_sweeps(self, cluster: str | None) -> None:
        """Agree to what is held, of one cluster or of all."""
        await self._db.fetch(QUERIES["confirm_sweeps"], cluster)

    async def take_over(self, cluster: str, owners: Sequence[Owner]) -> int:
        """Give rows to the objects of their names; how many."""
        columns = (
            [owner.kind for owner in owners],
            [owner.tenant for owner in owners],
            [owner.name for owner in owners],
            [owner.uid for owner in owners],
            [owner.generation for owner in owners],
        )
        async with self._db.transaction() as connection:
            schedules = await connection.fetch(QUERIES["take_over_schedules"], cluster, *columns)
            jobs = await connection.fetch(QUERIES["take_over_jobs"], cluster, *columns)
        return len(schedules) + len(jobs)
