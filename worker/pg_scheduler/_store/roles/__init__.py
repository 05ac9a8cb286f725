"""Roles of the database for those who use it, and whose rows each sees.

Invariant: what ``make`` leaves depends on the release alone, not on what was there: it takes every right back first.
psql runs the scripts beside this module, too.
"""

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pg_scheduler._store.database import Database


async def make(database: "Database", *, row_level_security: bool | None) -> None:
    """Make the roles and give them their rights, in one transaction.

    ``row_level_security`` switches on or off that a tenant's login sees no other tenant's rows; None leaves it.
    """
    async with database.transaction() as connection:
        await connection.execute(_script("roles"))
        if row_level_security is not None:
            await connection.execute(_script("row_level_security" if row_level_security else "no_row_level_security"))


def _script(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
