"""The ledger of all schedules of a tenant, summed up.

Invariant: the server works on it for ``LIMIT_SECONDS`` at most, whatever limit the session has.
"""

from pg_scheduler._store.database import Database
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.listing import ScheduleLedger

LIMIT_SECONDS = 5


class LedgerStore:
    """The statements of ``sql/ledger.sql``."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def totals(self, tenant: str) -> ScheduleLedger:
        """What became of every tick of the tenant's schedules that there are now.

        Raises:
            DatabaseUnreachable: no answer, or not within the limit.
        """
        async with self._db.transaction() as connection:
            await connection.fetch(QUERIES["limit_ledger"], f"{LIMIT_SECONDS}s")
            (row,) = await connection.fetch(QUERIES["ledger_totals"], tenant)
        return ScheduleLedger(**row)
