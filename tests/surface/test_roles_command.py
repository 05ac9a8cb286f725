"""``pgscheduler migrate --roles``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest
from click.testing import CliRunner

from pg_scheduler.cli.group import pgscheduler as group
from support.databases import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable

HOW_IT_IS = """
    SELECT pg_get_userbyid(relowner) AS owner, relrowsecurity AND relforcerowsecurity AS has_policies
    FROM pg_class WHERE relname = 'scheduled_jobs'"""


async def state_of(dsn: str) -> tuple[str, bool]:
    connection = await asyncpg.connect(dsn)
    row = await connection.fetchrow(HOW_IT_IS)
    await connection.close()
    assert row is not None
    return row["owner"], row["has_policies"]


def test_a_new_database_has_its_roles_and_policies_come_when_asked_for(
    new_database: Callable[..., str],
) -> None:
    dsn = new_database(template=EMPTY)
    states = []
    for options in ((), ("--row-level-security",), (), ("--no-row-level-security",)):
        ended = CliRunner().invoke(group, ["migrate", "--roles", *options], env={"PGSCHEDULER_DSN": dsn})
        assert ended.exit_code == 0, ended.output
        assert "the roles are up to date" in ended.stderr
        states.append(asyncio.run(state_of(dsn)))

    assert states == [("scheduler_owner", has_policies) for has_policies in (False, True, True, False)]


@pytest.mark.parametrize("options", ["--check --roles", "--row-level-security", "--no-row-level-security"])
def test_options_that_do_not_go_together_are_refused_before_anything_is_done(options: str) -> None:
    ended = CliRunner().invoke(
        group, ["migrate", *options.split()], env={"PGSCHEDULER_DSN": "postgresql://a@127.0.0.1:1/b"}
    )

    assert ended.exit_code == 2
    assert "--roles" in ended.stderr
