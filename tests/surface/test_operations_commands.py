"""``pgscheduler maintenance`` and ``sweep``, as people use them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from pg_scheduler.control import Control

if TYPE_CHECKING:
    import asyncpg

    from support.commands import RunCommand


@pytest.fixture
def env(dsn: str) -> dict[str, str]:
    return {"PGSCHEDULER_DSN": dsn}


def test_maintenance_is_on_until_it_is_off(pgscheduler: RunCommand, env: dict[str, str]) -> None:
    assert pgscheduler("maintenance", "status", env=env).exit_code == 0

    on = pgscheduler("maintenance", "on", "--reason", "a restore", "-o", "json", env=env)
    (shown,) = json.loads(on.out)
    assert (on.exit_code, shown["maintenance"], shown["reason"], shown["running"]) == (0, "on", "a restore", 0)
    assert "@" in shown["by"]

    assert pgscheduler("maintenance", "status", env=env).exit_code == 1
    assert pgscheduler("maintenance", "off", env=env).out.splitlines()[1].startswith("off ")
    assert pgscheduler("maintenance", "status", env=env).exit_code == 0


async def test_tokens_jump_when_the_copy_is_said_to_be_one(
    pgscheduler: RunCommand, env: dict[str, str], pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    pgscheduler("maintenance", "on", env=env)
    assert await pool.fetchval("SELECT nextval('scheduler_token')") < 100

    pgscheduler("maintenance", "on", "--restored", env=env)
    assert await pool.fetchval("SELECT nextval('scheduler_token')") > 10**11


@pytest.mark.parametrize("option", [("--restored",), ("--reason", "x")])
def test_options_of_on_are_refused_elsewhere(pgscheduler: RunCommand, option: tuple[str, ...]) -> None:
    ended = pgscheduler("maintenance", "off", *option, env={"PGSCHEDULER_DSN": "postgresql://db/app"})

    assert (ended.exit_code, "go with on" in ended.err) == (2, True)


def test_held_sweep_is_shown_and_confirmed(pgscheduler: RunCommand, env: dict[str, str], dsn: str) -> None:
    assert "no sweep is held" in pgscheduler("sweep", env=env).err
    asyncio.run(_hold(dsn))

    shown = pgscheduler("sweep", "-o", "json", env=env)
    (held,) = json.loads(shown.out)
    assert (shown.exit_code, held["cluster"], held["rows"], held["of"], held["confirmed"]) == (1, "east", 20, 30, False)
    assert pgscheduler("sweep", "--cluster", "west", "--confirm", env=env).exit_code == 0
    assert pgscheduler("sweep", env=env).exit_code == 1

    assert pgscheduler("sweep", "--confirm", env=env).exit_code == 0
    assert pgscheduler("sweep", env=env).exit_code == 0


async def _hold(dsn: str) -> None:
    async with Control(dsn) as control:
        await control.operations.claim_cluster("east", "one")
        await control.operations.hold_sweep("east", rows=20, of=30)
