"""Tasks that leave a trace of their own: `pgscheduler worker e2e/support/ledger_tasks.py`.

Invariant: what ran, how often and where is told by rows that the scheduler knows nothing of. The file also runs in
pods, where it is the only one of this folder: it imports nothing from here.
"""

from __future__ import annotations

import asyncio
import os
import platform
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from pg_scheduler import task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Connection = asyncpg.Connection[asyncpg.Record]

_TENANT = os.environ.get("PGSCHEDULER_TENANT", "")
_DSN = os.environ.get("PGSCHEDULER_DSN") or Path(os.environ["PGSCHEDULER_DSN_FILE"]).read_text()
_LOOK_SECONDS = 0.1
_IS_RELEASED = "SELECT 1 FROM ledger_releases WHERE (tenant, label) = ($1, $2)"


@task(name="e2e.record")
async def record(label: str) -> None:
    """Leave a trace."""
    async with _run_of(label):
        pass


@task(name="e2e.nap")
async def nap(label: str, seconds: float) -> str:
    """Take a while; the label."""
    async with _run_of(label):
        await asyncio.sleep(seconds)
    return label


@task(name="e2e.drift")
async def drift(label: str, seconds: float) -> None:
    """Leave a trace, then end without a word: the database may be out of reach by then."""
    async with _run_of(label):
        pass
    await asyncio.sleep(seconds)


@task(name="e2e.hold")
async def hold(label: str) -> str:
    """Run until the test lets go; the label."""
    async with _run_of(label) as connection:
        while not await connection.fetchval(_IS_RELEASED, _TENANT, label):  # noqa: ASYNC110 - the signal is a row
            await asyncio.sleep(_LOOK_SECONDS)
    return label


@task(name="e2e.fail")
async def fail(label: str) -> None:
    """Raise."""
    async with _run_of(label):
        raise LookupError(f"secret text of {label}")


@asynccontextmanager
async def _run_of(label: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(_DSN)
    try:
        run = await connection.fetchval(
            "INSERT INTO ledger_runs (tenant, label, host) VALUES ($1, $2, $3) RETURNING id",
            _TENANT,
            label,
            platform.node(),
        )
        yield connection
        await connection.execute("UPDATE ledger_runs SET has_ended = true WHERE id = $1", run)
    finally:
        connection.terminate()
