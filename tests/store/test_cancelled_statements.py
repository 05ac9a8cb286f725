"""Who is cancelled while the database says nothing ends, and as one who was cancelled: a loop would go on otherwise."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pg_scheduler._store import database
from pg_scheduler.control import Control
from pg_scheduler.errors import DatabaseUnreachable
from support.proxy import Proxy
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Ask = Callable[[Control, Proxy], Awaitable[object]]

pytestmark = pytest.mark.newest_postgres


async def in_a_statement(control: Control, proxy: Proxy) -> None:
    proxy.black_hole()
    await control.check()


async def in_a_transaction(control: Control, proxy: Proxy) -> None:
    async with control._parts.database.transaction() as connection:
        proxy.black_hole()
        await connection.fetchval("SELECT 1")


@pytest.mark.parametrize("ask", [in_a_statement, in_a_transaction])
async def test_cancelled_caller_ends_as_cancelled(dsn: str, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CLOSE_SECONDS", 0.05)
    async with Proxy.to(dsn) as proxy, Control(proxy.dsn) as control:
        await control.check()
        asking = asyncio.ensure_future(ask(control, proxy))
        await asyncio.wait({asking}, timeout=0.05)

        asking.cancel()
        await asyncio.wait({asking}, timeout=PATIENCE)

        assert asking.cancelled()


async def test_pool_is_closed_although_a_statement_is_not_answered(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CLOSE_SECONDS", 0.05)
    async with Proxy.to(dsn) as proxy:
        control = await Control(proxy.dsn).__aenter__()
        await control.check()
        proxy.black_hole()
        asking = asyncio.ensure_future(control.check())
        await asyncio.wait({asking}, timeout=0.05)

        async with asyncio.timeout(PATIENCE):
            await control.__aexit__(None, None, None)

        with pytest.raises(DatabaseUnreachable):
            await asking
