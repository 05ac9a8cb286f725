"""Store tests speak to the statements through the stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.world import World

if TYPE_CHECKING:
    import asyncpg


@pytest.fixture
def world(pool: asyncpg.Pool[asyncpg.Record]) -> World:
    """The stores over this test's database."""
    return World.over(pool)
