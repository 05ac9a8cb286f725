"""What the older package pg-scheduler 0.2.3 has left after its tables were adopted: workers, and names of tasks.

Invariant: it is told and never served; nothing here writes.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pg_scheduler._store.queries import QUERIES

if TYPE_CHECKING:
    from pg_scheduler._store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderSession:
    """A connection whose last statement was one of the older package's."""

    pid: int
    address: str


class OlderPackageStore:
    """The statements of ``sql/older_package.sql``."""

    def __init__(self, database: "Database") -> None:
        self._db = database

    async def sessions(self) -> list[OlderSession]:
        """Connections of the older package to this database, as far as this role may see what they do.

        What they say fails since the adoption: such a worker runs nothing, and its log is full of errors.
        """
        return [OlderSession(**dict(row)) for row in await self._db.fetch(QUERIES["older_sessions"])]

    async def jobs_waiting(self, tenant: str, names: Collection[str]) -> dict[str, int]:
        """How many pending jobs name one of these as their task."""
        rows = await self._db.fetch(QUERIES["jobs_waiting_by_name"], tenant, list(names))
        return {row["task"]: row["jobs"] for row in rows}
